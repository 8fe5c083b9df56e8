"""Drives a running Switchyard with the official Python client and prints what it saw as one JSON object.

usage: openai_client.py BASE_URL API_KEY MODEL LIMITED_KEY

LIMITED_KEY has no request left in this minute. The model `breaking-model` ends its streams in the middle.
"""

import asyncio
import json
import sys

import openai

base_url, api_key, model, limited_key = sys.argv[1:5]
client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
messages = [{"role": "user", "content": "Triage this message: I was charged twice, please help today."}]


def failure(call):
    try:
        call()
    except openai.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "code": error.code, "param": error.param}
    return None


def streamed():
    """The text put together from the deltas, the last finish reason, and the usage of the last chunk."""
    text, finish, usage, role = "", None, None, None
    for chunk in client.chat.completions.create(
        model=model, messages=messages, stream=True, stream_options={"include_usage": True}
    ):
        if chunk.choices:
            text += chunk.choices[0].delta.content or ""
            role = role or chunk.choices[0].delta.role
            finish = chunk.choices[0].finish_reason or finish
        usage = chunk.usage or usage
    return {"text": text, "finish": finish, "role": role, "tokens": usage and usage.total_tokens}


def broken_stream():
    """What a stream throws that the provider breaks off."""
    try:
        for _ in client.chat.completions.create(model="breaking-model", messages=messages, stream=True):
            pass
    except openai.APIError as error:
        return {"class": type(error).__name__, "code": error.code}
    return None


async def concurrent():
    """Several answers at one time through the asynchronous client."""
    async with openai.AsyncOpenAI(base_url=base_url, api_key=api_key, max_retries=0) as many:
        answers = await asyncio.gather(
            *(many.chat.completions.create(model=model, messages=messages) for _ in range(4))
        )
    return [answer.choices[0].message.content for answer in answers]


whole = client.chat.completions.create(model=model, messages=messages)
print(
    json.dumps(
        {
            "version": openai.__version__,
            "models": [entry.id for entry in client.models.list().data],
            "retrieved": client.models.retrieve(model).id,
            "whole": {
                "text": whole.choices[0].message.content,
                "finish": whole.choices[0].finish_reason,
                "tokens": whole.usage.total_tokens,
                "request_id": whole._request_id,
            },
            "streamed": streamed(),
            "concurrent": asyncio.run(concurrent()),
            "unknown_model": failure(lambda: client.chat.completions.create(model="no-such-model", messages=messages)),
            "bad_key": failure(
                lambda: client.with_options(api_key="sk-wrong-key-of-nobody").chat.completions.create(
                    model=model, messages=messages
                )
            ),
            "limited": failure(
                lambda: client.with_options(api_key=limited_key).chat.completions.create(model=model, messages=messages)
            ),
            "too_long": failure(
                lambda: client.chat.completions.create(
                    model=model, messages=[{"role": "user", "content": "word " * 4000}]
                )
            ),
            "broken_stream": broken_stream(),
            "bad_temperature": failure(
                lambda: client.chat.completions.create(model=model, messages=messages, temperature=9)
            ),
        }
    )
)
