"""Drives a running Switchyard with Anthropic's Python client and prints what it saw as one JSON object.

usage: anthropic_client.py URL API_KEY MODEL

The model `breaking-model` ends its streams in the middle; `agent-model` calls the tool `Read` once.
"""

import asyncio
import json
import sys

import anthropic

url, api_key, model = sys.argv[1:4]
client = anthropic.Anthropic(base_url=url, api_key=api_key, max_retries=0)
messages = [{"role": "user", "content": "Triage this message: I was charged twice, please help today."}]
ask = {"model": model, "max_tokens": 60, "messages": messages}
tools = [
    {
        "name": "Read",
        "description": "Reads a file",
        "input_schema": {"type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
    }
]


def failure(call):
    try:
        call()
    except anthropic.APIStatusError as error:
        return {"class": type(error).__name__, "status": error.status_code, "type": error.body["error"]["type"]}
    except anthropic.APIError as error:
        return {"class": type(error).__name__, "status": None}
    return None


def streamed():
    with client.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    return {"text": text, "stop": final.stop_reason, "input": final.usage.input_tokens, "output": final.usage.output_tokens}


def broken_stream():
    with client.messages.stream(**{**ask, "model": "breaking-model"}) as stream:
        stream.get_final_message()


def agent():
    """A loop until there is an answer: what was called, and what was said at the end."""
    history, calls = [{"role": "user", "content": "What is in the file?"}], []
    while True:
        with client.messages.stream(model="agent-model", max_tokens=200, messages=history, tools=tools) as stream:
            answer = stream.get_final_message()
        history.append({"role": "assistant", "content": answer.content})
        uses = [block for block in answer.content if block.type == "tool_use"]
        if not uses:
            return {"calls": calls, "text": answer.content[0].text, "stop": answer.stop_reason}
        calls += [{"name": use.name, "input": use.input} for use in uses]
        results = [{"type": "tool_result", "tool_use_id": use.id, "content": "a parrot"} for use in uses]
        history.append({"role": "user", "content": results})


async def concurrent():
    async with anthropic.AsyncAnthropic(base_url=url, api_key=api_key, max_retries=0) as many:
        answers = await asyncio.gather(*(many.messages.create(**ask) for _ in range(4)))
    return [answer.content[0].text for answer in answers]


whole = client.messages.create(**ask)
print(
    json.dumps(
        {
            "version": anthropic.__version__,
            "models": [entry.id for entry in client.models.list(limit=1)],
            "retrieved": client.models.retrieve(model).id,
            "counted": client.messages.count_tokens(model=model, messages=messages).input_tokens,
            "whole": {
                "text": whole.content[0].text,
                "stop": whole.stop_reason,
                "input": whole.usage.input_tokens,
                "output": whole.usage.output_tokens,
                "request_id": whole._request_id,
            },
            "streamed": streamed(),
            "concurrent": asyncio.run(concurrent()),
            "agent": agent(),
            "unknown_model": failure(lambda: client.messages.create(**{**ask, "model": "no-such-model"})),
            "bad_key": failure(lambda: client.with_options(api_key="sk-wrong").messages.create(**ask)),
            "broken_stream": failure(broken_stream),
        }
    )
)
