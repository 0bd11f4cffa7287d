"""Real servers for tests: an ASGI application on a free port, served by uvicorn in a thread."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

_LOOK_S = 0.005
"""How often a server that stops looks whether its connections are gone."""


class _Prompt(uvicorn.Server):
    """Tells when startup, the application's own included, is over, and stops as soon as it is told to.

    uvicorn looks ten times a second whether it must stop and whether its connections are gone, and sleeps
    before that: a fifth of a second for each server, of which the tests stop hundreds.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()

    def stop(self) -> None:
        """For another thread: end what is open and stop; the thread that serves ends then."""
        self.should_exit = True
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed: it stopped by itself
                self._loop.call_soon_threadsafe(self._told.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; `settled` is set whether it worked or not."""
        try:
            await super().startup(sockets=sockets)
        finally:
            self._loop = asyncio.get_running_loop()
            self.settled.set()

    async def main_loop(self) -> None:
        """As uvicorn's, which is due for a new date header once a second."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._told.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, without its sleeps."""
        for server in self.servers:
            server.close()
        for sock in sockets or []:
            sock.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(self.config.timeout_graceful_shutdown):
                while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            for task in self.server_state.tasks:
                task.cancel("the test server stops")
        await self.lifespan.shutdown()


@contextmanager
def run_server(app: Any, *, host: str = "127.0.0.1", port: int = 0, http: Any = "auto") -> Iterator[str]:
    """Serve `app` until the block ends; gives the base URL, without a trailing slash.

    `port=0` takes a free one; `http` is uvicorn's setting. Raises RuntimeError when the application's
    startup fails.
    """
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    sock.listen(128)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_graceful_shutdown=2,
        ws="none",
        http=http,
    )
    server = _Prompt(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        server.settled.wait(30)
        if server.should_exit or not server.started:
            raise RuntimeError(f"the test server for {app!r} did not start")
        yield f"http://{host}:{sock.getsockname()[1]}"
    finally:
        server.stop()
        thread.join(30)
        sock.close()


def free_port() -> int:
    """A port that nobody listens on now; for programs that must be told one."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
