"""A client's schema can hurt nobody else: not by its compilation, and not while it is followed."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest

from msp_common.errors import InvalidRequest, TooManyRequests
from msp_model_service.chat.answer_forms import AnswerForm
from msp_model_service.engines.lark_text import grammar_text
from msp_model_service.engines.llguidance_grammar import GrammarLimits, LlForms
from support.grammars import END, SIZE, allowed, fits, grammar, json_form


def hostile() -> dict[str, Any]:
    """Schemas within the limits of size, made to cost time or memory."""
    doubling = {
        f"d{i}": {"type": "object", "properties": {k: {"$ref": f"#/$defs/d{i + 1}"} for k in "ab"}}
        for i in range(30)
    }
    return {
        "an enum": {"enum": [f"value {i} " * 3 for i in range(4000)]},
        "properties": {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(1000)}},
        "a regex": {"type": "string", "pattern": "^(([a-z]{1,100}){1,100}){1,100}$"},
        "a regex of no match": {"type": "string", "pattern": "^(a?){500}a{500}$"},
        "a look far back": {"type": "string", "pattern": "^.*a.{60000}$"},
        "a long string": {"type": "string", "minLength": 10**6, "maxLength": 10**9},
        "many items": {"type": "array", "items": {"type": "object"}, "minItems": 10**6, "maxItems": 10**6},
        "references": {"$defs": {**doubling, "d30": {"type": "string"}}, "$ref": "#/$defs/d0"},
        "a product": {
            "allOf": [
                {"anyOf": [{"type": "object", "properties": {f"p{i}_{j}": {}}} for j in range(6)]}
                for i in range(6)
            ]
        },
    }


@pytest.mark.parametrize("name", hostile())
async def test_hostile_schemas_are_answered_or_refused_and_hold_nobody_up(forms: LlForms, name: str) -> None:
    """The event loop goes on meanwhile, and so does an engine's thread."""
    gaps: list[float] = []
    over = threading.Event()

    def tick() -> None:
        last = time.perf_counter()
        while not over.wait(0.002):
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    turns = 0
    try:
        work = asyncio.create_task(grammar(forms, json_form(hostile()[name])))
        while not work.done():
            await asyncio.sleep(0.002)
            turns += 1
        made = await work
        for _ in range(8):
            made.accept(allowed(made)[0])
    except InvalidRequest as error:
        assert error.code in ("invalid_schema", "schema_too_complex")  # noqa: PT017
    finally:
        over.set()
        thread.join()
    # On a busy machine a thread may wait for long; a compiler that held the interpreter would show here.
    assert turns > 0
    assert max(gaps, default=0) < 2


class SlowWriter:
    """Writes grammars, once it is let go."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.let_go = threading.Event()

    def __call__(self, form: AnswerForm, **way: Any) -> str:
        self.asked.release()
        self.let_go.wait()
        return grammar_text(form, **way)


async def test_only_a_few_are_made_at_once_and_the_rest_are_told_to_come_again(tokenizer: Any) -> None:
    slow = SlowWriter()
    limits = GrammarLimits(at_once=1, waiting=1)
    forms = LlForms(tokenizer, vocabulary_size=SIZE, end_ids=frozenset({END}), limits=limits, write=slow)
    asking = [asyncio.create_task(grammar(forms, json_form({"enum": [i]}))) for i in range(2)]
    await asyncio.to_thread(slow.asked.acquire)
    with pytest.raises(TooManyRequests) as caught:
        await grammar(forms, json_form({"enum": [2]}))
    assert caught.value.retry_after_s == 1
    slow.let_go.set()
    assert len(await asyncio.gather(*asking)) == 2
    assert await grammar(forms, json_form({"enum": [2]}))
    forms.close()


async def test_nobody_waits_for_ever(tokenizer: Any) -> None:
    slow = SlowWriter()
    limits = GrammarLimits(compile_s=0.05)
    forms = LlForms(tokenizer, vocabulary_size=SIZE, end_ids=frozenset({END}), limits=limits, write=slow)
    with pytest.raises(TooManyRequests) as caught:
        await grammar(forms, json_form({"enum": [1]}))
    assert caught.value.retry_after_s == 5
    slow.let_go.set()
    forms.close()


async def test_what_is_too_much_while_answering_ends_this_answer_only(tokenizer: Any) -> None:
    limits = GrammarLimits(step_items=100)
    forms = LlForms(tokenizer, vocabulary_size=SIZE, end_ids=frozenset({END}), limits=limits)
    deep = {"type": "array", "items": {"anyOf": [{"type": "array", "items": {"type": "string"}}] * 40}}
    made = await grammar(forms, json_form(deep))
    with pytest.raises(InvalidRequest) as caught:
        fits(made, tokenizer, json.dumps([["x"] * 20] * 20))
    assert caught.value.code == "schema_too_complex"
    other = await grammar(forms, json_form({"type": "integer"}))
    assert fits(other, tokenizer, "5")
    forms.close()
