"""The task that lets time pass over the table."""

import asyncio
import logging

from msp_common.contracts.workers import HEARTBEAT_S
from msp_service_registry.clock import Clock
from msp_service_registry.workers import WorkerTable

STALL_S = 1.0
"""Waking so much later than was asked for means that this process itself stood still."""

# Past the deadline rather than on it: verdicts change when a limit is exceeded, not when it is met.
_MARGIN_S = 0.01

log = logging.getLogger(__name__)


async def keep_judging(table: WorkerTable, clock: Clock) -> None:
    """Re-judge every worker whenever time alone can have changed a verdict. Runs until cancelled.

    After a stall (a paused machine, no CPU) the heartbeats of that time are still waiting to be read: it is
    no worker's fault, and judging by it would take the whole cluster out of service at once.
    """
    changed = asyncio.Event()
    unsubscribe = table.subscribe(changed.set)
    try:
        while True:
            table.judge_all()
            changed.clear()
            deadline = table.next_deadline()
            await clock.wait(changed, None if deadline is None else deadline + _MARGIN_S)
            late_s = 0.0 if deadline is None else clock.monotonic() - deadline
            if late_s > STALL_S:
                log.warning("stood still for %.1f s; leases are prolonged", late_s)
                table.prolong(late_s + HEARTBEAT_S)
    finally:
        unsubscribe()
