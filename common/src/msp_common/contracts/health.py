"""Answer of `GET /health` of every program."""

from typing import Literal

from msp_common.contracts.base import Contract


class Part(Contract):
    """One part that a program depends on."""

    status: Literal["ok", "degraded", "down"]
    reason: str | None = None


class Health(Contract):
    """`ok` and `degraded` are answered with 200, `down` with 503 and the same body."""

    status: Literal["ok", "degraded", "down"]
    reason: str | None = None
    service: str
    version: str
    parts: dict[str, Part] = {}

    @property
    def http_status(self) -> int:
        """The status to answer with."""
        return 503 if self.status == "down" else 200
