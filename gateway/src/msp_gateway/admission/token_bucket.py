"""A limit per minute as a bucket that fills at an even rate. Pure: the present moment is handed in."""

MINUTE_S = 60.0


class TokenBucket:
    """Full at first. Its level may fall below nothing: what was used is known only afterwards."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._level = float(per_minute)
        self._at = now

    def level(self, now: float) -> float:
        """What can be taken now; never more than one minute's worth."""
        # A clock that stands still or goes back fills nothing.
        self._level += max(0.0, now - self._at) * self.per_minute / MINUTE_S
        self._level = min(self._level, float(self.per_minute))
        self._at = max(self._at, now)
        return self._level

    def wait_s(self, amount: float, now: float) -> float:
        """How long until `amount` can be taken, 0 if it can be now. More than it holds needs it full."""
        missing = min(amount, self.per_minute) - self.level(now)
        return max(0.0, missing * MINUTE_S / self.per_minute)

    def take(self, amount: float, now: float) -> None:
        """Take that much, also where it is not there. Negative amounts are given back."""
        self._level = min(self.level(now) - amount, float(self.per_minute))

    def full_in_s(self, now: float) -> float:
        """How long until it is full again, if nothing more is taken."""
        return (self.per_minute - self.level(now)) * MINUTE_S / self.per_minute

    def resize(self, per_minute: int, now: float) -> None:
        """A new limit: what was used of the old one stays used."""
        used = self.per_minute - self.level(now)
        self.per_minute = per_minute
        self._level = per_minute - used
