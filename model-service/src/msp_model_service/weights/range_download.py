"""Several files at once, each in several ranges at once, hashed in order as it arrives."""

import hashlib
import logging
import threading
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from msp_common.contracts.models import ManifestFile
from msp_model_service.weights.addresses import FileSource
from msp_model_service.weights.cache import Stopped
from msp_model_service.weights.connections import Body, BrokenOff
from msp_model_service.weights.fetch_errors import NotYet, Refused
from msp_model_service.weights.fetching import PARALLEL, Span, in_order
from msp_model_service.weights.partial_file import PartialFile

log = logging.getLogger(__name__)

_TELL_EVERY_BYTES = 4 * 1024 * 1024
_LOOK_EVERY_S = 0.2


@dataclass
class Wanted:
    """A file to be had, and how far it is."""

    file: ManifestFile
    partial: PartialFile
    target: Path
    hashing: threading.Lock = field(default_factory=threading.Lock)
    """Held by the thread that hashes; it also guards what is below."""
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    hashed: int = 0
    """Ranges that the digest holds, from the first on."""
    finished: bool = False
    writers: int = 0
    """Threads that have a range of it in hand; while there are any it is not finished."""
    mistakes: int = 0
    streamed: threading.Lock = field(default_factory=threading.Lock)
    """Held by the thread that reads the file from its beginning, where the server ignores ranges."""


