"""Tokens as bytes, and text put together from them."""

from typing import Any

import pytest

from msp_model_service.chat.vocabulary import TokenizerVocabulary
from msp_model_service.engines.chat import GenerationRequest, PreparedPrompt
from msp_model_service.engines.token_events import TokenEvents
from support import tiny_models

TEXTS = ["the quick brown fox", "Ünïcödé 漢字 🙂👩‍👩‍👧", "a\n\n  b\tc", '{"x": [1, 2]}', " leading"]


@pytest.fixture(scope="module", params=["byte-level", "sentencepiece"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "byte-level":
        return tiny_models.tokenizer()
    return tiny_models.sentencepiece_tokenizer()


def assembled(tokenizer: Any, token_ids: list[int], *, continues: bool) -> list[str]:
    request = GenerationRequest(PreparedPrompt((), continues=continues), ignore_eos=True)
    vocabulary = TokenizerVocabulary(tokenizer)
    events = TokenEvents(request, vocabulary, end_ids=set(), max_tokens=len(token_ids))
    return [events.feed(token_id).text for token_id in token_ids]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_make_up_the_text_and_never_cut_a_character(tokenizer: Any, text: str) -> None:
    token_ids = tokenizer.encode(text, add_special_tokens=False)
    pieces = assembled(tokenizer, token_ids, continues=False)
    assert "".join(pieces) == tokenizer.decode(token_ids)
    assert not any("\ufffd" in piece for piece in pieces)


def test_a_space_before_a_continuation_is_kept() -> None:
    tokenizer = tiny_models.sentencepiece_tokenizer()
    both = tokenizer.encode("the quick", add_special_tokens=False)
    first = tokenizer.encode("the", add_special_tokens=False)
    rest = both[len(first) :]
    assert "".join(assembled(tokenizer, rest, continues=True)) == " quick"
    assert "".join(assembled(tokenizer, rest, continues=False)) == "quick"


def test_control_tokens_read_as_their_names_and_are_not_shown(tokenizer: Any) -> None:
    vocabulary = TokenizerVocabulary(tokenizer)
    end = tokenizer.eos_token_id
    assert vocabulary.bytes_of(end) == tokenizer.eos_token.encode()
    assert vocabulary.is_control(end)
    assert assembled(tokenizer, [end], continues=False) == [""]


def test_ids_beyond_the_vocabulary_are_empty(tokenizer: Any) -> None:
    assert TokenizerVocabulary(tokenizer).bytes_of(len(tokenizer) + 5) == b""
