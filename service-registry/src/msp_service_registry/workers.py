"""The table of workers: soft state that every worker rebuilds with its next heartbeat."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from msp_common.contracts.gpus import GpuReport
from msp_common.contracts.workers import (
    HEARTBEAT_S,
    LEASE_S,
    ExternalServer,
    LeaseGranted,
    Snapshot,
    Verdict,
    Worker,
    WorkerLease,
    WorkerReport,
)
from msp_common.errors import Conflict, NotFound
from msp_service_registry import verdicts
from msp_service_registry.clock import Clock
from msp_service_registry.verdicts import Judgement, Record


@dataclass(frozen=True)
class _Entry:
    lease: WorkerLease
    heartbeat_at: float  # seconds since the epoch
    record: Record
    judgement: Judgement
    external: ExternalServer | None


class WorkerTable:
    """All known workers. Listeners are called, without arguments, after every change routing could notice."""

    def __init__(self, clock: Clock, remove_after_s: float) -> None:
        self._clock = clock
        self._remove_after_s = remove_after_s
        self._entries: dict[str, _Entry] = {}
        self._listeners: list[Callable[[], None]] = []
        # Milliseconds, so that generations go on growing when this process is replaced by a new one.
        self.generation = int(clock.now() * 1000)

    def heartbeat(
        self, worker_id: str, lease: WorkerLease, external: ExternalServer | None = None
    ) -> LeaseGranted:
        """Take or renew a lease; `external` is told for servers that are asked instead of registering.

        Raises Conflict while a younger process holds the id: two processes that share one would take turns;
        and when a worker registers under the id of an external server.
        """
        now = self._clock.monotonic()
        known = self._entries.get(worker_id)
        if known and known.external and external is None:
            raise Conflict(
                f"worker id {worker_id!r} is that of an external server in the file of workers; "
                "give the worker another one"
            )
        if (
            known
            and lease.started_at < known.lease.started_at
            and not verdicts.lease_ended(known.record, now)
        ):
            raise Conflict(
                f"worker id {worker_id!r} is held by a younger process at {known.lease.url}; "
                "give every worker an id of its own"
            )
        same_process = known is not None and known.lease.started_at == lease.started_at
        record = verdicts.with_heartbeat(
            known.record if known and same_process else None,
            lease.state,
            now,
            lease.load.last_progress_age_s,
        )
        if external is None:  # several models of one server share its address
            self._forget_predecessors(worker_id, lease.url, now)
        self._store(
            worker_id, _Entry(lease, self._clock.now(), record, verdicts.judge(record, now), external)
        )
        return LeaseGranted(lease_s=LEASE_S, heartbeat_s=HEARTBEAT_S, generation=self.generation)

    def remove(self, worker_id: str) -> None:
        """Forget a worker. Raises NotFound."""
        self._known(worker_id)
        del self._entries[worker_id]
        self._changed()

    def report(self, worker_id: str, report: WorkerReport) -> None:
        """Take in what the gateway saw of a worker. Raises NotFound."""
        record, now = self._known(worker_id).record, self._clock.monotonic()
        if report.kind.is_fault:
            what = f"{report.kind}: {report.detail}" if report.detail else report.kind.value
            record = verdicts.with_fault(record, what, now)
        else:
            record = verdicts.with_good_sign(record, now)
        self._judge(worker_id, record, now)

    def knows(self, worker_id: str) -> bool:
        """Whether the worker is listed."""
        return worker_id in self._entries

    def answered_probe(self, worker_id: str, url: str, asked_at: float) -> None:
        """Take in a good probe that was sent at `asked_at` to `url`; too late for a worker that is gone."""
        entry = self._entries.get(worker_id)
        if entry and entry.lease.url == url:
            record = verdicts.with_good_sign(entry.record, asked_at)
            self._judge(worker_id, record, self._clock.monotonic())

    def judge_all(self) -> None:
        """Let the time that passed change verdicts, and forget workers that are gone for long."""
        now = self._clock.monotonic()
        for worker_id, entry in list(self._entries.items()):
            if now >= self._removal_at(entry.record):
                self.remove(worker_id)
            else:
                self._judge(worker_id, entry.record, now)

    def prolong(self, seconds: float) -> None:
        """Treat so much of the time that passed as if it had not."""
        now = self._clock.monotonic()
        for worker_id, entry in self._entries.items():
            heartbeat_at = min(now, entry.record.heartbeat_at + seconds)
            self._entries[worker_id] = replace(entry, record=replace(entry.record, heartbeat_at=heartbeat_at))

    def next_deadline(self) -> float | None:
        """The monotonic moment at which `judge_all` will next have something to do."""
        now = self._clock.monotonic()
        records = [entry.record for entry in self._entries.values()]
        changes = [verdicts.next_change_at(record, now) for record in records]
        removals = [self._removal_at(record) for record in records]
        return min([*(moment for moment in changes if moment is not None), *removals], default=None)

    def in_doubt(self) -> dict[str, str]:
        """Worker id → URL of those that a good probe would help; external servers are probed anyhow."""
        now = self._clock.monotonic()
        return {
            worker_id: entry.lease.url
            for worker_id, entry in self._entries.items()
            if entry.external is None and verdicts.needs_proof(entry.record, now)
        }

    def workers(self) -> list[Worker]:
        """All workers by id."""
        return [
            Worker(
                id=worker_id,
                verdict=entry.judgement.verdict,
                verdict_reason=entry.judgement.reason,
                heartbeat_at=entry.heartbeat_at,
                lease=entry.lease,
                external=entry.external,
            )
            for worker_id, entry in sorted(self._entries.items())
        ]

    def snapshot(self) -> Snapshot:
        """What the gateway routes by."""
        return Snapshot(generation=self.generation, taken_at=self._clock.now(), workers=self.workers())

    def count(self) -> dict[Verdict, int]:
        """How many workers have which verdict; every verdict is there."""
        found = [entry.judgement.verdict for entry in self._entries.values()]
        return {verdict: found.count(verdict) for verdict in Verdict}

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` after every change; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _known(self, worker_id: str) -> _Entry:
        if worker_id not in self._entries:
            raise NotFound(f"No worker {worker_id!r} is registered.", param="worker_id")
        return self._entries[worker_id]

    def _judge(self, worker_id: str, record: Record, now: float) -> None:
        entry = self._entries[worker_id]
        self._store(worker_id, replace(entry, record=record, judgement=verdicts.judge(record, now)))

    def _store(self, worker_id: str, entry: _Entry) -> None:
        before = self._entries.get(worker_id)
        self._entries[worker_id] = entry
        if before is None or _routing_view(before) != _routing_view(entry):
            self._changed()

    def _changed(self) -> None:
        self.generation += 1
        for listener in list(self._listeners):
            listener()

    def _forget_predecessors(self, worker_id: str, url: str, now: float) -> None:
        """Drop what lapsed at the same address: a container made anew has a new id and its old address."""
        for other_id, other in list(self._entries.items()):
            if other_id != worker_id and other.lease.url == url and verdicts.lease_ended(other.record, now):
                self.remove(other_id)

    def _removal_at(self, record: Record) -> float:
        return record.heartbeat_at + LEASE_S + self._remove_after_s


def _routing_view(entry: _Entry) -> tuple[Judgement, WorkerLease, ExternalServer | None]:
    """All but the GPUs' figures, which change with every heartbeat and route nothing."""
    return entry.judgement, entry.lease.model_copy(update={"gpu": GpuReport()}), entry.external
