"""Items of a conversation as messages of a chat.

What a model did in one turn comes as several items (thinking, words, calls) and is one message of a chat.
"""

from collections.abc import Sequence

from msp_common.errors import InvalidRequest
from msp_model_service.chat.wire import WireFunctionCall, WireImageUrl, WireMessage, WirePart, WireToolCall
from msp_model_service.responses.places import Places
from msp_model_service.responses.refusals import refuse_item_type
from msp_model_service.responses.wire import InputItem, ItemPart

_TEXTS = ("input_text", "output_text", "text")


class InputMessages:
    """Gathers the messages of one request, and notes where each of their parts came from."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._messages: list[WireMessage] = []
        self._turn: WireMessage | None = None
        """The assistant's message that the next item may belong to."""
        self._thought: list[str] = []
        """Thinking of a turn that has no words or calls so far; without any it says nothing to a template."""

    def add_instructions(self, text: str) -> None:
        """A system message before all others."""
        self._add(WireMessage(role="system", content=[WirePart(type="text", text=text)]), "instructions")

    def add_items(self, items: Sequence[InputItem]) -> None:
        """The conversation. Raises InvalidRequest, naming the item."""
        for i, item in enumerate(items):
            self._item(item, f"input.{i}")

    def taken(self) -> list[WireMessage]:
        """The messages. Raises InvalidRequest where there are none."""
        if not self._messages:
            raise InvalidRequest(
                "There is nothing to answer: the input has no message.", param="input", code="invalid_value"
            )
        return self._messages

    def _item(self, item: InputItem, place: str) -> None:
        match item.type:
            case "message":
                self._message(item, place)
            case "reasoning":
                self._thinking("".join(part.text or "" for part in item.content or ()))
            case "function_call":
                self._call(item, place)
            case "function_call_output":
                self._output(item, place)
            case _:
                refuse_item_type(item.type, place)

    def _message(self, item: InputItem, place: str) -> None:
        if item.role is None or item.content is None:
            missing = f"{place}.{'role' if item.role is None else 'content'}"
            raise _needed(missing)
        if item.role == "assistant":
            message = self._turn_for(place, has_words=True)
        else:
            message = WireMessage(role=item.role)
            self._add(message, place)
        self._fill(message, item.content, f"{place}.content")

    def _call(self, item: InputItem, place: str) -> None:
        if item.call_id is None or item.name is None:
            raise _needed(f"{place}.{'call_id' if item.call_id is None else 'name'}")
        turn = self._turn_for(place, has_words=False)
        function = WireFunctionCall(name=item.name, arguments=item.arguments or "")
        turn.tool_calls = [*(turn.tool_calls or ()), WireToolCall(id=item.call_id, function=function)]

    def _output(self, item: InputItem, place: str) -> None:
        if item.call_id is None or item.output is None:
            raise _needed(f"{place}.{'call_id' if item.call_id is None else 'output'}")
        message = WireMessage(role="tool", tool_call_id=item.call_id, name=item.name)
        self._add(message, place)
        self._fill(message, item.output, f"{place}.output")

    def _thinking(self, thought: str) -> None:
        if self._turn is not None and self._turn.tool_calls:
            before = [self._turn.reasoning_content] if self._turn.reasoning_content else []
            self._turn.reasoning_content = "\n".join([*before, thought])
        else:
            self._turn = None
            self._thought.append(thought)

    def _turn_for(self, place: str, *, has_words: bool) -> WireMessage:
        """The assistant's message that an item belongs to. Words behind words are a turn of their own."""
        turn = self._turn
        if turn is None or (has_words and turn.content and not turn.tool_calls):
            thought = "\n".join(filter(None, self._thought))
            turn = WireMessage(role="assistant", reasoning_content=thought or None)
            self._add(turn, place)
            self._turn = turn
        return turn

    def _add(self, message: WireMessage, place: str) -> None:
        self._turn, self._thought = None, []
        self._places.note(f"messages.{len(self._messages)}", place)
        self._messages.append(message)

    def _fill(self, message: WireMessage, parts: Sequence[ItemPart], place: str) -> None:
        content = [*(message.content or ())]
        where = len(self._messages) - 1  # a turn is filled up only as long as nothing stands behind it
        for i, part in enumerate(parts):
            self._places.note(f"messages.{where}.content.{len(content)}", f"{place}.{i}")
            content.append(_part(part, f"{place}.{i}"))
        message.content = content


def _part(part: ItemPart, place: str) -> WirePart:
    if part.type in _TEXTS:
        return WirePart(type="text", text=part.text)
    if part.type == "refusal":
        return WirePart(type="refusal", refusal=part.refusal)
    if part.type == "input_image":
        if part.image_url is None and part.file_id is not None:
            raise InvalidRequest(
                f"Unsupported value for '{place}.file_id': no files are kept here; send the image as a data "
                "URI in 'image_url'.",
                param=f"{place}.file_id",
                code="unsupported_value",
            )
        url = None if part.image_url is None else WireImageUrl(url=part.image_url)
        return WirePart(type="image_url", image_url=url)
    return WirePart(type=part.type)


def _needed(param: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': Field required.", param=param, code="invalid_value")
