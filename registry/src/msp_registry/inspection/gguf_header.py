"""Whether a file can be GGUF, and what its header says of the model. Pure.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; versions 2 and 3, which differ in the byte
order that is allowed.
"""

import math
import re
import struct
from collections import Counter
from dataclasses import dataclass, field

MAGIC = b"GGUF"

# How llama.cpp names the parts of one model: name-00001-of-00003.gguf.
_PART = re.compile(r"-\d{5}-of-\d{5}(?=\.gguf$)", re.IGNORECASE)

_VERSIONS = (2, 3)
_ALIGNMENT_KEY = "general.alignment"
_MAX_DIMENSIONS = 8

# More than any model has; beyond, the counts are noise and reading on would only cost time.
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 20

_STRING, _ARRAY = 8, 9
_SCALAR_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UNSIGNED = {4: "I", 10: "Q"}

# ggml's number → name, numbers per block, bytes per block. Others are taken as they are.
_TYPES = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 28: ("F64", 1, 8),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 22: ("IQ2_S", 256, 82), 18: ("IQ3_XXS", 256, 98),
    21: ("IQ3_S", 256, 110), 19: ("IQ1_S", 256, 50), 29: ("IQ1_M", 256, 56), 20: ("IQ4_NL", 32, 18),
    23: ("IQ4_XS", 256, 136), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip


class BadGguf(ValueError):
    """Not GGUF, or cut short."""


class MoreNeeded(Exception):
    """The header goes on after the bytes that were given."""


@dataclass
class GgufHeader:
    """What a header says."""

    by_dtype: Counter[str] = field(default_factory=Counter)
    """How many numbers of each type the tensors hold."""


def read_header(data: bytes, file_bytes: int) -> GgufHeader:
    """From the first bytes of a file. Raises MoreNeeded, and BadGguf unless the tensors fit into the file."""
    cursor = _Cursor(data, file_bytes)
    magic = cursor.take(4)
    if magic != MAGIC:
        raise BadGguf(f"it begins with {magic!r} instead of {MAGIC!r}")
    raw = cursor.take(4)
    little, big = struct.unpack("<I", raw)[0], struct.unpack(">I", raw)[0]
    if little not in _VERSIONS and big not in _VERSIONS:
        raise BadGguf(f"its version is {little}; those that are known are {_VERSIONS}")
    cursor.order = "<" if little in _VERSIONS else ">"
    tensors, keys = cursor.number("Q"), cursor.number("Q")
    if tensors > _MAX_TENSORS or keys > _MAX_KEYS:
        raise BadGguf(f"its header announces {tensors} tensors and {keys} keys")
    found = GgufHeader()
    alignment = 32
    for _ in range(keys):
        key = cursor.text()
        kind = cursor.number("I")
        if key == _ALIGNMENT_KEY and kind in _UNSIGNED:
            alignment = cursor.number(_UNSIGNED[kind])
        else:
            cursor.skip_value(kind)
    end = 0
    for _ in range(tensors):
        end = max(end, _tensor(cursor, found))
    if alignment == 0:
        raise BadGguf("its alignment is 0")
    begin = -(-cursor.at // alignment) * alignment
    if begin + end > file_bytes and end:
        raise BadGguf(f"its tensors end at byte {begin + end}, the file has {file_bytes}")
    return found


def without_part(path: str) -> str:
    """The path without the number of its part: equal for the parts of one model."""
    return _PART.sub("", path)


def _tensor(cursor: "_Cursor", found: GgufHeader) -> int:
    """Note one tensor; where its data ends, from the begin of all data."""
    name = cursor.text()
    dimensions = cursor.number("I")
    if dimensions > _MAX_DIMENSIONS:
        raise BadGguf(f"tensor {name[:200]!r} has {dimensions} dimensions")
    count = math.prod(cursor.number("Q") for _ in range(dimensions))
    kind, offset = cursor.number("I"), cursor.number("Q")
    known = _TYPES.get(kind)
    if known is None:
        found.by_dtype[f"ggml type {kind}"] += count
        return offset
    dtype, per_block, block_bytes = known
    found.by_dtype[dtype] += count
    return offset + -(-count // per_block) * block_bytes


class _Cursor:
    """Reads the header's values one after the other."""

    def __init__(self, data: bytes, file_bytes: int) -> None:
        self._data = data
        self._file_bytes = file_bytes
        self.at = 0
        self.order = "<"

    def take(self, size_bytes: int) -> bytes:
        start = self.at
        self.skip(size_bytes)
        return self._data[start : self.at]

    def skip(self, size_bytes: int) -> None:
        self.at += size_bytes
        if self.at > self._file_bytes:
            raise BadGguf(f"its header needs {self.at} bytes, the file has {self._file_bytes}")
        if self.at > len(self._data):
            raise MoreNeeded

    def number(self, code: str) -> int:
        value: int = struct.unpack(self.order + code, self.take(struct.calcsize(code)))[0]
        return value

    def text(self) -> str:
        return self.take(self.number("Q")).decode(errors="replace")

    def skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self.skip(self.number("Q"))
        elif kind == _ARRAY:
            self._skip_array()
        elif kind in _SCALAR_BYTES:
            self.skip(_SCALAR_BYTES[kind])
        else:
            raise BadGguf(f"its header has a value of the unknown kind {kind}")

    def _skip_array(self) -> None:
        kind, count = self.number("I"), self.number("Q")
        if kind in _SCALAR_BYTES:
            self.skip(_SCALAR_BYTES[kind] * count)
        elif kind == _STRING:
            if count * 8 > self._file_bytes:
                raise BadGguf(f"its header announces a list of {count} texts")
            for _ in range(count):
                self.skip(self.number("Q"))
        else:
            raise BadGguf(f"its header has a list of the unknown kind {kind}")
