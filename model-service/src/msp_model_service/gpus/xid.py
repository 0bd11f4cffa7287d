"""Xid errors: what the driver reports of a GPU's faults while this worker runs."""

import logging
from collections import deque
from typing import Any

KEPT = 8
"""Of each GPU, the newest."""

log = logging.getLogger(__name__)


class XidEvents:
    """Collects Xid numbers by GPU; where the driver does not tell them (in a VM, for one), there are none."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._watched: set[str] = set()
        self._seen: dict[str, deque[int]] = {}
        try:
            self._events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError as error:
            log.info("Xid errors cannot be watched: %s", error)
            self._events = None

    def watch(self, handle: Any) -> None:
        """Collect those of this GPU too. Raises NVMLError for a GPU that is lost."""
        uuid = self._nvml.nvmlDeviceGetUUID(handle)
        if self._events is None or uuid in self._watched:
            return
        self._watched.add(uuid)
        try:
            self._nvml.nvmlDeviceRegisterEvents(
                handle, self._nvml.nvmlEventTypeXidCriticalError, self._events
            )
        except self._nvml.NVMLError as error:
            log.info("Xid errors of %s cannot be watched: %s", uuid, error)

    def seen(self) -> dict[str, list[int]]:
        """Xid numbers by the GPU's UUID, the newest last. Does not wait."""
        while self._events is not None:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = self._nvml.nvmlDeviceGetUUID(event.device)
            except self._nvml.NVMLError:
                break  # nothing new is told as an error too (NVML_ERROR_TIMEOUT)
            uuid = uuid.decode() if isinstance(uuid, bytes) else uuid
            log.error("the driver reports Xid %d of GPU %s", event.eventData, uuid)
            self._seen.setdefault(uuid, deque(maxlen=KEPT)).append(int(event.eventData))
        return {uuid: list(numbers) for uuid, numbers in self._seen.items()}

    def close(self) -> None:
        """Stop watching."""
        if self._events is not None:
            try:
                self._nvml.nvmlEventSetFree(self._events)
            except self._nvml.NVMLError as error:
                log.info("the event set could not be freed: %s", error)
            self._events = None
