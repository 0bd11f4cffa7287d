"""Where the bytes of a snapshot's files are: addresses that may hold for a limited time only."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol
from urllib.parse import quote

from msp_common.contracts.models import FileUrl, ManifestFile, ModelInfo
from msp_model_service.weights.connections import Body, Connections, NotAllowed
from msp_model_service.weights.fetch_errors import NotYet
from msp_model_service.weights.fetching import Span

log = logging.getLogger(__name__)

_MARGIN_S = 10.0
"""An address that ends sooner is renewed before it is used: the request has to get there."""


class FileSource(Protocol):
    """Opens files. Calls block, and may come from several threads."""

    def open(self, file: ManifestFile, span: Span) -> AbstractContextManager[Body]:
        """The bytes of that range. Raises BrokenOff, or NotYet."""

    def abort(self) -> None:
        """Break off everything under way, from another thread."""


class Addresses:
    """The addresses of one snapshot, renewed at the registry when their time is over.

    An address is over by the clock, or when its server answers 401, 403 or 410. All threads that find it so
    are served by one question to the registry. Where the answer's addresses seem to be over as well, the two
    clocks disagree: then only the server's word counts.
    """

    def __init__(
        self,
        base_url: str,
        info: ModelInfo,
        ask_again: Callable[[], ModelInfo],
        connections: Connections,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._base_url = base_url
        self._id, self._commit = info.id, info.commit
        self._urls = {url.path: url for url in info.urls}
        self._ask_again = ask_again
        self._connections = connections
        self._clock = clock
        self._clock_counts = True
        self._lock = threading.Lock()

    @contextmanager
    def open(self, file: ManifestFile, span: Span) -> Iterator[Body]:
        """See FileSource."""
        url = self._current(file)
        whole = span.start == 0 and span.end == file.size_bytes
        end = None if whole else span.end
        with ExitStack() as stack:
            try:
                body = stack.enter_context(self._connections.get(url, span.start, end))
            except NotAllowed:
                body = stack.enter_context(self._connections.get(self._renewed(file, url), span.start, end))
            yield body

    def abort(self) -> None:
        """See FileSource."""
        self._connections.abort()

    def _current(self, file: ManifestFile) -> str:
        with self._lock:
            given = self._urls.get(file.path)
            if self._clock_counts and self._over(given):
                self._renew("are over")
                if self._over(self._urls.get(file.path)):
                    log.warning("addresses from the registry are over on arrival: the two clocks disagree")
                    self._clock_counts = False
        return self._url(file)

    def _renewed(self, file: ManifestFile, refused: str) -> str:
        with self._lock:
            if self._url(file) == refused:  # else another thread was faster
                self._renew("were refused")
        return self._url(file)

    def _renew(self, why: str) -> None:
        log.info(
            "the addresses of %s at %s %s; asking the registry for new ones", self._id, self._commit, why
        )
        info = self._ask_again()
        if info.commit != self._commit:
            raise NotYet(f"the registry answered {info.commit} when asked for commit {self._commit} again")
        self._urls = {url.path: url for url in info.urls}

    def _over(self, given: FileUrl | None) -> bool:
        return (
            given is not None
            and given.expires_at is not None
            and self._clock() >= given.expires_at - _MARGIN_S
        )

    def _url(self, file: ManifestFile) -> str:
        given = self._urls.get(file.path)
        url = given.url if given else f"/files/{quote(self._id)}/{self._commit}/{quote(file.path)}"
        return url if "://" in url.partition("?")[0] else f"{self._base_url.rstrip('/')}/{url.lstrip('/')}"
