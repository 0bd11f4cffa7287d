"""A port at which nobody may knock."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from socket import create_server


@dataclass(frozen=True)
class Tripwire:
    """The port, and whether anyone came."""

    port: int
    touched: threading.Event = field(default_factory=threading.Event)


@contextmanager
def tripwire() -> Iterator[Tripwire]:
    """Listens on the loopback until the block ends."""
    with create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        wire = Tripwire(server.getsockname()[1])

        def wait() -> None:
            while True:
                try:
                    server.accept()[0].close()
                    wire.touched.set()
                except TimeoutError:
                    continue
                except OSError:
                    return

        thread = threading.Thread(target=wait)
        thread.start()
        try:
            yield wire
        finally:
            server.close()
            thread.join()
