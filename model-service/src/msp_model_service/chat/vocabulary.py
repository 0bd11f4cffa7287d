"""What the tokens of a vocabulary are made of, byte by byte.

Text is put together from bytes, so that a character which is spread over several tokens appears when it is
complete, and costs the same per token however long the answer grows.
"""

import re
from typing import Any, Protocol


class Vocabulary(Protocol):
    """A model's tokens."""

    size: int

    def bytes_of(self, token_id: int) -> bytes:
        """The token as it reads within a text; a control token reads as its name."""

    def first_bytes_of(self, token_id: int) -> bytes:
        """The token as it reads at the very beginning of a text: some tokenizers drop a space there."""

    def is_control(self, token_id: int) -> bool:
        """Whether it is a special token, which is not shown."""


_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenizerVocabulary:
    """The vocabulary of a Hugging Face tokenizer; each token is worked out once."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.size = len(tokenizer)
        added = tokenizer.added_tokens_decoder
        self._added = {token_id: str(token.content) for token_id, token in added.items()}
        self._control = set(tokenizer.all_special_ids) | {i for i, token in added.items() if token.special}
        self._byte_of_char = _byte_of_char() if _is_byte_level(tokenizer) else None
        anchor = tokenizer.encode("a", add_special_tokens=False)[-1]
        self._anchor = (anchor, self._decode([anchor]))
        self._known: dict[int, bytes] = {}

    def bytes_of(self, token_id: int) -> bytes:
        """See Vocabulary."""
        if token_id not in self._known:
            self._known[token_id] = self._work_out(token_id)
        return self._known[token_id]

    def first_bytes_of(self, token_id: int) -> bytes:
        """See Vocabulary."""
        within = self.bytes_of(token_id)
        if self._byte_of_char is not None or not within.startswith(b" "):
            return within
        return self._decode([token_id]).encode()

    def is_control(self, token_id: int) -> bool:
        """See Vocabulary."""
        return token_id in self._control

    def _decode(self, token_ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )

    def _work_out(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode()
        piece = self._tokenizer.convert_ids_to_tokens(token_id)
        if piece is None:
            return b""  # models pad their output layer beyond the tokenizer's vocabulary
        if self._byte_of_char is not None:
            table = self._byte_of_char
            return b"".join(bytes([table[c]]) if c in table else c.encode() for c in piece)
        if match := _BYTE_PIECE.fullmatch(piece):
            return bytes([int(match[1], 16)])
        anchor, anchor_text = self._anchor
        return self._decode([anchor, token_id]).removeprefix(anchor_text).encode()


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = getattr(backend, "decoder", None)
    return decoder is not None and b"ByteLevel" in decoder.__getstate__()


def _byte_of_char() -> dict[str, int]:
    """The alphabet of byte-level BPE: printable Latin-1 stands for itself, the rest for U+0100 and up."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + i): byte for i, byte in enumerate(hidden)}
