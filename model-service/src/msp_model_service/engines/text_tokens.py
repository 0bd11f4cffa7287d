"""From texts to the ids that an embedding network reads, and from ids to rows of one length."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from msp_model_service.engines.embedder import TokenIds
from msp_model_service.engines.lifecycle import EngineLoadFailed

_PROBES = ("A short text.", "Ünï 世界  two\nlines", "x")

Ids = NDArray[np.int64]


class TextTokens:
    """A repository's tokenizer with a prompt before every text. May be used by several threads at once."""

    def __init__(self, tokenizer: Any, prompt: str = "") -> None:
        self._slow = tokenizer
        self._slow_at_work = threading.Lock()
        self._prompt = prompt
        self._fast = self._plain_copy()
        plain: list[int] = tokenizer(_PROBES[0], add_special_tokens=False)["input_ids"]
        before, self._suffix = around(tokenizer(_PROBES[0])["input_ids"], plain)
        self._prefix = [*before, *tokenizer(prompt, add_special_tokens=False)["input_ids"]]
        # Without a token for it, any id does: the mask hides it.
        self._pad_id = int(tokenizer.pad_token_id or 0)

    @property
    def prompt_length(self) -> int:
        """Tokens before a text: special ones and the prompt."""
        return len(self._prefix)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids with prompt and special tokens; nothing is cut."""
        prompted = [self._prompt + text for text in texts] if self._prompt else list(texts)
        if self._fast is not None:
            return [encoding.ids for encoding in self._fast.encode_batch_fast(prompted)]
        return self._tokenize_slowly(prompted)

    def complete(self, ids: TokenIds) -> list[int]:
        """Adds what the tokenizer adds to a text, unless it is there already."""
        begin, end = len(self._prefix), len(self._suffix)
        whole = len(ids) >= begin + end and (begin or end)
        if whole and list(ids[:begin]) == self._prefix and list(ids[len(ids) - end :]) == self._suffix:
            return list(ids)
        return [*self._prefix, *ids, *self._suffix]

    def padded(self, inputs: Sequence[TokenIds]) -> tuple[Ids, Ids | None]:
        """Ids as rows of one length, and the mask with 0 on padding; no mask where nothing is padded.

        Padding is on the right whatever the repository says: it then changes no position, so that a text has
        the vector that it has alone. Pooling goes by the mask.
        """
        longest = max(map(len, inputs))
        if all(len(ids) == longest for ids in inputs):
            return np.array(inputs, dtype=np.int64), None
        rows = np.full((len(inputs), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros_like(rows)
        for row, marks, ids in zip(rows, mask, inputs, strict=True):
            row[: len(ids)] = ids
            marks[: len(ids)] = 1
        return rows, mask

    def _plain_copy(self) -> Tokenizer | None:
        """The compiled tokenizer behind transformers' own, five times faster for a short text.

        A copy, so that nobody's settings for cutting and padding reach it. None where there is none, or where
        transformers adds something to it.
        """
        backend = getattr(self._slow, "backend_tokenizer", None)
        if not isinstance(backend, Tokenizer):
            return None
        copy = Tokenizer.from_str(backend.to_str())
        copy.no_truncation()
        copy.no_padding()
        same = [encoding.ids for encoding in copy.encode_batch_fast(list(_PROBES))]
        return copy if same == self._tokenize_slowly(_PROBES) else None

    def _tokenize_slowly(self, texts: Sequence[str]) -> list[list[int]]:
        # Every call writes settings into the tokenizer, which no other thread may then be reading.
        with self._slow_at_work:
            encoded = self._slow(list(texts), truncation=False, padding=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def around(whole: Sequence[int], inner: Sequence[int]) -> tuple[list[int], list[int]]:
    """What stands before and after `inner` within `whole`: the special tokens that a tokenizer adds."""
    size = len(inner)
    for begin in range(len(whole) - size + 1):
        if list(whole[begin : begin + size]) == list(inner):
            return list(whole[:begin]), list(whole[begin + size :])
    raise EngineLoadFailed("the tokenizer changes a text's tokens when it adds the special ones")
