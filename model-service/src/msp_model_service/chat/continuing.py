"""Streams that another replica can go on with: what such a stream tells on its way, and the going on.

A stream that was asked for with the field `x-msp-resumable` tells the ids of its tokens in comments, which
readers of events pass over. Whoever kept them may ask any replica of the same model to `continue`: it takes
the tokens for its own, leaves out what the client has, and goes on. Ids stand before the text that they make,
so a client never has text whose ids were lost with the worker; ids that were lost are tokens made anew.
"""

from dataclasses import dataclass, replace
from uuid import uuid4

from msp_common.errors import InvalidRequest
from msp_model_service.chat.choices import Delta, Part
from msp_model_service.chat.reasoning import Thought
from msp_model_service.chat.rendering import AnswerHead
from msp_model_service.chat.wire import ChatRequest, CompletionRequest, ContinuableFields
from msp_model_service.engines.chat import TokenEvent

ASKS = "x-msp-resumable"
"""With `1` in it, the request field that asks for comments with token ids."""

CONTINUES = {"x-msp-continues": "1"}
"""On an answer that goes on with another: a worker that does not know `continue` begins from the start."""


def obstacle(body: ChatRequest | CompletionRequest) -> str | None:
    """What of a request its stream could not be gone on with; null where it could."""
    if not body.stream:
        return "without 'stream'"
    if (body.n or 1) > 1:
        return "with 'n' above 1"
    if isinstance(body, ChatRequest):
        if body.tools or body.functions:
            return "with 'tools'"
        return "with 'logprobs'" if body.logprobs else None
    if body.logprobs is not None:
        return "with 'logprobs'"
    return "with 'echo'" if body.echo else None


def check(body: ChatRequest | CompletionRequest, prompts: int = 1) -> None:
    """Raises InvalidRequest for a `continue` that cannot be."""
    reason = "with several prompts" if prompts > 1 else obstacle(body)
    if body.continued is not None and reason is not None:
        raise InvalidRequest(
            f"Unsupported value for 'continue': no answer is continued {reason}.",
            param="continue",
            code="unsupported_value",
        )


def begun(body: ContinuableFields) -> tuple[int, ...]:
    """The tokens that there are already."""
    return () if body.continued is None else tuple(body.continued.token_ids)


@dataclass
class Passage:
    """What one stream has told, and what its client had before. For streams of one choice."""

    tells_ids: bool
    begun_ids: int = 0
    """Tokens to come whose ids are known already."""
    content: int = 0
    """Characters to come that the client has."""
    thinking: int = 0
    ended: bool = False
    """Whether the client has the reason of the end."""
    _ids: tuple[int, ...] = ()

    @classmethod
    def of(cls, body: ChatRequest | CompletionRequest, asked: str | None, *, prompts: int = 1) -> "Passage":
        """`asked` is the request's field `x-msp-resumable`."""
        tells = asked == "1" and prompts == 1 and obstacle(body) is None
        there = body.continued
        if there is None:
            return cls(tells)
        return cls(tells, len(there.token_ids), there.content, there.reasoning_content, there.finished)

    def marked(self, frame: bytes) -> bytes:
        """The frame behind a comment with the ids of all tokens so far that none has told."""
        if not self._ids:
            return frame
        comment = b": t %s\n\n" % ",".join(map(str, self._ids)).encode()
        self._ids = ()
        return comment + frame

    def news_of(self, delta: Delta) -> Delta:
        """What of it the client does not have."""
        self._note(delta.token_ids)
        if not (self.content or self.thinking or self.ended):
            return delta
        parts = tuple(part for one in delta.parts if (part := self._news_of_part(one)) is not None)
        return replace(delta, parts=parts, finish=None if self.ended else delta.finish)

    def news_of_event(self, event: TokenEvent) -> TokenEvent:
        """The same of a plain completion's event."""
        self._note(event.token_ids)
        if not (self.content or self.ended):
            return event
        return replace(event, text=self._content(event.text), finish=None if self.ended else event.finish)

    def _news_of_part(self, part: Part) -> Part | None:
        if isinstance(part, Thought):
            cut = min(self.thinking, len(part.text))
            self.thinking -= cut
            return Thought(part.text[cut:]) if cut < len(part.text) else None
        return (self._content(part) or None) if isinstance(part, str) else part

    def _content(self, text: str) -> str:
        cut = min(self.content, len(text))
        self.content -= cut
        return text[cut:]

    def _note(self, token_ids: tuple[int, ...]) -> None:
        known = min(self.begun_ids, len(token_ids))
        self.begun_ids -= known
        if self.tells_ids:
            self._ids += token_ids[known:]


def head_of(body: ChatRequest | CompletionRequest, model: str) -> AnswerHead:
    """A new answer's head, or that of the answer that is gone on with."""
    if (there := body.continued) is not None:
        return AnswerHead(model, there.id, there.created)
    return AnswerHead(model) if isinstance(body, ChatRequest) else AnswerHead(model, f"cmpl-{uuid4().hex}")


def fields_of(body: ContinuableFields) -> dict[str, str]:
    """What the answer's HTTP head says of it."""
    return {} if body.continued is None else CONTINUES
