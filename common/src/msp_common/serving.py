"""Starting and stopping a program: settings, logs, listening sockets, uvicorn, exit codes."""

import asyncio
import gc
import logging
import resource
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from msp_common import logs
from msp_common.draining import Draining
from msp_common.http_protocol import LimitedProtocol
from msp_common.settings import Settings, SettingsError

EXIT_USAGE = 2
"""Exit code for settings that a program cannot start with, and for a port that is taken."""

S = TypeVar("S", bound=Settings)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TlsFiles:
    """A server's certificate, with the chain up to its authority, and its private key; both PEM."""

    certificate: Path
    key: Path

    def check(self) -> None:
        """Raises SettingsError for files that no server can be started with."""
        try:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"the TLS certificate {self.certificate} cannot be used with the key {self.key}: {error}"
            ) from None


class PortTaken(Exception):
    """A port that the program must listen on belongs to another process."""


def load_or_exit(settings_class: type[S], service: str) -> S:
    """The settings from the environment; on a mistake say which variable is wrong and exit with code 2."""
    try:
        settings = settings_class.load()
    except SettingsError as error:
        _refuse_to_start(service, error)
    logs.configure(service, settings.log_format, settings.log_level)
    return settings


def _refuse_to_start(service: str, error: SettingsError) -> NoReturn:
    sys.stderr.write(f"{service}: cannot start, the settings are wrong:\n{error}\n")
    raise SystemExit(EXIT_USAGE) from None


def listen(host: str, port: int) -> socket.socket:
    """A bound, listening TCP socket. Raises PortTaken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise PortTaken(f"cannot listen on {host}:{port}: {error.strerror}") from error
    # As deep as the kernel's default limit; a shallower queue refuses connections in bursts.
    sock.listen(4096)
    return sock


def listen_or_exit(host: str, ports: Sequence[int]) -> list[socket.socket]:
    """A listening socket for each of the ports; if one is taken, say so and exit with code 2."""
    try:
        return [listen(host, port) for port in dict.fromkeys(ports)]
    except PortTaken as error:
        log.error("%s; set another port or stop the other process", error)
        raise SystemExit(EXIT_USAGE) from None


def serve(
    app: ASGIApp,
    sockets: list[socket.socket],
    *,
    grace_s: float,
    protocol: type[LimitedProtocol] | None = None,
    still_open: Callable[[], Iterable[Coroutine[Any, Any, None]]] = tuple,
    tls: TlsFiles | None = None,
    draining: Draining | None = None,
) -> None:
    """Serve `app` on these sockets until SIGTERM or SIGINT; open requests then have `grace_s` to finish.

    `protocol` is for programs that clients of all kinds reach (`limited_by`); with `tls` all ports speak
    nothing else. With `draining`, which the application must heed, new requests are still taken until the
    open ones are over; otherwise new connections are refused from the signal on. `still_open` tells what else
    than the server's own tasks is to be waited for then.
    """
    if find_spec("uvloop") is None:
        log.error("the package uvloop is missing: install the program with all that it depends on")
        raise SystemExit(EXIT_USAGE)
    config = uvicorn.Config(
        app,
        interface="asgi3",
        loop="uvloop",
        http=protocol or "httptools",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws="none",
        # Longer than any client or gateway keeps an idle connection, so that the other side closes first.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=1 if draining else max(1, round(grace_s)),
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    _raise_file_limit()
    # What is loaded by now stays for life: keep the collector from walking it again and again. What a request
    # makes is gone without it.
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    server = _Server(config, draining, grace_s, still_open)
    # uvicorn raises the signal that stopped it once more when all is done; a stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(0))
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=sockets))
    if not server.started:
        raise SystemExit(1)


def _raise_file_limit() -> None:
    """Every connection is a file; the usual soft limit of 1024 is there for programs that use select()."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Server(uvicorn.Server):
    """Lets what was open at the signal come to its end before it stops listening."""

    def __init__(
        self,
        config: uvicorn.Config,
        draining: Draining | None,
        grace_s: float,
        still_open: Callable[[], Iterable[Coroutine[Any, Any, None]]],
    ) -> None:
        super().__init__(config)
        self._still_open = still_open
        self._draining = draining
        self._grace_s = grace_s

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, after that."""
        for waiting in self._still_open():
            task = asyncio.create_task(waiting)
            self.server_state.tasks.add(task)
            task.add_done_callback(self.server_state.tasks.discard)
        if self._draining is not None and (still_open := set(self.server_state.tasks)):
            self._draining.begin(self._grace_s)
            await asyncio.wait(still_open, timeout=self._grace_s)
        await super().shutdown(sockets)


def run(
    service: str,
    settings_class: type[S],
    build: Callable[[S], FastAPI],
    *,
    listens: Callable[[S], tuple[str, Sequence[int]]],
    grace_s: float = 10,
) -> None:
    """The `main` of a program: read settings, set up logs, build the application, serve it.

    `build` may raise SettingsError, for what it finds wrong in a file that a setting names.
    """
    settings = load_or_exit(settings_class, service)
    host, ports = listens(settings)
    try:
        app = build(settings)
    except SettingsError as error:
        _refuse_to_start(service, error)
    serve(app, listen_or_exit(host, ports), grace_s=grace_s)
