"""Finding tool calls in a model's text while it is being written."""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from msp_model_service.chat.stops import held_back
from msp_model_service.chat.tool_formats import ToolFormat


@dataclass(frozen=True)
class ParsedCall:
    """One complete call. `arguments` is a JSON object as text."""

    id: str
    name: str
    arguments: str


class ToolCallParser:
    """Splits text into content and calls.

    A call is told only when it is complete and its JSON is sound: what turns out to be no call is content, as
    the model wrote it. White space next to a call belongs to the form, not to the content.
    """

    def __init__(self, form: ToolFormat) -> None:
        self._form = form
        self._rest = ""
        self._in_call = False
        self._blank = ""
        """White space before the call being read: content after all, if the call is none."""
        self._after_call = False
        self.calls = 0

    def feed(self, text: str) -> list[str | ParsedCall]:
        """Content and calls that `text` completes, in order."""
        self._rest += text
        return list(self._parts())

    def finish(self) -> list[str | ParsedCall]:
        """What is left when the text has ended; a last call may lack its end marker."""
        rest, self._rest = self._rest, ""
        return list(self._call(rest, end="") if self._in_call else self._content(rest))

    def _parts(self) -> Iterator[str | ParsedCall]:
        while True:
            marker = self._form.end if self._in_call else self._form.start
            before, found, after = self._rest.partition(marker)
            if not found:
                break
            self._rest = after
            if self._in_call:
                yield from self._call(before, end=marker)
            else:
                content = before.rstrip()
                self._blank = before[len(content) :]
                yield from self._content(content)
            self._in_call = not self._in_call
        if not self._in_call:
            held = held_back(self._rest, (self._form.start,))
            ready = self._rest[: len(self._rest) - held].rstrip()
            self._rest = self._rest[len(ready) :]
            yield from self._content(ready)

    def _content(self, text: str) -> Iterator[str]:
        if self._after_call:
            text = text.lstrip()
        if text:
            self._after_call = False
            yield text

    def _call(self, body: str, *, end: str) -> Iterator[str | ParsedCall]:
        call = _read(body, self._form)
        if call is None:
            yield from self._content(self._blank + self._form.start + body + end)
        else:
            self.calls += 1
            self._after_call = True
            yield call


def _read(body: str, form: ToolFormat) -> ParsedCall | None:
    """The call that `body` describes, or None where it describes none."""
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(call, dict):
        return None
    name, arguments = call.get(form.name_key), call.get(form.arguments_key, {})
    if isinstance(arguments, dict):
        arguments = json.dumps(arguments, ensure_ascii=False)
    if not isinstance(name, str) or not name or not isinstance(arguments, str):
        return None
    return ParsedCall(f"call_{uuid.uuid4().hex[:24]}", name, arguments)