class RangeDownload:
    """One download of a set of files. `run` it once.

    A thread that completes a range also hashes what the file's hash is waiting for: reading it back from
    memory is cheap, and so nothing has to arrive in order.
    """

    def __init__(
        self,
        source: FileSource,
        wanted: Sequence[Wanted],
        on_bytes: Callable[[str, int], None],
        stop: threading.Event,
        parallel: int = PARALLEL,
    ) -> None:
        """`on_bytes` is told a path and how many of its bytes came; below zero when some were thrown away."""
        self._source = source
        self._wanted = wanted
        self._on_bytes = on_bytes
        self._stop = stop
        self._parallel = parallel
        self._news = threading.Condition()
        self._left: deque[tuple[Wanted, int]] = deque()
        self._unfinished = len(wanted)
        self._failure: BaseException | None = None
        self._ending = threading.Event()
        """What is under way is to end too: the worker stops, or nothing would come of it."""

    def run(self) -> None:
        """Until every file has its name. Raises NotYet, Refused, Stopped or OSError.

        After NotYet the ranges under way are brought to their end: they count the next time.
        """
        try:
            for wanted in self._wanted:
                self._open(wanted)
            missing = [
                [i for i in range(len(w.partial.spans)) if i not in w.partial.whole] for w in self._wanted
            ]
            self._left.extend(
                (self._wanted[file], missing[file][index])
                for file, index in in_order([len(m) for m in missing])
            )
            threads = [
                threading.Thread(target=self._work, name=f"fetch-{n}", daemon=True)
                for n in range(min(self._parallel, max(len(self._left), len(self._wanted))))
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_LOOK_EVERY_S)
                    if self._stop.is_set() and not self._ending.is_set():
                        self._fail(Stopped())
            if self._failure is not None:
                raise self._failure
        finally:
            for wanted in self._wanted:
                wanted.partial.close()

    def _open(self, wanted: Wanted) -> None:
        wanted.partial.open(lambda n: self._on_bytes(wanted.file.path, n), self._stop)

    def _work(self) -> None:
        try:
            # Files that are whole already, or empty, have no range left whose arrival would finish them.
            for wanted in self._wanted:
                self._advance(wanted)
            while (piece := self._next()) is not None:
                try:
                    self._fetch(*piece)
                finally:
                    with self._news:
                        piece[0].writers -= 1
                self._advance(piece[0])
        except BaseException as error:  # noqa: BLE001  (raised again by `run`, in the caller's thread)
            self._fail(error)

    def _next(self) -> tuple[Wanted, int] | None:
        with self._news:
            # A file that proves wrong puts its ranges back, so that an empty queue is no end.
            while not self._left and self._unfinished and self._failure is None:
                self._news.wait()
            if self._failure is not None or not self._unfinished:
                return None
            piece = self._left.popleft()
            piece[0].writers += 1
            return piece

    def _fail(self, error: BaseException) -> None:
        with self._news:
            self._failure = self._failure or error
            self._news.notify_all()
        if not isinstance(error, NotYet):
            self._ending.set()
            self._source.abort()

    # Bytes.

    def _fetch(self, wanted: Wanted, index: int) -> None:
        """One range, going on where it broke off as long as each attempt brings something."""
        if index in wanted.partial.whole or self._is_streamed(wanted):
            return
        span, crc = wanted.partial.spans[index], 0
        at, counter = span.start, _Counter(self._on_bytes, wanted.file.path)
        while at < span.end:
            began, reason = at, "the connection was closed"
            try:
                with self._source.open(wanted.file, Span(at, span.end)) as body:
                    if self._is_too_long(wanted, body):
                        continue
                    if body.start != at or (body.whole and len(wanted.partial.spans) > 1):
                        counter.take_back()
                        self._stream(wanted, body)
                        return
                    while at < span.end and (data := body.read()[: span.end - at]):
                        self._go_on()
                        wanted.partial.write(data, at)
                        crc = zlib.crc32(data, crc)
                        at += len(data)
                        counter.add(len(data))
            except BrokenOff as error:
                self._go_on()
                reason = str(error)
            if at == began:
                counter.take_back()
                raise NotYet(
                    f"{wanted.file.path} ended after {at} of {wanted.file.size_bytes} bytes: {reason}"
                )
        counter.tell()
        if not wanted.partial.settle(index, crc):
            counter.take_back()

    def _is_streamed(self, wanted: Wanted) -> bool:
        """Whether another thread reads the file from its beginning, and so this range too."""
        if wanted.streamed.acquire(blocking=False):
            wanted.streamed.release()
            return False
        return True

    def _stream(self, wanted: Wanted, body: Body) -> None:
        """The whole file from its beginning. One thread does this for a file; the others leave it alone."""
        if not wanted.streamed.acquire(blocking=False):
            return
        try:
            if len(wanted.partial.whole) < len(wanted.partial.spans):
                self._stream_ranges(wanted, body)
        finally:
            wanted.streamed.release()

    def _stream_ranges(self, wanted: Wanted, body: Body) -> None:
        data, at = b"", 0
        for index, span in enumerate(wanted.partial.spans):
            crc, counter = 0, _Counter(self._on_bytes, wanted.file.path)
            known = index in wanted.partial.whole
            while at < span.end:
                try:
                    data = data or body.read()
                except BrokenOff as error:
                    counter.take_back()
                    raise NotYet(f"{wanted.file.path} broke off at {at}: {error}") from error
                self._go_on()
                if not data:
                    counter.take_back()
                    raise NotYet(f"{wanted.file.path} ended after {at} of {wanted.file.size_bytes} bytes")
                part, data = data[: span.end - at], data[span.end - at :]
                if not known:
                    wanted.partial.write(part, at)
                    crc = zlib.crc32(part, crc)
                    counter.add(len(part))
                at += len(part)
            counter.tell()
            if not known and not wanted.partial.settle(index, crc):
                counter.take_back()

    def _is_too_long(self, wanted: Wanted, body: Body) -> bool:
        if body.total is None or body.total <= wanted.file.size_bytes:
            return False
        self._mistaken(wanted, f"{wanted.file.path} has {body.total} bytes")
        return True

    def _mistaken(self, wanted: Wanted, found: str) -> None:
        """Raises Refused the second time. The first may come from a damaged partial file or the way here."""
        wrong = f"{found}; its manifest says {wanted.file.size_bytes} bytes, SHA-256 {wanted.file.sha256}"
        wanted.mistakes += 1
        if wanted.mistakes > 1 or not wanted.file.size_bytes:
            raise Refused(
                f"{wrong}; what the registry holds is damaged: `msp models verify` there tells more and "
                "repairs it where it can"
            )
        log.warning("%s; fetching it once more from the start", wrong)

    def _go_on(self) -> None:
        if self._ending.is_set():
            raise Stopped

    # Hashes.

    def _advance(self, wanted: Wanted) -> None:
        """Hash what is whole and in order, unless another thread is at it; finish the file at its end."""
        while self._can_advance(wanted):
            if not wanted.hashing.acquire(blocking=False):
                # That thread looks once more after letting go, and so sees what this one has done.
                return
            try:
                while wanted.hashed in wanted.partial.whole:
                    span = wanted.partial.spans[wanted.hashed]
                    wanted.partial.each_chunk(span, self._ending, wanted.digest.update)
                    wanted.hashed += 1
                if self._is_alone(wanted):
                    self._complete(wanted)
            finally:
                wanted.hashing.release()

    def _can_advance(self, wanted: Wanted) -> bool:
        if wanted.finished:
            return False
        at_end = wanted.hashed == len(wanted.partial.spans)
        return wanted.writers == 0 if at_end else wanted.hashed in wanted.partial.whole

    def _is_alone(self, wanted: Wanted) -> bool:
        """Whether all is hashed and nobody has, or can get, a range of the file: it may then be moved."""
        with self._news:
            if wanted.finished or wanted.hashed < len(wanted.partial.spans) or wanted.writers:
                return False
            self._left = deque(piece for piece in self._left if piece[0] is not wanted)
            return True

    def _complete(self, wanted: Wanted) -> None:
        found = wanted.digest.hexdigest()
        if found == wanted.file.sha256:
            wanted.partial.finish(wanted.target)
            wanted.finished = True
            with self._news:
                self._unfinished -= 1
                self._news.notify_all()
            return
        wanted.partial.discard()
        self._on_bytes(wanted.file.path, -wanted.file.size_bytes)
        self._mistaken(wanted, f"{wanted.file.path} has SHA-256 {found}")
        wanted.digest, wanted.hashed = hashlib.sha256(), 0
        self._open(wanted)
        with self._news:
            self._left.extend((wanted, index) for index in range(len(wanted.partial.spans)))
            self._news.notify_all()


class _Counter:
    """Tells of bytes in larger lots: a call for each piece that arrives would cost more than the piece."""

    def __init__(self, on_bytes: Callable[[str, int], None], path: str) -> None:
        self._on_bytes = on_bytes
        self._path = path
        self._untold = 0
        self._told = 0

    def add(self, count: int) -> None:
        self._untold += count
        if self._untold >= _TELL_EVERY_BYTES:
            self.tell()

    def tell(self) -> None:
        if self._untold:
            self._on_bytes(self._path, self._untold)
        self._told, self._untold = self._told + self._untold, 0

    def take_back(self) -> None:
        """What came did not count."""
        if self._told:
            self._on_bytes(self._path, -self._told)
        self._told = self._untold = 0
