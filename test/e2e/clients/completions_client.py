"""Asks an adapter-server for text completions with the official Python client; prints what it saw as one JSON object.

usage: completions_client.py BASE_URL API_KEY MODEL
"""

import json
import sys

import openai

base_url, api_key, model = sys.argv[1:4]
client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
prompts = ["My card was", "The app"]


def scored(prompt):
    """How likely each token of a prompt is; nothing is said."""
    choice = client.completions.create(model=model, prompt=prompt, max_tokens=0, echo=True, logprobs=2).choices[0]
    return {"text": choice.text, **choice.logprobs.model_dump()}


def streamed():
    texts = {}
    for chunk in client.completions.create(model=model, prompt=prompts, max_tokens=8, temperature=0, stream=True):
        for choice in chunk.choices:
            texts[choice.index] = texts.get(choice.index, "") + choice.text
    return [texts[index] for index in sorted(texts)]


whole = client.completions.create(model=model, prompt=prompts, max_tokens=8, temperature=0)
print(
    json.dumps(
        {
            "whole": [choice.text for choice in whole.choices],
            "streamed": streamed(),
            "scored": scored(prompts[0]),
            "extra": client.completions.create(
                model=model, prompt=prompts[0], max_tokens=2, extra_body={"prompt_logprobs": 1, "min_tokens": 2}
            ).choices[0].model_dump()["prompt_logprobs"],
        }
    )
)
