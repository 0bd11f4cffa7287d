"""Starting and stopping a program: settings, logs, listening sockets, uvicorn, exit codes."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar

import uvicorn
from fastapi import FastAPI

from msp_common import logs
from msp_common.settings import Settings, SettingsError

EXIT_USAGE = 2
"""Exit code for settings that a program cannot start with, and for a port that is taken."""

S = TypeVar("S", bound=Settings)
log = logging.getLogger(__name__)


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


def serve(app: FastAPI, *, host: str, ports: Sequence[int], grace_s: float) -> None:
    """Serve `app` on all `ports` until SIGTERM or SIGINT; open requests then have `grace_s` to finish."""
    try:
        sockets = [listen(host, port) for port in dict.fromkeys(ports)]
    except PortTaken as error:
        log.error("%s; set another port or stop the other process", error)
        raise SystemExit(EXIT_USAGE) from None
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        # Longer than any client or gateway keeps an idle connection, so that the other side closes first.
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(grace_s)),
    )
    # What is loaded by now stays for life: keep the collector from walking it again and again.
    gc.collect()
    gc.freeze()
    server = uvicorn.Server(config)
    # uvicorn raises the signal that stopped it once more when all is done; a stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(0))
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(server.serve(sockets=sockets))
    if not server.started:
        raise SystemExit(1)


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
    serve(app, host=host, ports=ports, grace_s=grace_s)
