"""LangChain's Python chat models over OpenAI's two APIs and Anthropic's."""

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from pydantic import BaseModel

from checks import base, check, models, plain_answer, thrown_by
from connect import chat, claude, embeddings

kinds = {
    "chat": lambda model: chat(model, max_retries=0, stream_usage=True),
    "responses": lambda model: chat(model, max_retries=0, use_responses_api=True),
    "anthropic": lambda model: claude(model, max_retries=0),
}


class Person(BaseModel):
    name: str
    age: int


@tool
def get_weather(city: str) -> str:
    """Tells the weather of a city."""
    return f"{city} has 21 degrees"


def text_of(message):
    return message.text if isinstance(message.text, str) else message.text()


def whole(chunks):
    result = None
    for chunk in chunks:
        result = chunk if result is None else result + chunk
    return result


def text(model):
    answer = model.invoke("Hello")
    assert text_of(answer) == plain_answer
    assert answer.usage_metadata["total_tokens"] > 0


def stream(model):
    answer = whole(model.stream("Hello"))
    assert text_of(answer) == plain_answer
    assert answer.usage_metadata["output_tokens"] > 0


async def asynchronous(model):
    answer = None
    async for chunk in model.astream("Hello"):
        answer = chunk if answer is None else answer + chunk
    assert text_of(answer) == plain_answer


def loop(model, streamed):
    bound = model.bind_tools([get_weather])
    messages = [HumanMessage("What is the weather in Paris and in Rome?")]
    ask = (lambda: whole(bound.stream(messages))) if streamed else (lambda: bound.invoke(messages))
    first = ask()
    assert sorted(call["args"]["city"] for call in first.tool_calls) == ["Paris", "Rome"], first
    messages.append(first)
    for call in first.tool_calls:
        messages.append(ToolMessage(get_weather.invoke(call["args"]), tool_call_id=call["id"]))
    assert "Paris has 21 degrees and Rome has 21 degrees" in text_of(ask())


def structured(model):
    assert model.with_structured_output(Person).invoke("Who?") == Person(name="Ada", age=36)


def left(model):
    text = ""
    for chunk in model.stream("Tell me a very long story."):
        text += text_of(chunk)
        if len(text) > 40:
            break
    assert len(text) < 8000


for kind, open_model in kinds.items():
    for id in models:
        model = open_model(id)
        check(f"{kind} with {id}: a text and its usage", lambda: text(model))
        check(f"{kind} with {id}: a stream", lambda: stream(model))
        check(f"{kind} with {id}: an asynchronous stream", lambda: asynchronous(open_model(id)))
        check(f"{kind} with {id}: a loop of tools", lambda: loop(model, False))
        check(f"{kind} with {id}: a streamed loop of tools", lambda: loop(model, True))
        check(f"{kind} with {id}: an object of a schema", lambda: structured(model))
        check(f"{kind} with {id}: a stream that is left in the middle", lambda: left(model))

    def status(name, expected):
        error = thrown_by(lambda: open_model(name).invoke("Hello"))
        assert error.status_code == expected, repr(error)

    check(f"{kind}: a model that is not there", lambda: status("no-such-model", 404))
    check(f"{kind}: a limit", lambda: status("limited", 429))


def vectors():
    # Without this it sends OpenAI's token ids, which are another model's.
    first, second = embeddings(base, check_embedding_ctx_length=False).embed_documents(["one", "two"])
    assert len(first) > 8 and first != second


check("embeddings of the embedded engine", vectors)
