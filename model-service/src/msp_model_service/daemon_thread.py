"""Blocking work beside the event loop, in a thread that does not keep the process alive."""

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(name: str, call: Callable[[], T]) -> T:
    """The result of `call()`, run in a thread of its own.

    Unlike `asyncio.to_thread`, ending the loop does not wait for it: loading a model cannot be interrupted,
    and must not delay the end of the process. Cancelling the caller leaves the thread to itself.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(settle_future: Callable[[], None]) -> None:
        try:
            loop.call_soon_threadsafe(lambda: None if future.done() else settle_future())
        except RuntimeError:
            return  # the loop is closed: nobody waits for this any more

    def work() -> None:
        try:
            result = call()
        except BaseException as error:  # noqa: BLE001  (handed to the caller, whatever it is)
            failure = error
            settle(lambda: future.set_exception(failure))
        else:
            settle(lambda: future.set_result(result))

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future
