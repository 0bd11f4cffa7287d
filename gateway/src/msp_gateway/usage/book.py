"""What keys used, counted in memory and written to the store in batches."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from typing import Protocol

from msp_common.contracts.keys import UsageLine
from msp_gateway.keys.store import StoreAway

WRITE_EVERY_S = 5.0
"""What a gateway that is killed forgets at most."""
DAY_S = 86400.0

log = logging.getLogger(__name__)


class UsageStore(Protocol):
    """Where usage is kept. Both may block and raise StoreAway."""

    def add(self, lines: Sequence[UsageLine]) -> None:
        """Count these on top of what is there, all or none."""

    def lines(self, since: date, until: date) -> Sequence[UsageLine]:
        """Those of these days, both included."""


class MemoryUsage:
    """Forgets all when the gateway ends: for a gateway without a database."""

    def __init__(self) -> None:
        self._kept: list[UsageLine] = []

    def add(self, lines: Sequence[UsageLine]) -> None:
        """Never raises."""
        self._kept = merged([*self._kept, *lines])

    def lines(self, since: date, until: date) -> Sequence[UsageLine]:
        """Never raises."""
        return [line for line in self._kept if since <= line.day <= until]


@dataclass(slots=True)
class _Sum:
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    audio_s: float = 0.0
    gpu_s: float = 0.0


_COUNTED = [field.name for field in fields(_Sum)]


class UsageBook:
    """`run` is a background task. `clock` gives seconds since the epoch."""

    def __init__(
        self,
        store: UsageStore,
        clock: Callable[[], float] = time.time,
        write_every_s: float = WRITE_EVERY_S,
    ) -> None:
        self._store = store
        self._clock = clock
        self._write_every_s = write_every_s
        self._sums: dict[tuple[date, str, str], _Sum] = {}
        self._day_begins, self._day = -DAY_S, date.min
        self._unwritten: Sequence[UsageLine] = ()
        self._away = False
        self._with_store = asyncio.Lock()
        """Whoever reads meanwhile must not count a batch twice that is just being written."""

    def request(self, key_id: str, model: str, gpu_s: float) -> None:
        """A request has ended."""
        line = self._sum(key_id, model)
        line.requests += 1
        line.gpu_s += gpu_s

    def used(
        self, key_id: str, model: str, prompt_tokens: int, completion_tokens: int, audio_s: float
    ) -> None:
        """A worker told what a request used."""
        line = self._sum(key_id, model)
        line.prompt_tokens += prompt_tokens
        line.completion_tokens += completion_tokens
        line.audio_s += audio_s

    async def lines(self, since: date, until: date) -> Sequence[UsageLine]:
        """Those of these days, with what is not written yet. Raises StoreAway."""
        async with self._with_store:
            written = await asyncio.to_thread(self._store.lines, since, until)
            return merged([*written, *(line for line in self._pending() if since <= line.day <= until)])

    async def write(self) -> None:
        """Write what is new. What cannot be written now is kept for the next time."""
        async with self._with_store:
            self._unwritten, self._sums = self._pending(), {}
            if not self._unwritten:
                return
            try:
                await asyncio.to_thread(self._store.add, self._unwritten)
            except StoreAway as error:
                if not self._away:
                    log.warning("usage cannot be written now, and is kept in memory: %s", error)
                self._away = True
            else:
                self._unwritten, self._away = (), False

    async def run(self) -> None:
        """Write now and then, for ever, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(self._write_every_s)
                # A write that has begun is not given up: it would be made once more below.
                await asyncio.shield(self.write())
        finally:
            await asyncio.shield(self.write())

    def _sum(self, key_id: str, model: str) -> _Sum:
        what = (self._today(), key_id, model)
        line = self._sums.get(what)
        if line is None:
            line = self._sums[what] = _Sum()
        return line

    def _today(self) -> date:
        now = self._clock()
        if not self._day_begins <= now < self._day_begins + DAY_S:
            self._day_begins = now // DAY_S * DAY_S
            self._day = datetime.fromtimestamp(now, UTC).date()
        return self._day

    def _pending(self) -> list[UsageLine]:
        new = [
            UsageLine(day=day, key_id=key_id, model=model, **asdict(line))
            for (day, key_id, model), line in self._sums.items()
        ]
        return merged([*self._unwritten, *new])


def merged(lines: Iterable[UsageLine]) -> list[UsageLine]:
    """One line for each day, key and model, in this order."""
    by_what: dict[tuple[date, str, str], UsageLine] = {}
    for line in lines:
        what = (line.day, line.key_id, line.model)
        seen = by_what.get(what)
        if seen is not None:
            line = line.model_copy(
                update={name: getattr(seen, name) + getattr(line, name) for name in _COUNTED}
            )
        by_what[what] = line
    return [by_what[what] for what in sorted(by_what)]
