"""When which snapshot is read back: in quiet hours, the one whose last verification is oldest. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta

# Clocks are set and machines sleep; nobody waits longer than this without looking at the time again.
_LONGEST_WAIT_S = 3600.0
_SHORTEST_WAIT_S = 1.0


@dataclass(frozen=True)
class QuietHours:
    """A span of the day in local time; it may pass midnight, and with equal ends it is the whole day."""

    begins: time
    ends: time

    def contain(self, now: datetime) -> bool:
        """Whether a moment lies in them."""
        at = now.time()
        if self.begins < self.ends:
            return self.begins <= at < self.ends
        return at >= self.begins or at < self.ends

    def begin_in_s(self, now: datetime) -> float:
        """Seconds until they begin; 0 inside them."""
        if self.contain(now):
            return 0.0
        begins = now.replace(hour=self.begins.hour, minute=self.begins.minute, second=0, microsecond=0)
        if begins <= now:
            begins += timedelta(days=1)
        return (begins - now).total_seconds()


def quiet_hours(text: str) -> QuietHours | None:
    """REGISTRY_SCRUB_HOURS: `HH:MM-HH:MM`, or None for `off`. Raises ValueError."""
    if text == "off":
        return None
    begins, _, ends = text.partition("-")
    return QuietHours(time.fromisoformat(begins), time.fromisoformat(ends))


@dataclass(frozen=True)
class Due:
    """This snapshot is to be read back now."""

    name: str


@dataclass(frozen=True)
class Wait:
    """Nothing is to be done for so long, in seconds."""

    seconds: float


def what_next(
    now: datetime,
    unix_now: float,
    hours: QuietHours,
    verified: Mapping[str, float],
    *,
    every_days: float,
    begun: str | None = None,
) -> Due | Wait:
    """`verified` has the Unix time of each snapshot's last verification, its arrival being one.

    `begun` is a snapshot that an earlier night did not come to the end of: it goes first.
    """
    if not hours.contain(now):
        return Wait(_bounded(hours.begin_in_s(now)))
    if begun is not None and begun in verified:
        return Due(begun)
    if not verified:
        return Wait(_LONGEST_WAIT_S)
    name = min(verified, key=lambda n: (verified[n], n))
    due_in_s = verified[name] + every_days * 86_400 - unix_now
    return Due(name) if due_in_s <= 0 else Wait(_bounded(due_in_s))


def _bounded(seconds: float) -> float:
    return min(max(seconds, _SHORTEST_WAIT_S), _LONGEST_WAIT_S)
