"""The script with OpenAI's own Python client. Prints what came of each step as one line of JSON."""

import json
import sys
from pathlib import Path
from typing import Any

import openai

told: dict[str, Any] = json.loads(sys.argv[1])
script: dict[str, Any] = json.loads(Path(told["script"]).read_text())


def client_of(type: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=told[type]["url"], api_key=told["key"], max_retries=0)


def user(text: str) -> Any:
    return {"role": "user", "content": text}


chats, model = client_of("chat"), told["chat"]["model"]
ask = {"model": model, "max_tokens": 60, "temperature": 0}
tool: Any = {"type": "function", "function": script["tool"]["tool"]}


def models() -> Any:
    return {"served": model in [one.id for one in chats.models.list()]}


def chat() -> Any:
    answer = chats.chat.completions.create(**ask, messages=[user(script["chat"]["asked"])])
    [choice] = answer.choices
    assert answer.usage is not None
    tokens = [answer.usage.prompt_tokens, answer.usage.completion_tokens]
    return {"text": choice.message.content, "finish": choice.finish_reason, "tokens": tokens}


def stream() -> Any:
    pieces: list[str] = []
    finish = tokens = None
    for chunk in chats.chat.completions.create(
        **ask,
        messages=[user(script["stream"]["asked"])],
        stream=True,
        stream_options={"include_usage": True},
    ):
        for choice in chunk.choices:
            pieces += [choice.delta.content] if choice.delta.content else []
            finish = choice.finish_reason or finish
        if chunk.usage:
            tokens = [chunk.usage.prompt_tokens, chunk.usage.completion_tokens]
    return {"text": "".join(pieces), "pieces": len(pieces) > 3, "finish": finish, "tokens": tokens}


def tool_round_trip() -> Any:
    talk = [user(script["tool"]["asked"])]
    [choice] = chats.chat.completions.create(**ask, messages=talk, tools=[tool]).choices
    assert choice.message.tool_calls
    [call] = choice.message.tool_calls
    assert call.type == "function"
    talk += [
        choice.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": script["tool"]["tool_says"]},
    ]
    then = chats.chat.completions.create(**ask, messages=talk, tools=[tool])
    return {
        "name": call.function.name,
        "arguments": json.loads(call.function.arguments),
        "finish": choice.finish_reason,
        "then": then.choices[0].message.content,
    }


def tool_stream() -> Any:
    talk = [user(script["tool"]["asked"])]
    with chats.chat.completions.stream(**ask, messages=talk, tools=[tool]) as events:
        events.until_done()
        [choice] = events.get_final_completion().choices
    assert choice.message.tool_calls
    [call] = choice.message.tool_calls
    arguments = json.loads(call.function.arguments)
    return {"name": call.function.name, "arguments": arguments, "finish": choice.finish_reason}


def json_schema() -> Any:
    schema = script["json_schema"]["schema"]
    form: Any = {"type": "json_schema", "json_schema": {"name": "capital", "schema": schema, "strict": True}}
    answer = chats.chat.completions.create(
        **ask, messages=[user(script["json_schema"]["asked"])], response_format=form
    )
    value = json.loads(answer.choices[0].message.content or "")
    known = schema["properties"]["city"]["enum"]
    return {"keys": sorted(value), "city_is_one_of_them": value["city"] in known, "sure": value["sure"]}


def embeddings() -> Any:
    answer = client_of("embedding").embeddings.create(
        model=told["embedding"]["model"], input=script["embeddings"]["texts"]
    )
    first, *others = [one.embedding for one in answer.data]
    near = [sum(a * b for a, b in zip(first, other, strict=True)) for other in others]
    return {"dimensions": len(first), "nearest": 1 + near.index(max(near))}


def transcription() -> Any:
    with open(told["recording"], "rb") as file:
        heard = client_of("transcription").audio.transcriptions.create(
            model=told["transcription"]["model"], file=file
        )
    return {"text": heard.text}


def unknown_model() -> Any:
    try:
        chats.chat.completions.create(model="no/such-model", messages=[user("hi")])
    except openai.NotFoundError as error:
        return {"status": error.status_code, "code": error.code, "type": error.type, "param": error.param}
    return None


steps = {
    "models": models,
    "chat": chat,
    "stream": stream,
    "tool": tool_round_trip,
    "tool_stream": tool_stream,
    "json_schema": json_schema,
    "embeddings": embeddings,
    "transcription": transcription,
    "unknown_model": unknown_model,
}
sys.stdout.write(json.dumps({name: step() for name, step in steps.items()}) + "\n")
