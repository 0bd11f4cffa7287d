"""Texts to ids as the repository's tokenizer has them, and ids to rows of one length."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from msp_model_service.engines.lifecycle import EngineLoadFailed
from msp_model_service.engines.text_tokens import TextTokens, around
from support import tiny_embedding_model as tiny

TEXTS = ["the quick brown fox", "Hello,  World!\n", "[CLS] a [MASK] [SEP]", "Ünï 世界", "x" * 500]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny.make(tmp_path_factory.mktemp("tokens")))


class SlowTokenizer:
    """One without a compiled tokenizer behind it, as some repositories have."""

    def __init__(self, real: Any) -> None:
        self._real = real
        self.pad_token_id = real.pad_token_id
        self.calls = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        return self._real(*args, **options)


def test_ids_are_those_of_transformers(tokenizer: Any) -> None:
    assert TextTokens(tokenizer).tokenize(TEXTS) == tokenizer(TEXTS)["input_ids"]


def test_nothing_is_cut_whatever_was_set_in_the_tokenizer(tmp_path: Path) -> None:
    own = AutoTokenizer.from_pretrained(tiny.make(tmp_path))
    own("the fox", truncation=True, max_length=4, padding="max_length")
    [ids] = TextTokens(own).tokenize(["fox " * 100])
    assert len(ids) == 102


def test_a_tokenizer_that_is_not_compiled_gives_the_same(tokenizer: Any) -> None:
    slow = SlowTokenizer(tokenizer)
    tokens = TextTokens(slow)
    before = slow.calls
    assert tokens.tokenize(TEXTS) == TextTokens(tokenizer).tokenize(TEXTS)
    assert slow.calls == before + 1


def test_a_tokenizer_that_transformers_adds_something_to_is_asked_through_transformers(
    tokenizer: Any,
) -> None:
    class Adding(SlowTokenizer):
        backend_tokenizer = tokenizer.backend_tokenizer

        def __call__(self, texts: Any, **options: Any) -> Any:
            if isinstance(texts, str):
                return super().__call__(texts, **options)
            return super().__call__([f"hello {text}" for text in texts], **options)

    [ids] = TextTokens(Adding(tokenizer)).tokenize(["fox"])
    assert ids == tokenizer("hello fox")["input_ids"]


def test_several_threads_may_tokenize_at_once(tokenizer: Any) -> None:
    tokens = TextTokens(tokenizer)
    alone = [tokens.tokenize([text]) for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda text: tokens.tokenize([text]), TEXTS * 20)) == alone * 20


def test_the_prompt_stands_before_each_text_and_is_counted(tokenizer: Any) -> None:
    tokens = TextTokens(tokenizer, "query : ")
    assert tokens.tokenize(["the fox"]) == [tokenizer("query : the fox")["input_ids"]]
    assert tokens.prompt_length == len(tokenizer("query :")["input_ids"]) - 1
    plain = tokenizer("the fox", add_special_tokens=False)["input_ids"]
    assert tokens.complete(plain) == tokens.tokenize(["the fox"])[0]


def test_rows_of_like_length_need_no_mask(tokenizer: Any) -> None:
    rows, mask = TextTokens(tokenizer).padded([[5, 6], [7, 8]])
    assert rows.tolist() == [[5, 6], [7, 8]]
    assert mask is None


def test_shorter_rows_are_padded_on_the_right_and_masked(tokenizer: Any) -> None:
    rows, mask = TextTokens(tokenizer).padded([[5, 6, 7], [8]])
    pad = tokenizer.pad_token_id
    assert rows.tolist() == [[5, 6, 7], [8, pad, pad]]
    assert mask is not None
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_special_tokens_are_found_around_a_text() -> None:
    assert around([1, 7, 8, 2], [7, 8]) == ([1], [2])
    assert around([7, 8], [7, 8]) == ([], [])
    with pytest.raises(EngineLoadFailed):
        around([1, 9, 2], [7])
