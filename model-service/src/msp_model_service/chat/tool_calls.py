"""Finding tool calls in a model's text while it is being written."""

from collections.abc import Iterator

from msp_model_service.chat.call_bodies import ParsedCall, read_calls
from msp_model_service.chat.stops import held_back
from msp_model_service.chat.tool_formats import ToolFormat

__all__ = ["ParsedCall", "ToolCallParser"]

_OPENINGS = ("{", "[")


class ToolCallParser:
    """Splits text into content and calls.

    A call is told only when it is complete and its JSON is sound: what turns out to be no call is content, as
    the model wrote it. White space next to a call belongs to the form, not to the content.
    """

    def __init__(self, form: ToolFormat) -> None:
        self._form = form
        self._rest = ""
        self._in_call = False
        self._bare = form.bare
        """Whether the answer may still turn out to be a call without a marker."""
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
        if self._in_call:
            return list(self._calls(rest, end=""))
        if self._bare and rest.lstrip().startswith(_OPENINGS):
            calls = read_calls(rest, self._form)
            self.calls += len(calls)
            return list(calls) or [rest]
        return list(self._content(rest))

    def _parts(self) -> Iterator[str | ParsedCall]:
        if self._bare:
            begun = self._rest.lstrip()
            if not begun or begun.startswith(_OPENINGS):
                return  # only the end will tell whether it is a call
            self._bare = False
        while True:
            # Without an end marker a call ends where the next one begins.
            marker = (self._form.end or self._form.start) if self._in_call else self._form.start
            before, found, after = self._rest.partition(marker)
            if not found:
                break
            self._rest = after
            if self._in_call:
                yield from self._calls(before, end=self._form.end)
                self._in_call = not self._form.end
            else:
                content = before.rstrip()
                self._blank = before[len(content) :]
                yield from self._content(content)
                self._in_call = True
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

    def _calls(self, body: str, *, end: str) -> Iterator[str | ParsedCall]:
        calls = read_calls(body, self._form)
        if not calls:
            yield from self._content(self._blank + self._form.start + body + end)
            self._blank = ""
        else:
            self.calls += len(calls)
            self._after_call = True
            yield from calls
