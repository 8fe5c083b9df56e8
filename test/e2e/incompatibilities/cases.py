"""Runs the cases of the incompatibilities with the official Python client and prints what it saw, by model, as JSON.

usage: cases.py BASE_URL API_KEY MODEL…

A model is called after its case, `36.1/mistral`; each case has a function here that sees what its TypeScript twin sees.
"""

import json
import sys

import openai

base_url, api_key, *models = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0)
messages = [{"role": "user", "content": "Hello"}]
cases = {}


def case(*numbers):
    def remember(function):
        for number in numbers:
            cases[number] = function
        return function

    return remember


def tool(name):
    return {
        "type": "function",
        "function": {"name": name, "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }


weather = {"tools": [tool("weather")]}


def see_answer(answer):
    choice = answer.choices[0]
    return {
        "content": choice.message.content,
        "finish": choice.finish_reason,
        "calls": [
            {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
            for call in choice.message.tool_calls or []
        ],
        "tokens": answer.usage and answer.usage.total_tokens,
    }


def final_of(model, **more):
    with client.chat.completions.stream(model=model, **{"messages": messages, **more}) as stream:
        return stream.get_final_completion()


def see_stream(model, **more):
    body = {"messages": messages, **more}
    chunks = list(client.chat.completions.create(model=model, stream=True, **body))
    choices = [choice for chunk in chunks for choice in chunk.choices or []]
    calls = [call for choice in choices for call in choice.delta.tool_calls or []]
    return {
        "ids": len({chunk.id for chunk in chunks}),
        "roles": sum(choice.delta.role is not None for choice in choices),
        "without_choices": sum(not chunk.choices for chunk in chunks),
        "usages": sum(chunk.usage is not None for chunk in chunks),
        "indexes": list(dict.fromkeys(call.index for call in calls)),
        "names": sum(call.function is not None and call.function.name is not None for call in calls),
        "final": see_answer(final_of(model, **more)),
    }


def see_whole(model, **more):
    return see_answer(client.chat.completions.create(model=model, **{"messages": messages, **more}))


def see_text(model, **more):
    return [see_whole(model, **more)["content"], see_stream(model, **more)["final"]["content"]]


def see_error(call):
    try:
        call()
    except openai.APIError as error:
        return {
            "class": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "code": error.code,
            "type": error.type,
            "param": error.param,
        }
    return {"class": None}


@case("1", "2", "3")
def calls(model):
    return see_stream(model, **weather)


@case("4.1", "4.2", "4.3")
def argumentless(model):
    return [see_stream(model, **weather)["final"]["calls"], see_whole(model, **weather)["calls"]]


@case("5")
def finish_of_calls(model):
    return [see_stream(model, **weather)["final"]["finish"], see_whole(model, **weather)["finish"]]


@case("35")
def no_tools(model):
    now = {"type": "function", "function": {"name": "now"}}
    return [see_stream(model, tools=tools)["final"]["content"] for tools in ([], [now])]


@case("36.1")
def one_call(model):
    one = {**weather, "parallel_tool_calls": False}
    return [see_stream(model, **one)["final"]["calls"], see_whole(model, **one)["calls"]]


@case("36.2")
def chosen_tool(model):
    tools = [tool("weather"), tool("time")]
    see_whole(model, tools=tools, tool_choice="none")
    choice = {"type": "function", "function": {"name": "time"}}
    return see_stream(model, tools=tools, tool_choice=choice)["final"]["content"]


def called(id):
    return {"id": id, "type": "function", "function": {"name": "weather", "arguments": '{"city":"Paris"}'}}


@case("42")
def short_ids(model):
    id = "call_abcdefghijklmnop"
    history = [
        *messages,
        {"role": "assistant", "content": None, "tool_calls": [called(id)]},
        {"role": "tool", "tool_call_id": id, "content": "21"},
    ]
    return see_whole(model, messages=history, **weather)


@case("6.1", "27")
def final_text(model):
    return see_stream(model)["final"]


@case("6.2", "21")
def broken_stream(model):
    return see_error(lambda: see_stream(model))


@case("7", "9", "10", "11")
def plain_stream(model):
    return see_stream(model)


@case("8")
def counted_stream(model):
    return see_stream(model, stream_options={"include_usage": True})


@case("32.1")
def bytes_apart(model):
    return see_stream(model)["final"]["content"]


@case("32.2")
def surrogates_apart(model):
    stream = client.chat.completions.create(model=model, messages=messages, stream=True)
    deltas = [choice.delta.content or "" for chunk in stream for choice in chunk.choices]

    def broken(text):
        return any(0xD800 <= ord(character) <= 0xDFFF for character in text)

    return {"text": "".join(deltas), "broken": sum(map(broken, deltas))}


@case("38")
def several_choices(model):
    return [
        [choice.index, choice.message.role, choice.message.content, choice.finish_reason]
        for choice in final_of(model, n=3).choices
    ]


@case("48")
def early_refusal(model):
    return see_error(lambda: client.chat.completions.create(model=model, messages=messages, stream=True))


@case("14")
def developer(model):
    return see_whole(model, messages=[{"role": "developer", "content": "Be brief."}, *messages])["content"]


def history_of(content):
    return [
        *messages,
        {
            "role": "assistant",
            "content": content,
            "tool_calls": [
                {"id": "aaaaaaaaa", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "aaaaaaaaa", "content": "21"},
    ]


@case("15.1")
def calls_without_content(model):
    return see_whole(model, messages=history_of(None))["content"]


@case("15.2")
def nothing_said(model):
    return see_error(lambda: see_whole(model, messages=[{"role": "user", "content": None}]))


def part(text):
    return [{"type": "text", "text": text}]


@case("16")
def parts(model):
    history = [
        {"role": "system", "content": part("Be brief.")},
        {"role": "user", "content": part("Hello")},
        *history_of(part("Let me see."))[1:],
    ]
    history[-1]["content"] = part("21")
    return see_whole(model, messages=history)["content"]


@case("17")
def answer_in_parts(model):
    return see_text(model)


@case("18.1")
def most_tokens(model):
    return see_whole(model, max_completion_tokens=9)["content"]


@case("18.2")
def two_bounds(model):
    return see_error(lambda: see_whole(model, max_tokens=7, max_completion_tokens=9))


city = {
    "type": "json_schema",
    "json_schema": {
        "name": "place",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@case("19.1")
def schema(model):
    return json.loads(see_whole(model, response_format=city)["content"])


@case("19.2")
def no_schema(model):
    return see_error(lambda: see_whole(model, response_format=city))


@case("33")
def logprobs(model):
    asked = {"logprobs": True, "top_logprobs": 1}
    answers = [
        client.chat.completions.create(model=model, messages=messages, **asked),
        final_of(model, **asked),
    ]
    return [
        [
            [one.token, one.logprob, one.bytes, one.top_logprobs[0].logprob]
            for one in answer.choices[0].logprobs.content
        ]
        for answer in answers
    ]


@case("34")
def nulls(model):
    names = """frequency_penalty logit_bias logprobs max_completion_tokens max_tokens metadata modalities n
    parallel_tool_calls prediction presence_penalty reasoning_effort response_format seed service_tier stop store
    stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options functions
    function_call prompt_cache_key"""
    body = {"model": model, "messages": messages, **dict.fromkeys(names.split())}
    whole = client.post("/chat/completions", body=body, cast_to=openai.types.chat.ChatCompletion)
    # The helper refuses to send some of these; the body is what matters.
    stream = client.chat.completions.create(
        model=model, messages=messages, stream=True, extra_body=dict.fromkeys(names.split())
    )
    text = "".join(choice.delta.content or "" for chunk in stream for choice in chunk.choices)
    return [whole.choices[0].message.content, text]


@case("37")
def strict_upstream(model):
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=messages, store=True, metadata={"a": "b"}, user="u"
    )
    dropped = raw.headers.get("x-switchyard-dropped", "").split(", ")
    return [raw.parse().choices[0].message.content, sorted(dropped)]


@case("41")
def thoughts(model):
    def both(said):
        return [getattr(said, name, None) for name in ("reasoning", "reasoning_content")]

    whole = client.chat.completions.create(model=model, messages=messages).choices[0].message
    stream = client.chat.completions.create(model=model, messages=messages, stream=True)
    deltas = [choice.delta for chunk in stream for choice in chunk.choices]
    return [both(whole), both(next(delta for delta in deltas if hasattr(delta, "reasoning")))]


@case("44")
def top_p(model):
    return see_whole(model, top_p=0)["content"]


@case("12.1", "12.2", "12.3")
def vectors(model):
    plain = client.embeddings.create(model=model, input="Hello")
    floats = client.embeddings.create(model=model, input="Hello", encoding_format="float")
    return [[round(value * 1e7) / 1e7 for value in answer.data[0].embedding] for answer in (plain, floats)]


@case("13")
def token_ids(model):
    inputs = ([1, 2, 3], [[1, 2], [3]])
    return [len(client.embeddings.create(model=model, input=tokens).data) for tokens in inputs]


@case("20.400", "20.401", "20.403", "20.404", "20.422", "20.429", "20.500", "20.503")
def upstream_error(model):
    return see_error(lambda: see_whole(model))


@case("20.5")
def own_refusals(model):
    other = client.with_options(api_key="sk-wrong-key-of-nobody")
    return [
        see_error(lambda: other.models.list()),
        see_error(lambda: see_whole("no-such-model")),
        see_error(lambda: see_whole(model, temperature=9)),
        see_error(lambda: see_whole(model, messages=[])),
        see_error(lambda: client.get("/no/such/address", cast_to=object)),
        see_error(lambda: client.put("/chat/completions", body={}, cast_to=object)),
        see_error(lambda: see_whole(model, messages=[{"role": "user", "content": "x" * 300_000}])),
    ]


@case("23")
def told_to_wait(model):
    patient = client.with_options(max_retries=1)
    return patient.chat.completions.create(model=model, messages=messages).choices[0].message.content


@case("28")
def model_names(model):
    found = client.models.retrieve(model)
    return [
        found.id,
        found.object,
        isinstance(found.created, int),
        {str: "string"}.get(type(found.owned_by)),
        see_error(lambda: client.models.retrieve("org/no:such@1")),
    ]


@case("49")
def evals(model):
    nothing = {"type": "jsonl", "source": {"type": "file_content", "content": []}}
    return [
        see_error(lambda: client.evals.list()),
        see_error(lambda: client.evals.retrieve("eval_1")),
        see_error(lambda: client.evals.runs.cancel("run_1", eval_id="eval_1")),
        see_error(lambda: client.evals.runs.create("eval_1", data_source=nothing)),
    ]


flat_tool = {
    "type": "function",
    "name": "weather",
    "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
asked = {"input": "Hello", "tools": [flat_tool]}


@case("24")
def events(model):
    with client.responses.stream(model=model, **asked) as stream:
        final = stream.get_final_response()
    types, numbers = [], []
    for event in client.responses.create(model=model, stream=True, **asked):
        if types[-1:] != [event.type]:
            types.append(event.type)
        numbers.append(event.sequence_number)
    return {
        "types": types,
        "numbered": numbers == list(range(len(numbers))),
        "text": final.output_text,
        "items": [item.type for item in final.output],
        "status": final.status,
    }


@case("25.1")
def long_id_of_upstream(model):
    first = client.responses.create(model=model, **asked)
    call_id = first.output[0].call_id
    second = client.responses.create(
        model=model,
        tools=[flat_tool],
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": call_id, "output": "21"}],
    )
    return [len(call_id) <= 64, second.output_text]


@case("25.2")
def long_id_of_client(model):
    call_id = "call_" + "x" * 100
    call = {"type": "function_call", "call_id": call_id, "name": "weather", "arguments": '{"city":"Paris"}'}
    result = {"type": "function_call_output", "call_id": call_id, "output": "21"}
    items = [{"role": "user", "content": "Hello"}, call, result]
    return client.responses.create(model=model, tools=[flat_tool], input=items).output_text


@case("26.1")
def continued(model):
    first = client.responses.create(model=model, input="My name is Ada.")
    second = client.responses.create(model=model, input="What is my name?", previous_response_id=first.id)
    return [second.output_text, second.previous_response_id == first.id]


@case("26.2")
def not_there(model):
    return see_error(
        lambda: client.responses.create(model=model, input="Hello", previous_response_id="resp_not_there")
    )


@case("47")
def removed(model):
    response = client.responses.create(model=model, input="Hello")
    client.responses.delete(response.id)
    return see_error(lambda: client.responses.retrieve(response.id))


def see(model):
    function = cases.get(model.split("/")[0])
    try:
        return function(model) if function else None
    except Exception as error:  # what a case throws unexpectedly is what it saw
        return {"threw": f"{type(error).__name__}: {error}"}


print(json.dumps({model: see(model) for model in models}))
