"""The server's side of the short way: uvicorn's connection, which asks it before starting a task."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from msp_common.http_protocol import ConnectionLimits, LimitedProtocol, limited_by
from msp_gateway.direct.exchange import Exchange
from msp_gateway.direct.way import Ordinary, ShortWay
from msp_gateway.paths import RelayPath


class DirectProtocol(LimitedProtocol):
    """One connection. Use `direct_protocol`, which makes the class for a server."""

    way: ShortWay

    _arriving_whole: tuple[RelayPath, RequestResponseCycle] | None = None
    _exchange: Exchange | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        self._arriving_whole = None
        super().connection_lost(exc)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()

    def resume_writing(self) -> None:
        """Called by the transport."""
        super().resume_writing()
        if self._exchange is not None:
            self._exchange.go_on()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        super().on_message_complete()
        if self._arriving_whole is not None:
            self._take()

    def on_response_complete(self) -> None:
        """Called at the end of an answer."""
        self._exchange = None
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        path = self.way.path_of(cycle.scope) if app is self.app else None
        if path is None:
            super()._start_asgi_task(cycle, app)
            return
        self._running = cycle
        self._arriving_whole = path, cycle
        if not cycle.more_body:
            self._take()

    def _take(self) -> None:
        assert self._arriving_whole is not None  # noqa: S101
        (path, cycle), self._arriving_whole = self._arriving_whole, None
        if self.transport.is_closing():
            return

        def go_ordinary(ordinary: Ordinary) -> None:
            self._exchange = None
            super(DirectProtocol, self)._start_asgi_task(cycle, ordinary)

        self._exchange = self.way.begin(path, cycle, go_ordinary)


def direct_protocol(way: ShortWay, limits: ConnectionLimits) -> type[DirectProtocol]:
    """The class for `uvicorn.Config(http=...)`, for one server."""
    protocol = limited_by(limits, DirectProtocol)
    protocol.way = way
    return protocol
