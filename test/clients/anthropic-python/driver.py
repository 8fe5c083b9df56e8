"""Anthropic's Python SDK before every model: messages, streams, loops of tools, counts, errors."""

import anthropic

from checks import check, models, plain_answer, thrown_by
from connect import client

once = client.with_options(max_retries=0)
hello = [{"role": "user", "content": "Hello"}]
asks = [{"role": "user", "content": "What is the weather in Paris and in Rome?"}]
tools = [
    {
        "name": "get_weather",
        "description": "Tells the weather of a city",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
]


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def streamed(**body):
    with once.messages.stream(**body) as stream:
        text = "".join(stream.text_stream)
        message = stream.get_final_message()
    assert text == text_of(message)
    return message


def message(model):
    answer = once.messages.create(model=model, max_tokens=1000, messages=hello)
    assert text_of(answer) == plain_answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0


def stream(model):
    assert text_of(streamed(model=model, max_tokens=1000, messages=hello)) == plain_answer


def loop(model, ask):
    body = {"model": model, "max_tokens": 1000, "tools": tools}
    first = ask(messages=asks, **body)
    calls = [block for block in first.content if block.type == "tool_use"]
    assert sorted(call.input["city"] for call in calls) == ["Paris", "Rome"], calls
    results = [
        {"type": "tool_result", "tool_use_id": call.id, "content": f"{call.input['city']} has 21 degrees"}
        for call in calls
    ]
    history = [*asks, {"role": "assistant", "content": first.content}, {"role": "user", "content": results}]
    assert "Paris has 21 degrees and Rome has 21 degrees" in text_of(ask(messages=history, **body))


async def asynchronous(model):
    async with anthropic.AsyncAnthropic(base_url=client.base_url, api_key=client.api_key) as many:
        async with many.messages.stream(model=model, max_tokens=1000, messages=hello) as stream:
            assert text_of(await stream.get_final_message()) == plain_answer


def count(model):
    assert once.messages.count_tokens(model=model, messages=hello).input_tokens > 0


for model in models:
    check(f"{model}: a message and its usage", lambda: message(model))
    check(f"{model}: a stream", lambda: stream(model))
    check(f"{model}: a loop of tools", lambda: loop(model, once.messages.create))
    check(f"{model}: a streamed loop of tools", lambda: loop(model, streamed))
    check(f"{model}: an asynchronous stream", lambda: asynchronous(model))
    check(f"{model}: a count of tokens", lambda: count(model))


def throws(kind, client=once, **body):
    error = thrown_by(lambda: client.messages.create(**{"max_tokens": 9, "messages": hello, **body}))
    assert isinstance(error, kind), repr(error)


check("a model that is not there", lambda: throws(anthropic.NotFoundError, model="no-such-model"))
check("an upstream's limit", lambda: throws(anthropic.RateLimitError, model="limited"))
check("an upstream that fails", lambda: throws(anthropic.InternalServerError, model="failing"))
check(
    "a wrong key",
    lambda: throws(
        anthropic.AuthenticationError, client=once.with_options(api_key="sk-wrong-key-of-nobody"), model=models[0]
    ),
)
