"""The tasks that keep external servers in the table, as their own heartbeats would."""

import asyncio
import logging
from collections.abc import Sequence

from msp_common.contracts.gpus import GpuReport
from msp_common.contracts.workers import WorkerLease, WorkerLoad, WorkerReport, WorkerState
from msp_service_registry.clock import Clock
from msp_service_registry.external.asking import ServerAnswer, ServerAsker
from msp_service_registry.external.file import ExternalModel, ExternalServerEntry
from msp_service_registry.workers import WorkerTable

ASK_EVERY_S = 2.0
"""As often as workers send heartbeats."""

log = logging.getLogger(__name__)


class ExternalServers:
    """Asks every server in turns; `run` is the task."""

    def __init__(
        self, table: WorkerTable, asker: ServerAsker, clock: Clock, servers: Sequence[ExternalServerEntry]
    ) -> None:
        self._table = table
        self._asker = asker
        self._clock = clock
        self._servers = servers
        self._started_at = clock.now()
        self._was_ready: set[str] = set()
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Ask all servers for ever. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                for model in server.models:
                    self._beat(server, model, WorkerState.STARTING, "it was not asked yet")
                group.create_task(self._follow(server))

    async def _follow(self, server: ExternalServerEntry) -> None:
        while True:
            asked_at = self._clock.monotonic()
            answer = await self._asker.ask(server)
            for model in server.models:
                self._take(server, model, answer, asked_at)
            await self._clock.wait(asyncio.Event(), asked_at + ASK_EVERY_S)

    def _take(
        self, server: ExternalServerEntry, model: ExternalModel, answer: ServerAnswer, asked_at: float
    ) -> None:
        worker_id, why = server.worker_id(model), answer.detail
        missing = answer.models is not None and model.name_there not in answer.models
        if missing:
            why = f"/v1/models does not list {model.name_there!r}"
        self._say(worker_id, why)
        if answer.fault is None and not missing:
            self._was_ready.add(worker_id)
            self._beat(server, model, WorkerState.READY, None)
            self._table.answered_probe(worker_id, server.url, asked_at)
        elif missing:
            # The server works: that it has the model no more is its own word, not a fault.
            self._beat(server, model, WorkerState.STARTING, why)
        elif worker_id not in self._was_ready:
            self._beat(server, model, WorkerState.STARTING, why)
        elif answer.fault is not None and self._table.knows(worker_id):
            self._table.report(worker_id, WorkerReport(kind=answer.fault, detail=why))

    def _beat(
        self, server: ExternalServerEntry, model: ExternalModel, state: WorkerState, reason: str | None
    ) -> None:
        lease = WorkerLease(
            url=server.url,
            host=server.name,
            model=model.served,
            state=state,
            reason=reason,
            capabilities=model.capabilities,
            load=WorkerLoad(slots=server.slots),
            gpu=GpuReport(reason="it is an external server"),
            version="external",
            started_at=self._started_at,
        )
        self._table.heartbeat(server.worker_id(model), lease, server.as_external(model))

    def _say(self, worker_id: str, why: str) -> None:
        if self._said.get(worker_id, "") != why:
            self._said[worker_id] = why
            log.log(
                logging.WARNING if why else logging.INFO,
                "external server: %s",
                why or "it answers",
                extra={"worker_id": worker_id},
            )


def usable(servers: Sequence[ExternalServerEntry], *, offline: bool) -> list[ExternalServerEntry]:
    """Those that may be asked; in offline mode only those of which the file says so."""
    return [server for server in servers if server.when_offline or not offline]
