"""The end of a worker's process: tell the others first, then stop listening.

uvicorn closes its sockets at the signal. A gateway that still holds the worker for ready would then meet
refused connections, so the signal is held back until the draining lease was sent.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import Awaitable, Callable
from types import FrameType

_ANNOUNCED_WITHIN_S = 2.5
log = logging.getLogger(__name__)


def drain_before_exit(drain: Callable[[], Awaitable[None]], settle_s: float) -> None:
    """From now on SIGTERM and SIGINT first run `drain`, wait `settle_s`, and then do what they did before.

    A second signal does it at once. Call it on the event loop, after the server has set its own handlers;
    outside the main thread, which alone may handle signals, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    before = {sig: signal.getsignal(sig) for sig in (signal.SIGTERM, signal.SIGINT)}
    begun = False
    tasks: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly

    def go_on(number: int) -> None:
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, None)

    async def announce(number: int) -> None:
        try:
            async with asyncio.timeout(_ANNOUNCED_WITHIN_S):
                await drain()
                await asyncio.sleep(settle_s)
        except TimeoutError:
            log.warning("the service registry was not told in time that this worker is ending")
        finally:
            go_on(number)

    def begin(number: int) -> None:
        log.info("%s: draining", signal.Signals(number).name)
        tasks.add(loop.create_task(announce(number), name="drain"))

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal begun
        if begun:
            go_on(number)
        else:
            # Nothing is written here: the signal may have come in the midst of a write, and then it raises.
            begun = True
            loop.call_soon_threadsafe(begin, number)

    for sig in before:
        signal.signal(sig, on_signal)
