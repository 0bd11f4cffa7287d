"""A port on the loopback whose connections go on elsewhere, such as into another network namespace."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


@contextmanager
def forwarder(connect: Callable[[], socket.socket]) -> Iterator[int]:
    """Listens on a free port until the block ends; `connect` makes the other half of each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = threading.Thread(target=_accept, args=(server, connect), daemon=True)
        accepting.start()
        try:
            yield server.getsockname()[1]
        finally:
            # Closing alone does not wake a thread that waits in accept.
            server.shutdown(socket.SHUT_RDWR)
            accepting.join()


def _accept(server: socket.socket, connect: Callable[[], socket.socket]) -> None:
    while True:
        try:
            near = server.accept()[0]
        except OSError:
            return
        threading.Thread(target=_carry, args=(near, connect), daemon=True).start()


def _carry(near: socket.socket, connect: Callable[[], socket.socket]) -> None:
    try:
        far = connect()
    except OSError:
        near.close()
        return
    far.settimeout(None)
    back = threading.Thread(target=_copy, args=(far, near), daemon=True)
    back.start()
    _copy(near, far)
    back.join()
    near.close()
    far.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    # The other end hears that no more comes; the way back stays open.
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
