import os

from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

url, api_key = os.environ["SWITCHYARD_URL"], os.environ["SWITCHYARD_API_KEY"]


def chat(model, **more):
    """`use_responses_api=True` speaks the Responses API."""
    return ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=api_key, **more)


def embeddings(model, **more):
    return OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key=api_key, **more)


def claude(model, **more):
    return ChatAnthropic(model=model, base_url=url, api_key=api_key, max_tokens=1000, **more)
