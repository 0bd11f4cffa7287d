"""Grammars by llguidance: forms compiled in threads of their own, within limits.

A form is a client's, and may be made to hurt. So its size is bounded before it comes here, the compiler and
each step of a match have a bounded amount of work, only so many forms are compiled at a time, and whoever
waits too long is told so.
"""

import asyncio
import logging
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import llguidance.hf
import numpy as np
import torch
from llguidance import LLMatcher, LLParserLimits, LLTokenizer
from transformers import PreTrainedTokenizerFast

from msp_common.errors import InvalidRequest, TooManyRequests
from msp_model_service.chat.answer_forms import AnswerForm, CallSchema, JsonForm
from msp_model_service.chat.json_schemas import place_of
from msp_model_service.engines.chat import PreparedPrompt
from msp_model_service.engines.lark_text import Unsayable, grammar_text

log = logging.getLogger(__name__)

_PLACE = re.compile(r"^at \d+\(\d+\): (failed to compile JSON schema: )?")
_WORD = re.compile(r"[$A-Za-z]+")
_SPOKEN_OF = {"regex": "pattern", "patternProperty": "patternProperties"}
"""What messages call a keyword."""

_COMMON = frozenset({"type", "items", "properties", "title", "description", "default", "required"})
"""Keywords that messages also use as plain words."""


@dataclass(frozen=True)
class GrammarLimits:
    """How much work forms may make. Fuel is llguidance's measure: some tens of thousands a millisecond."""

    compile_s: float = 10.0
    """How long a request waits for its grammar, other requests' before it included."""
    at_once: int = 2
    """Forms compiled at the same time."""
    waiting: int = 16
    """Requests that may wait for a compilation; one more is answered 429."""
    kept: int = 32
    """Compiled forms that are kept, for requests that send the same again."""
    compile_fuel: int = 1_000_000
    step_fuel: int = 200_000
    step_items: int = 50_000
    row_items: int = 5000
    """Ways to go on from one place; an object takes four for each property that may come next."""
    lexer_states: int = 50_000
    """Some 2 kB each."""
    grammar_size: int = 100_000

    def for_parser(self) -> LLParserLimits:
        """As llguidance takes them."""
        return LLParserLimits(
            max_items_in_row=self.row_items,
            initial_lexer_fuel=self.compile_fuel,
            step_lexer_fuel=self.step_fuel,
            step_max_items=self.step_items,
            max_lexer_states=self.lexer_states,
            max_grammar_size=self.grammar_size,
            verbose_errors=False,
        )


DEFAULT_LIMITS = GrammarLimits()


def can_guide(tokenizer: Any, end_ids: Sequence[int] | frozenset[int]) -> bool:
    """Whether answers of a model with this tokenizer can be held to a form, and would end."""
    return isinstance(tokenizer, PreTrainedTokenizerFast) and bool(end_ids)


class LlGrammar:
    """A Grammar. The compiled form is shared; this answer's own state is made at its first step."""

    def __init__(self, compiled: LLMatcher) -> None:
        self._compiled = compiled
        self._matcher: LLMatcher | None = None

    @property
    def finished(self) -> bool:
        """See Grammar."""
        return self._matcher is not None and self._matcher.is_stopped()

    def mask(self, logits: torch.Tensor) -> None:
        """See Grammar."""
        matcher = self._begun()
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        self._check(matcher)
        allowed = torch.from_numpy(np.unpackbits(bits, bitorder="little")[: logits.shape[-1]]).bool()
        if allowed.shape[0] < logits.shape[-1]:  # the output layer is padded beyond the vocabulary
            allowed = torch.nn.functional.pad(allowed, (0, logits.shape[-1] - allowed.shape[0]))
        logits.masked_fill_(~allowed.to(logits.device), float("-inf"))

    def accept(self, token_id: int) -> None:
        """See Grammar."""
        matcher = self._begun()
        if not matcher.is_stopped():
            matcher.consume_token(token_id)
            self._check(matcher)

    def _begun(self) -> LLMatcher:
        if self._matcher is None:
            self._matcher = self._compiled.deep_copy()
        return self._matcher

    def _check(self, matcher: LLMatcher) -> None:
        if matcher.is_error():
            raise InvalidRequest(
                f"The form of the answer is too complicated to be followed: {_reason(matcher)}.",
                param="response_format",
                code="schema_too_complex",
            )


