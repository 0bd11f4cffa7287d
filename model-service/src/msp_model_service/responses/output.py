"""From what the model says to the items of a response, and the events that tell of them."""

from collections.abc import Iterator, Sequence

from msp_model_service.chat.choices import Delta, Finish, Part
from msp_model_service.chat.held_calls import CallArguments
from msp_model_service.chat.reasoning import Thought
from msp_model_service.chat.rendering import logprobs_json
from msp_model_service.chat.tool_calls import ParsedCall
from msp_model_service.engines.chat import TokenLogprob
from msp_model_service.responses.output_items import CallItem, Item, Json, Status, ThoughtItem, WordsItem


class Output:
    """The items of one response. Streamed or not, they are made by this, so they are the same.

    One item is open at a time: what the model says comes in order.
    """

    def __init__(self, *, with_logprobs: bool) -> None:
        self._with_logprobs = with_logprobs
        self._items: list[Item] = []
        self._open: Item | None = None
        self._untold: list[TokenLogprob] = []
        """Of tokens whose words are still held back."""
        self.finish: Finish | None = None
        """Why the answer ended; null until then."""

    def json(self) -> list[Json]:
        """All items as they are now."""
        return [item.json() for item in self._items]

    def read(self, delta: Delta) -> list[Json]:
        """The events of one more delta, without their numbers."""
        if self._with_logprobs:
            self._note_logprobs(delta)
        events = [event for part in delta.parts for event in self._part(part)]
        if delta.finish is not None:
            self.finish = delta.finish
            events += self._end(delta.finish)
        return events

    def _note_logprobs(self, delta: Delta) -> None:
        """Words only are told with them; of tokens without words, those count that words may come from."""
        if isinstance(self._open, ThoughtItem | CallItem):
            says = any(isinstance(part, str) for part in delta.parts)
            self._untold = list(delta.logprobs) if says else []
        else:
            self._untold += delta.logprobs

    def _part(self, part: Part) -> Iterator[Json]:
        if isinstance(part, str):
            yield from self._opened_words()
            yield from self._piece(part)
        elif isinstance(part, Thought):
            if not isinstance(self._open, ThoughtItem):
                yield from self._begin(ThoughtItem())
            self._untold = []
            yield from self._piece(part.text)
        elif isinstance(part, CallArguments):
            yield from self._piece(part.text)
        else:
            self._untold = []
            yield from self._begin(CallItem(part.id, part.name))
            if isinstance(part, ParsedCall):
                yield from self._piece(part.arguments)
                yield from self._close("completed")

    def _opened_words(self) -> Iterator[Json]:
        if not isinstance(self._open, WordsItem):
            yield from self._begin(WordsItem())

    def _end(self, finish: Finish) -> Iterator[Json]:
        cut = finish == "length"
        silent = not any(isinstance(item, WordsItem | CallItem) for item in self._items)
        if silent and not (cut and self._items):
            yield from self._opened_words()  # an answer without a word is an empty message
        yield from self._close("incomplete" if cut else "completed")

    def _begin(self, item: Item) -> Iterator[Json]:
        yield from self._close("completed")
        self._open = item
        self._items.append(item)
        yield self._placed({"type": "response.output_item.added", "item": item.json()})
        for event in item.opening():
            yield self._placed({**event, "item_id": item.id})

    def _piece(self, text: str) -> Iterator[Json]:
        if self._open is not None and text:
            told = _logprobs(self._untold) if isinstance(self._open, WordsItem) else []
            if isinstance(self._open, WordsItem):
                self._untold = []
            yield self._placed({**self._open.add(text, told), "item_id": self._open.id})

    def _close(self, status: Status) -> Iterator[Json]:
        item = self._open
        if item is None:
            return
        item.status = status
        for event in item.closing():
            yield self._placed({**event, "item_id": item.id})
        yield self._placed({"type": "response.output_item.done", "item": item.json()})
        self._open = None

    def _placed(self, event: Json) -> Json:
        return {**event, "output_index": len(self._items) - 1}


def _logprobs(told: Sequence[TokenLogprob]) -> list[Json]:
    content: list[Json] = logprobs_json(told)["content"]
    return content
