"""What a signal does to a worker that is at work."""

import asyncio
import io
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from msp_model_service.stopping import drain_before_exit


class BusyStream(io.StringIO):
    """The signal comes while a line is written; as with standard error, nobody may write in between."""

    writing = False

    def write(self, text: str) -> int:
        if self.writing:
            raise RuntimeError("reentrant call")
        self.writing = True
        try:
            if "a request" in text:
                signal.raise_signal(signal.SIGTERM)
            return super().write(text)
        finally:
            self.writing = False


@contextmanager
def logging_to(stream: io.StringIO) -> Iterator[logging.Logger]:
    log = logging.getLogger("msp_model_service")
    handler, level = logging.StreamHandler(stream), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


@contextmanager
def signals_kept() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def test_a_signal_in_the_midst_of_a_log_line_is_not_lost() -> None:
    done: list[str] = []
    stopped = asyncio.Event()
    stream = BusyStream()

    async def drain() -> None:
        done.append("drained")

    def stop(number: int, frame: object) -> None:
        done.append("stopped")
        stopped.set()

    with signals_kept(), logging_to(stream) as log:
        signal.signal(signal.SIGTERM, stop)
        drain_before_exit(drain, 0)
        log.info("a request")
        async with asyncio.timeout(10):
            await stopped.wait()
    assert done == ["drained", "stopped"]
    assert stream.getvalue() == "a request\nSIGTERM: draining\n"
