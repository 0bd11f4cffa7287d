"""What Prometheus is told of each worker."""

from msp_common.contracts.workers import LEASE_S, Verdict, WorkerState
from msp_service_registry.metrics import Metrics
from msp_service_registry.workers import WorkerTable
from support.service_registry_fakes import FakeClock, lease


async def test_a_worker_has_one_verdict_and_the_others_are_told_as_nought() -> None:
    clock = FakeClock()
    table = WorkerTable(clock, remove_after_s=100)
    table.heartbeat("llm-0", lease(state=WorkerState.READY))
    told = Metrics(table, clock).registry

    def verdicts() -> dict[str, float | None]:
        of = {"worker": "llm-0", "model": "samples/chat"}
        name = "msp_service_registry_worker_verdict"
        return {v.value: told.get_sample_value(name, {**of, "verdict": v.value}) for v in Verdict}

    assert verdicts() == {v.value: float(v is Verdict.READY) for v in Verdict}
    await clock.advance(LEASE_S + 1)
    table.judge_all()
    assert verdicts() == {v.value: float(v is Verdict.UNHEALTHY) for v in Verdict}
    table.remove("llm-0")
    assert set(verdicts().values()) == {None}
