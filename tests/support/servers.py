"""Real servers for tests: an ASGI application on a free port, served by uvicorn in a thread."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class _Announcing(uvicorn.Server):
    """Tells when startup, the application's own included, is over."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; `settled` is set whether it worked or not."""
        try:
            await super().startup(sockets=sockets)
        finally:
            self.settled.set()


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
    server = _Announcing(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        server.settled.wait(30)
        if server.should_exit or not server.started:
            raise RuntimeError(f"the test server for {app!r} did not start")
        yield f"http://{host}:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        sock.close()


def free_port() -> int:
    """A port that nobody listens on now; for programs that must be told one."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
