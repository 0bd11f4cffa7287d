"""A streamed chat answer, read as strictly as the strictest client reads it."""

import json
from dataclasses import dataclass, field
from typing import Any

import httpx

END = "[DONE]"


class NotUnderstood(AssertionError):
    """What a client would have stumbled over."""


@dataclass
class StreamedAnswer:
    """What the chunks of one stream say together, of its first choice."""

    id: str = ""
    model: str = ""
    text: str = ""
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)
    """The tool calls, with whole arguments."""
    pieces: int = 0
    """Chunks that brought text."""
    _roles: int = 0

    def take(self, chunk: dict[str, Any]) -> None:
        """One chunk. Raises NotUnderstood."""
        if chunk.get("error"):
            raise NotUnderstood(f"an error within the stream: {chunk['error']}")
        _need(chunk.get("object") == "chat.completion.chunk", "no chunk of a chat", chunk)
        _need(isinstance(chunk.get("created"), int), "`created` is no whole number", chunk)
        _need(
            self.id in ("", chunk["id"]) and self.model in ("", chunk["model"]), "id or model changed", chunk
        )
        self.id, self.model = chunk["id"], chunk["model"]
        # The stream helper of the official client fails where a chunk has no `choices`, the usage's included.
        _need(isinstance(chunk.get("choices"), list), "no list of choices", chunk)
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk["choices"]:
            _need(choice["index"] == 0, "a choice that was not asked for", chunk)
            self._take_delta(choice["delta"], chunk)
            if choice.get("finish_reason"):
                _need(self.finish_reason is None, "a second finish_reason", chunk)
                self.finish_reason = choice["finish_reason"]

    def _take_delta(self, delta: dict[str, Any], chunk: dict[str, Any]) -> None:
        # Clients add up roles too: a second one would make "assistantassistant".
        self._roles += "role" in delta
        _need(self._roles == 1, "the role is told not once, and not first", chunk)
        if delta.get("content"):
            self.text += delta["content"]
            self.pieces += 1
        for part in delta.get("tool_calls") or []:
            if part["index"] == len(self.calls):
                _need(
                    bool(part.get("id") and part["function"].get("name")), "a call without id or name", chunk
                )
                self.calls.append({"id": part["id"], "name": part["function"]["name"], "arguments": ""})
            self.calls[part["index"]]["arguments"] += part["function"].get("arguments") or ""


def read_stream(response: httpx.Response) -> StreamedAnswer:
    """The answer of a request that was opened with `client.stream`. Raises NotUnderstood."""
    if response.status_code != 200:
        response.read()
        raise NotUnderstood(f"{response.request.url}: {response.status_code} {response.text[:500]}")
    kind = response.headers.get("content-type", "")
    _need(kind.startswith("text/event-stream"), f"the content type is {kind}", {})
    answer, ended = StreamedAnswer(), False
    for event in _events(response):
        _need(not ended, f"more after {END}", event)
        if event == END:
            ended = True
        else:
            answer.take(json.loads(event))
    # A stream that ends without it looks like a whole answer to the official client.
    _need(ended, f"no {END} at the end", answer)
    _need(answer.finish_reason is not None, "no finish_reason", answer)
    return answer


def _events(response: httpx.Response) -> list[str]:
    """The data of all events; what is no comment and no data is no event of this interface."""
    body = b"".join(response.iter_bytes()).decode()
    # Clients drop an event that no empty line ends.
    _need(body.endswith("\n\n"), "the last event is not ended by an empty line", body[-200:])
    lines = [line for line in body.split("\n") if line and not line.startswith(":")]
    for line in lines:
        _need(line.startswith("data: "), "a line that is no data", line)
    return [line.removeprefix("data: ") for line in lines]


def _need(holds: bool, what: str, seen: object) -> None:
    if not holds:
        raise NotUnderstood(f"{what}: {str(seen)[:500]}")
