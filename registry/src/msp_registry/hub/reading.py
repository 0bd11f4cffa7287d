"""Reading pieces of a hub's files, whatever breaks on the way."""

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from weakref import WeakValueDictionary

import httpx

from msp_registry.failures import HubMisbehaved, HubUnreachable, WrongBytes
from msp_registry.hub.refusals import Asked, other_size
from msp_registry.hub.requests import TRIES, HubRequests
from msp_registry.hub.selection import RemoteFile
from msp_registry.transfers.file_source import RangesIgnored

_REMEMBERED_PLACES = 1024
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

log = logging.getLogger(__name__)


class HubReader:
    """Reads files by their resolve addresses.

    Where such an address leads, often a signed one of another host, is remembered for the file's other
    pieces: each resolve counts against the hub's limits, the place itself does not.
    """

    def __init__(self, requests: HubRequests) -> None:
        self._requests = requests
        self._places: OrderedDict[str, str | None] = OrderedDict()
        """None: the hub gives the file itself."""
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def read(
        self, url: str, asked: Asked, file: RemoteFile, offset: int, length: int
    ) -> AsyncGenerator[bytes, None]:
        """Exactly these bytes; after a break, the rest is asked for. Raises JobFailure and RangesIgnored."""
        end = offset + length
        whole = length == file.size_bytes
        done, failures = offset, 0
        while done < end:
            before = done
            gone_wrong: type[HubUnreachable | HubMisbehaved] = HubUnreachable
            try:
                async with aclosing(self._pieces(url, asked, file, done, end, whole)) as pieces:
                    async for chunk in pieces:
                        done += len(chunk)
                        yield chunk
                if done == end:
                    return
                reason = f"the body ended at byte {done} of {end}"
            except httpx.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            except _OtherRange as error:
                gone_wrong, reason = HubMisbehaved, str(error)
            self._places.pop(url, None)
            failures = 1 if done > before else failures + 1
            if failures >= TRIES:
                raise gone_wrong(f"{url} broke off {failures} times at byte {done}: {reason}")
            log.warning("%s broke off at byte %d (%s); asking for the rest", url, done, reason)
            await self._requests.pause(failures)

    async def probe(self, url: str, asked: Asked, file: RemoteFile) -> None:
        """Ask for one byte: whether we may read the file at all. Raises JobFailure."""
        async with self._opened(url, asked, _headers(0, 1) if file.size_bytes else _headers(0, 0)):
            pass

    async def _pieces(
        self, url: str, asked: Asked, file: RemoteFile, offset: int, end: int, whole: bool
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of one answer, as far as they are asked for."""
        headers = _headers(0, 0) if whole and not offset else _headers(offset, end)
        async with self._opened(url, asked, headers) as response:
            skip = offset - _first_byte(response, file, offset)
            if response.status_code == 200 and not whole:
                raise RangesIgnored(file.path)
            left = end - offset
            # Chunks as they arrive: of larger ones httpx would drop the last when the connection breaks.
            # The loop goes on to the body's end, or the connection could not be used again.
            async for chunk in response.aiter_raw():
                data = chunk[skip:] if skip else chunk
                skip -= len(chunk) - len(data)
                if len(data) > left:
                    if end == file.size_bytes:
                        raise WrongBytes(
                            f"{file.path}: the hub's list says {file.size_bytes} bytes, its file has more"
                        )
                    yield data[:left]
                    return
                if data:
                    left -= len(data)
                    yield data

    @asynccontextmanager
    async def _opened(
        self, url: str, asked: Asked, headers: dict[str, str]
    ) -> AsyncGenerator[httpx.Response, None]:
        async with AsyncExitStack() as stack:
            yield await self._answer(stack, url, asked, headers)

    async def _answer(
        self, stack: AsyncExitStack, url: str, asked: Asked, headers: dict[str, str]
    ) -> httpx.Response:
        """Of the file's place, or of the hub where that is not known or no longer good."""
        for _ in range(2):
            # One piece asks the hub, the others wait for the head of its answer, which tells them the place.
            async with self._turn(url):
                if url not in self._places:
                    return await self._asked_of_hub(stack, url, asked, headers)
                place = self._places[url]
            if place is None:
                break
            response = await stack.enter_async_context(self._requests.open_once(place, headers))
            if response is not None:
                return response
            if self._places.get(url) == place:
                del self._places[url]
        return await self._asked_of_hub(stack, url, asked, headers)

    async def _asked_of_hub(
        self, stack: AsyncExitStack, url: str, asked: Asked, headers: dict[str, str]
    ) -> httpx.Response:
        response = await stack.enter_async_context(self._requests.open(url, asked, "files", headers))
        self._places[url] = str(response.url) if response.history else None
        while len(self._places) > _REMEMBERED_PLACES:
            self._places.popitem(last=False)
        return response

    def _turn(self, url: str) -> asyncio.Lock:
        lock = self._turns.get(url)
        if lock is None:
            lock = self._turns[url] = asyncio.Lock()
        return lock


class _OtherRange(Exception):
    """The answer is not what was asked for; another try may bring it."""


def _headers(offset: int, end: int) -> dict[str, str]:
    """Of a request for these bytes; for the whole file when there are none."""
    headers = {"Accept-Encoding": "identity"}
    if end > offset:
        headers["Range"] = f"bytes={offset}-{end - 1}"
    return headers


def _first_byte(response: httpx.Response, file: RemoteFile, offset: int) -> int:
    """Where the body begins in the file; a server may ignore Range and send all (200)."""
    if response.headers.get("content-encoding", "identity") != "identity":
        # Never the address itself: a redirect's often carries a signature that opens the file to anyone.
        raise HubMisbehaved(f"{response.url.host} sends {file.path} compressed, although it was asked not to")
    if response.status_code == 200:
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and int(announced) != file.size_bytes:
            raise other_size(file, int(announced))
        return 0
    found = response.headers.get("content-range", "")
    match = _CONTENT_RANGE.fullmatch(found)
    if match is None or int(match[1]) != offset:
        raise _OtherRange(f"bytes from {offset} were asked for, the answer's Content-Range is {found!r}")
    if match[3] != "*" and int(match[3]) != file.size_bytes:
        raise other_size(file, int(match[3]))
    return offset
