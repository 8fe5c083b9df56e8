"""Instructor's Python client: objects of a schema, whole and as they grow."""

from instructor import Mode
from pydantic import BaseModel

from checks import check, models, thrown_by
from connect import client


class Person(BaseModel):
    name: str
    age: int


ada = Person(name="Ada", age=36)
messages = [{"role": "user", "content": "Who?"}]


def whole(mode, model):
    body = {"model": model, "messages": messages, "response_model": Person, "max_retries": 0}
    assert client(mode).create(**body).model_dump() == ada.model_dump()


def growing(mode, model):
    last = None
    for partial in client(mode).create_partial(model=model, messages=messages, response_model=Person, max_retries=0):
        last = partial
    assert (last.name, last.age) == ("Ada", 36)


def missing(mode):
    error = thrown_by(lambda: whole(mode, "no-such-model"))
    assert "no-such-model" in str(error), repr(error)


for mode in (Mode.TOOLS, Mode.TOOLS_STRICT, Mode.JSON_SCHEMA):
    for model in models:
        check(f"{mode.name} with {model}: an object of a schema", lambda: whole(mode, model))
        check(f"{mode.name} with {model}: an object as it grows", lambda: growing(mode, model))
    check(f"{mode.name}: a model that is not there", lambda: missing(mode))
