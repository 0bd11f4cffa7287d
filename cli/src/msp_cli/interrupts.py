"""Signals as cancellation."""

import asyncio
import signal


async def until_stopped(work: "asyncio.Task[None]") -> bool:
    """Cancel the work at SIGINT, SIGTERM or SIGHUP; whether that kept it from its end."""
    loop = asyncio.get_running_loop()
    stopped = False

    def stop() -> None:
        nonlocal stopped
        # A second Ctrl-C does not cut the stopping short; nothing would be left to stop the rest.
        if not stopped:
            stopped = True
            work.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        await work
    except asyncio.CancelledError:
        if not stopped:
            raise
        return True
    return False
