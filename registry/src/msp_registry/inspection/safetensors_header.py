"""Whether a file can be safetensors, and what its header says of the tensors. Pure."""

import json
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

MAX_HEADER_BYTES = 25_000_000
"""The Hub's own limit for a header that it parses."""

LENGTH_BYTES = 8

_MAX_DIMENSIONS = 64
_MAX_NUMBER = 1 << 63

_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
    "U16": 16, "I16": 16, "F16": 16, "BF16": 16,
    "U32": 32, "I32": 32, "F32": 32,
    "U64": 64, "I64": 64, "F64": 64, "C64": 64,
}  # fmt: skip


class BadHeader(ValueError):
    """Not safetensors, or cut short."""


@dataclass
class Tensors:
    """Which tensors there are, and how many numbers of each type they hold."""

    by_dtype: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)

    @property
    def parameters(self) -> int:
        """All numbers together."""
        return sum(self.by_dtype.values())

    @property
    def dtype(self) -> str | None:
        """The type of most of them; None when there is none."""
        return self.by_dtype.most_common(1)[0][0] if self.by_dtype else None


def header_length(start: bytes, file_bytes: int) -> int:
    """The header's length from the first eight bytes. Raises BadHeader."""
    if len(start) < LENGTH_BYTES:
        raise BadHeader(f"the file has only {file_bytes} bytes")
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES or LENGTH_BYTES + length > file_bytes:
        raise BadHeader(f"its first bytes announce a header of {length} bytes in a file of {file_bytes}")
    return length


def read_header(header: bytes, file_bytes: int) -> Tensors:
    """The tensors that the header lists. Raises BadHeader unless they fill the rest of the file exactly."""
    try:
        entries = json.loads(header)
    except (ValueError, RecursionError) as error:
        raise BadHeader(f"its header is not JSON: {error}") from None
    if not isinstance(entries, dict):
        raise BadHeader("its header is no JSON object")
    tensors = Tensors()
    spans = []
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        spans.append((*_span(name, entry, tensors), name))
        tensors.names.add(name)
    end = 0
    for begin, stop, name in sorted(spans):
        if begin != end:
            raise BadHeader(f"tensor {name!r} begins at {begin}, expected {end}")
        end = stop
    room = file_bytes - LENGTH_BYTES - len(header)
    if end != room:
        raise BadHeader(f"its tensors need {end} bytes, the file has {room}")
    return tensors


def _span(name: str, entry: Any, tensors: Tensors) -> tuple[int, int]:
    try:
        dtype, shape, (begin, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        fine = len(shape) <= _MAX_DIMENSIONS and begin <= stop
        fine = fine and all(isinstance(n, int) and 0 <= n < _MAX_NUMBER for n in (*shape, begin, stop))
    except (KeyError, TypeError, ValueError):
        fine = False
    if not fine:
        raise BadHeader(f"tensor {name!r} has no valid dtype, shape and data_offsets")
    count = math.prod(shape)
    bits = _BITS.get(str(dtype))
    if bits is not None and count * bits != (stop - begin) * 8:
        raise BadHeader(f"tensor {name!r} of {count} {dtype} does not fit its {stop - begin} bytes")
    tensors.by_dtype[str(dtype)] += count
    return begin, stop
