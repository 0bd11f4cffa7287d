"""In which pieces files are fetched, and in which order: decisions only."""

from collections.abc import Sequence
from dataclasses import dataclass

from msp_common.contracts.models import ManifestFile

RANGE_BYTES = 32 * 1024 * 1024
"""Large enough that a request's round trip does not count, small enough that little is fetched twice after a
kill: at most this much for each connection."""

PARALLEL = 8
"""Ranged requests on their way at once."""

_FILES_AT_ONCE = 4


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end` of a file, `end` not included."""

    start: int
    end: int


def spans_of(size_bytes: int, range_bytes: int = RANGE_BYTES) -> list[Span]:
    """The ranges of a file, in order; none for an empty file."""
    return [Span(start, min(start + range_bytes, size_bytes)) for start in range(0, size_bytes, range_bytes)]


def in_order(spans: Sequence[int]) -> list[tuple[int, int]]:
    """(file, range) for all ranges, given how many each file has: the order in which to ask for them.

    Files with most ranges come first, since their hash takes longest. A few files advance side by side: one
    file's hash runs on one core, and it has to keep up with the network. Inside a file ranges come in order,
    so that the hash can follow.
    """
    largest_first = sorted(range(len(spans)), key=lambda file: -spans[file])
    order: list[tuple[int, int]] = []
    for begin in range(0, len(largest_first), _FILES_AT_ONCE):
        group = largest_first[begin : begin + _FILES_AT_ONCE]
        most = max(spans[file] for file in group)
        order += [(file, index) for index in range(most) for file in group if index < spans[file]]
    return order


def rounds(files: Sequence[ManifestFile]) -> list[list[ManifestFile]]:
    """The files in groups without equal contents: on its way a file is named by its content.

    Equal files are small in practice (empty ones, copies of a configuration), so that fetching them again is
    no loss.
    """
    groups: list[dict[str, ManifestFile]] = []
    for file in files:
        group = next((g for g in groups if file.sha256 not in g), None)
        if group is None:
            groups.append(group := {})
        group[file.sha256] = file
    return [list(group.values()) for group in groups]
