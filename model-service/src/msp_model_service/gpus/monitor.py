"""The thread that reads the GPUs, apart from everything that must not hang."""

import threading
import time
from collections.abc import Callable

from msp_common.contracts.gpus import GpuReport
from msp_model_service.gpus.nvml import GpuReader

READ_EVERY_S = 2.0
STALE_AFTER_S = 15.0
"""NVML calls can hang for good in a sick driver; a report older than this is no longer passed on as news."""


class GpuMonitor:
    """Reads the GPUs every two seconds in its own thread, so that a hanging driver stops no heartbeat."""

    def __init__(
        self,
        reader: GpuReader,
        clock: Callable[[], float] = time.monotonic,
        read_every_s: float = READ_EVERY_S,
    ) -> None:
        self._reader = reader
        self._clock = clock
        self._read_every_s = read_every_s
        self._read_at = clock()
        self._report = GpuReport(reason="not read yet")
        self._first = threading.Event()
        self._stop = threading.Event()

    def start(self) -> None:
        """Begin reading."""
        threading.Thread(target=self._loop, name="gpu-monitor", daemon=True).start()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                report = self._reader.read()
            except Exception as error:  # noqa: BLE001  (figures are extras: no fault in them may end them)
                report = GpuReport(reason=f"the GPUs cannot be read: {type(error).__name__}: {error}")
            self._report, self._read_at = report, self._clock()
            self._first.set()
            self._stop.wait(self._read_every_s)
        self._reader.close()

    def wait_first(self, timeout_s: float) -> GpuReport:
        """Block until the first reading is there, or the time is over; then as `latest`."""
        self._first.wait(timeout_s)
        return self.latest()

    def latest(self) -> GpuReport:
        """The newest reading; null with the reason when the driver has not answered for a while."""
        age_s = self._clock() - self._read_at
        if age_s > STALE_AFTER_S:
            return GpuReport(reason=f"NVML has not answered for {age_s:.0f} s")
        return self._report

    def stop(self) -> None:
        """End after the reading that runs; does not wait for it."""
        self._stop.set()
