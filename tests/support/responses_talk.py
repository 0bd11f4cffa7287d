"""Asking `/v1/responses` as plain HTTP, with every answer held to the official client's own types."""

import json
from typing import Any

import httpx
from openai import BaseModel
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

PATH = "/v1/responses"

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather for a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}

_EVENTS: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
_UNKNOWN_TO_THE_CLIENT = {
    "Response": {"presence_penalty", "frequency_penalty", "store"},
    "ResponseFunctionCallArgumentsDoneEvent": {"name"},
    "Logprob": {"bytes"},
    "LogprobTopLogprob": {"bytes"},
}
"""Fields that the open specification of responses or other clients want, and this client's types lack."""


def strict_response(raw: bytes | str) -> Response:
    """A response that has every field in its type, and none that the types do not know."""
    response = Response.model_validate_json(raw, strict=True)
    _no_extras(response)
    return response


def strict_event(raw: str) -> ResponseStreamEvent:
    """The same of one event."""
    event = _EVENTS.validate_json(raw, strict=True)
    assert event.type == json.loads(raw)["type"]
    _no_extras(event)
    return event


def _no_extras(model: Any) -> None:
    if isinstance(model, list):
        for one in model:
            _no_extras(one)
    elif isinstance(model, BaseModel):
        name = type(model).__name__
        extras = set(model.model_extra or ()) - _UNKNOWN_TO_THE_CLIENT.get(name, set())
        assert not extras, (name, extras)
        for _, value in model:
            _no_extras(value)


def ask(url: str, **body: Any) -> Response:
    """A whole response, checked."""
    answer = httpx.post(url + PATH, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return strict_response(answer.content)


def listen(url: str, **body: Any) -> list[Any]:
    """All events of a stream, checked: each against its type, their numbers, and the stream's form."""
    answer = httpx.post(url + PATH, json={**body, "stream": True}, timeout=60)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    *frames, done, rest = answer.text.split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    return events_of(frames)


def events_of(frames: list[str]) -> list[Any]:
    """The events in whole frames."""
    events = []
    for number, frame in enumerate(frames):
        name, data = frame.split("\n")
        event = strict_event(data.removeprefix("data: "))
        assert name == f"event: {event.type}"
        assert event.sequence_number == number
        events.append(event)
    return events


def types(events: list[Any]) -> list[str]:
    """The events' types without `response.`; several deltas in a row are one."""
    names: list[str] = []
    for event in events:
        name = event.type.removeprefix("response.")
        if not (name.endswith(".delta") and names and names[-1] == name):
            names.append(name)
    return names


def refusal(url: str, **body: Any) -> tuple[int, dict[str, Any]]:
    """Status and error of a request that is refused."""
    answer = httpx.post(url + PATH, json=body, timeout=60)
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error


def comparable(response: Response) -> dict[str, Any]:
    """What two answers to one request have in common: all but ids and moments."""
    told = response.model_dump()
    for name in ("id", "created_at", "completed_at"):
        told.pop(name)
    for item in told["output"]:
        item.pop("id")
        item.pop("call_id", None)
    return told
