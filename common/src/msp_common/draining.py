"""A program that is being stopped: what is open goes on, what is new is asked to come again."""

import time
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from msp_common.error_response import error_response
from msp_common.errors import Unavailable

ANSWERED = frozenset({"/livez", "/metrics"})
"""Answered to the end: a program that drains is alive, and its last minute is worth measuring."""


class Draining:
    """Begins once, at the signal to stop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: float | None = None

    def begin(self, grace_s: float) -> None:
        """The program stops; what is open may go on for so long."""
        self._until = self._clock() + grace_s

    @property
    def left_s(self) -> float | None:
        """Seconds until the program ends at the latest; null while it is not being stopped."""
        return None if self._until is None else max(0.0, self._until - self._clock())


class RefuseWhileDraining:
    """ASGI middleware: new requests are answered 503 with the time at which to come again.

    Clients that repeat requests, as the official ones do, wait for that time, and find the next process. Were
    their connections refused, they would give up within two seconds.
    """

    def __init__(self, app: ASGIApp, draining: Draining) -> None:
        self.app = app
        self._draining = draining

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one ASGI connection. No coroutine of its own: it is on the way of every request."""
        left_s = self._draining.left_s
        if left_s is None or scope["type"] != "http" or scope["path"] in ANSWERED:
            return self.app(scope, receive, send)
        error = Unavailable("The program is being restarted; ask again.", retry_after_s=left_s + 1)
        return error_response(error)(scope, receive, send)
