"""A request's body, kept so that it can be sent again to the next replica."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

from starlette.types import Message, Receive

from msp_common.errors import PayloadTooLarge

SPOOL_MEMORY_BYTES = 1024 * 1024
"""Uploads longer than this wait in a temporary file instead of memory."""

CHUNK_BYTES = 64 * 1024


class ClientLeft(Exception):
    """The client closed its connection; nobody is left to answer."""


class Body(Protocol):
    """Bytes of known number that can be read any number of times, one reader after another."""

    @property
    def size_bytes(self) -> int:
        """How many bytes `chunks` gives in total."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the beginning."""


class MemoryBody:
    """A body held as it arrived, part by part."""

    def __init__(self, parts: list[bytes]) -> None:
        self._parts = parts
        self.size_bytes = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        """How many bytes `chunks` gives in total."""

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the beginning."""
        return iter(self._parts)


class SpooledBody:
    """A body that moves to a temporary file once it is long. `close` removes the file.

    Reading and writing do not wait for the disk: 64 KiB at a time go to and from the page cache.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES)  # noqa: SIM115
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """How many bytes `chunks` gives in total."""
        return self._size_bytes

    def append(self, chunk: bytes) -> None:
        """Take the next bytes; not once reading has begun."""
        self._file.write(chunk)
        self._size_bytes += len(chunk)

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the beginning."""
        self._file.seek(0)
        while chunk := self._file.read(CHUNK_BYTES):
            yield chunk

    def slice(self, start: int, end: int) -> bytes:
        """The bytes of [start, end)."""
        self._file.seek(start)
        return self._file.read(end - start)

    def close(self) -> None:
        """Give up memory and file."""
        self._file.close()


class SplicedBody:
    """Another body with the bytes of [start, end) replaced."""

    def __init__(self, body: Body, start: int, end: int, replacement: bytes) -> None:
        self._body, self._start, self._end, self._replacement = body, start, end, replacement

    @property
    def size_bytes(self) -> int:
        """How many bytes `chunks` gives in total."""
        return self._body.size_bytes - (self._end - self._start) + len(self._replacement)

    def chunks(self) -> Iterator[bytes]:
        """The bytes from the beginning."""
        position, replaced = 0, False
        for chunk in self._body.chunks():
            before = chunk[: max(0, self._start - position)]
            after = chunk[max(0, self._end - position) :]
            position += len(chunk)
            if before:
                yield before
            if not replaced and position >= self._start:
                replaced = True
                yield self._replacement
            if after:
                yield after


async def arriving(receive: Receive, limit_bytes: int, announced: bytes | None) -> AsyncIterator[bytes]:
    """The body's bytes as they come in; `announced` is the Content-Length, if there is one.

    Raises PayloadTooLarge as soon as the body is announced, or turns out, to be longer than the limit, and
    ClientLeft when the client goes away before its end.
    """
    _check_announced(announced, limit_bytes)
    seen, more = 0, True
    while more:
        chunk, more = _part(await receive())
        seen += len(chunk)
        if seen > limit_bytes:
            raise _too_large(limit_bytes)
        if chunk:
            yield chunk


async def read_parts(receive: Receive, limit_bytes: int, announced: bytes | None) -> list[bytes]:
    """The same, all at once: most bodies come in one piece."""
    _check_announced(announced, limit_bytes)
    parts, seen, more = [], 0, True
    while more:
        chunk, more = _part(await receive())
        seen += len(chunk)
        if seen > limit_bytes:
            raise _too_large(limit_bytes)
        if chunk:
            parts.append(chunk)
    return parts


def _check_announced(announced: bytes | None, limit_bytes: int) -> None:
    if announced is not None and announced.isdigit() and int(announced) > limit_bytes:
        raise _too_large(limit_bytes)


def _part(message: Message) -> tuple[bytes, bool]:
    if message["type"] == "http.disconnect":
        raise ClientLeft
    return message.get("body", b""), message.get("more_body", False)


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than the limit of {limit_bytes} bytes.", param="body")