class LlForms:
    """Forms for one model; compiles at most a few at once. Its threads end with `close`."""

    def __init__(
        self,
        tokenizer: Any,
        *,
        vocabulary_size: int,
        end_ids: frozenset[int],
        limits: GrammarLimits = DEFAULT_LIMITS,
        write: Callable[..., str] = grammar_text,
    ) -> None:
        """`write` is given what `grammar_text` is given."""
        self._tokenizer = tokenizer
        self._vocabulary_size = vocabulary_size
        self._end_ids = sorted(end_ids)
        self._limits = limits
        self._write = write
        self._threads = ThreadPoolExecutor(limits.at_once, thread_name_prefix="grammar")
        self._waiting = 0
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()
        self._made: LLTokenizer | None = None
        self._making = threading.Lock()

    def close(self) -> None:
        """End the threads once they have finished what they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def grammars(self, form: AnswerForm, prompt: PreparedPrompt, count: int) -> list[LlGrammar]:
        """See Forms."""
        if self._waiting >= self._limits.at_once + self._limits.waiting:
            raise TooManyRequests(
                f"{self._waiting} requests are waiting for their grammars already.", retry_after_s=1
            )
        self._waiting += 1
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._compiled, form, prompt)
        # Counted until the thread is done with it, which may be after its reader has given up.
        work.add_done_callback(self._done)
        try:
            compiled = await asyncio.wait_for(asyncio.shield(work), self._limits.compile_s)
        except TimeoutError as error:
            raise TooManyRequests(
                f"No grammar was ready within {self._limits.compile_s:g} s; the schema is very complicated, "
                "or too many are being compiled.",
                param=_param(form),
                retry_after_s=5,
            ) from error
        return [LlGrammar(compiled) for _ in range(count)]

    def _done(self, work: "asyncio.Future[LLMatcher]") -> None:
        self._waiting -= 1
        if not work.cancelled():
            work.exception()  # told already, or to nobody any more

    def _compiled(self, form: AnswerForm, prompt: PreparedPrompt) -> LLMatcher:
        """In a thread of ours."""
        tokenizer = self._ll_tokenizer()
        try:
            text = self._write(
                form,
                tool_format=prompt.tool_format,
                reasoning=prompt.reasoning,
                thinks=prompt.thinks,
                marker=self._marker,
            )
        except Unsayable as error:
            raise InvalidRequest(
                f"Unsupported value for 'tool_choice': {error}; use 'auto' or 'none'.",
                param="tool_choice",
                code="unsupported_value",
            ) from error
        with self._making:
            if text in self._kept:
                self._kept.move_to_end(text)
                return self._kept[text]
        limits = self._limits.for_parser()
        matcher = LLMatcher(tokenizer, LLMatcher.grammar_from_lark(text), log_level=0, limits=limits)
        if not matcher.is_error():
            matcher.compute_bitmask()  # a form without any answer shows at its first step
        if matcher.is_error() or (matcher.is_stopped() and not matcher.is_accepting()):
            raise self._refusal(form, matcher)
        matcher.reset()
        with self._making:
            self._kept[text] = matcher
            while len(self._kept) > self._limits.kept:
                self._kept.popitem(last=False)
        return matcher

    def _refusal(self, form: AnswerForm, matcher: LLMatcher) -> InvalidRequest:
        """Which schema, and where in it."""
        reason = _reason(matcher)
        unimplemented = "Unimplemented" in reason
        where = _place(form, reason)
        if unimplemented:
            reason = f"answers cannot be held to {where.rpartition('.')[2]!r}"
        return InvalidRequest(
            f"Unsupported JSON schema at '{where}': {reason}.",
            param=where,
            code="unsupported_schema" if unimplemented else "invalid_schema",
        )

    def _marker(self, text: str) -> str | None:
        token_id = self._tokenizer.added_tokens_encoder.get(text)
        if token_id is None or not self._ll_tokenizer().is_special_token(token_id):
            return None
        return f"<[{token_id}]>"

    def _ll_tokenizer(self) -> LLTokenizer:
        """Made at its first use: it takes a second for a large vocabulary."""
        with self._making:
            if self._made is None:
                self._made = llguidance.hf.from_tokenizer(
                    self._tokenizer, n_vocab=self._vocabulary_size, eos_token=self._end_ids
                )
            return self._made


def _reason(matcher: LLMatcher) -> str:
    """What the compiler says, without where in our own text it was; a parser's message in one line."""
    message = matcher.get_error().split("<non-verbose/>")[0].strip()
    if not message or message.startswith("NoExtension"):
        return "no answer has this form"
    return " ".join(_PLACE.sub("", message).split())[:300].rstrip(".")


def _place(form: AnswerForm, reason: str) -> str:
    """The keyword that the compiler speaks of, where the schema first has it; else the schema itself."""
    words = [_SPOKEN_OF.get(word, word) for word in _WORD.findall(reason)]
    for param, schema in _schemas(form):
        for word in words:
            if word not in _COMMON and (place := place_of(word, schema)) is not None:
                return f"{param}.{place}"
    return _param(form)


def _schemas(form: AnswerForm) -> list[tuple[str, Any]]:
    if isinstance(form, JsonForm):
        return [(form.param, form.schema)]
    also = [(form.instead.param, form.instead.schema)] if form.instead is not None else []
    return [(one.param, one.arguments) for one in form.functions if one.strict] + also


def _param(form: AnswerForm) -> str:
    if isinstance(form, JsonForm):
        return form.param
    return _only(form.functions) if form.instead is None else "tools"


def _only(functions: Sequence[CallSchema]) -> str:
    return functions[0].param if len(functions) == 1 else "tools"
