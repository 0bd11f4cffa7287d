"""The table: leases, generations, deadlines, and what is forgotten when."""

import pytest

from msp_common.contracts.gpus import GpuReport
from msp_common.contracts.workers import ReportKind, Verdict, WorkerReport, WorkerState
from msp_common.errors import Conflict, NotFound
from msp_service_registry.workers import WorkerTable
from support.service_registry_fakes import FakeClock, gpu, lease

DAY_S = 86_400.0


def table_with(clock: FakeClock, *ids: str) -> WorkerTable:
    table = WorkerTable(clock, DAY_S)
    for worker_id in ids:
        table.heartbeat(worker_id, lease(url=f"http://{worker_id}:8000"))
    return table


def verdict_of(table: WorkerTable, worker_id: str) -> Verdict:
    return next(w.verdict for w in table.workers() if w.id == worker_id)


def pass_time(clock: FakeClock, seconds: float, table: WorkerTable) -> None:
    clock.at += seconds
    table.judge_all()


def test_a_heartbeat_that_says_the_same_changes_no_generation() -> None:
    clock = FakeClock()
    table = table_with(clock, "a")
    before = table.generation
    clock.at += 2
    granted = table.heartbeat("a", lease(url="http://a:8000"))
    assert granted.generation == before
    assert table.snapshot().workers[0].heartbeat_at == clock.now()


def test_gpu_figures_change_no_generation_and_load_does() -> None:
    clock = FakeClock()
    table = table_with(clock, "a")
    before = table.generation
    table.heartbeat("a", lease(url="http://a:8000", gpu=GpuReport(gpus=[gpu("GPU-1")])))
    assert table.generation == before
    table.heartbeat("a", lease(url="http://a:8000", in_flight=3))
    assert table.generation == before + 1


def test_listeners_hear_of_changes_and_only_until_they_leave() -> None:
    clock = FakeClock()
    table = table_with(clock)
    heard: list[int] = []
    leave = table.subscribe(lambda: heard.append(table.generation))
    table.heartbeat("a", lease())
    table.heartbeat("a", lease())
    leave()
    table.remove("a")
    assert len(heard) == 1


def test_generations_go_on_growing_after_a_restart() -> None:
    clock = FakeClock()
    old = table_with(clock, "a", "b", "c")
    clock.at += 1
    assert table_with(clock).generation > old.generation


def test_a_worker_whose_lease_ran_out_stays_listed_until_the_time_has_passed() -> None:
    clock = FakeClock()
    table = table_with(clock, "a")
    pass_time(clock, 10.1, table)
    assert verdict_of(table, "a") is Verdict.UNHEALTHY
    pass_time(clock, DAY_S - 1, table)
    assert verdict_of(table, "a") is Verdict.UNHEALTHY
    pass_time(clock, 2, table)
    assert table.workers() == []


def test_the_deadline_is_the_next_verdict_that_time_alone_brings() -> None:
    clock = FakeClock()
    table = WorkerTable(clock, DAY_S)
    assert table.next_deadline() is None
    table.heartbeat("a", lease())
    for expected in (4.25, 10.0, 10.0 + DAY_S):
        assert table.next_deadline() == pytest.approx(1000 + expected)
        clock.at = 1000 + expected + 0.01
        table.judge_all()
    assert table.next_deadline() is None


def test_removing_forgets_at_once_and_unknown_ids_are_refused() -> None:
    table = table_with(FakeClock(), "a")
    table.remove("a")
    assert table.workers() == []
    with pytest.raises(NotFound, match="'a'"):
        table.remove("a")
    with pytest.raises(NotFound, match="'a'"):
        table.report("a", WorkerReport(kind=ReportKind.OK))


def test_three_faults_in_a_row_make_a_worker_unhealthy_and_an_ok_brings_it_back() -> None:
    table = table_with(FakeClock(), "a")
    fault = WorkerReport(kind=ReportKind.REFUSED, detail="connection refused")
    seen = []
    for report in (fault, fault, fault, WorkerReport(kind=ReportKind.OK)):
        table.report("a", report)
        seen.append(verdict_of(table, "a"))
    assert seen == [Verdict.SUSPECT, Verdict.SUSPECT, Verdict.UNHEALTHY, Verdict.READY]


def test_a_restarted_worker_starts_without_the_faults_of_the_process_before() -> None:
    table = table_with(FakeClock(), "a")
    for _ in range(3):
        table.report("a", WorkerReport(kind=ReportKind.RESET))
    table.heartbeat("a", lease(WorkerState.LOADING, url="http://a:8000", started_at=2))
    assert verdict_of(table, "a") is Verdict.LOADING
    table.heartbeat("a", lease(url="http://a:8000", started_at=2))
    assert verdict_of(table, "a") is Verdict.READY


def test_an_older_process_cannot_take_the_id_of_a_younger_one_that_lives() -> None:
    clock = FakeClock()
    table = WorkerTable(clock, DAY_S)
    table.heartbeat("a", lease(url="http://young:8000", started_at=5))
    with pytest.raises(Conflict, match="http://young:8000"):
        table.heartbeat("a", lease(url="http://old:8000", started_at=4))
    clock.at += 11
    table.heartbeat("a", lease(url="http://old:8000", started_at=4))
    assert table.workers()[0].lease.url == "http://old:8000"


def test_a_worker_that_comes_back_under_a_new_id_replaces_its_lapsed_entry() -> None:
    clock = FakeClock()
    table = WorkerTable(clock, DAY_S)
    table.heartbeat("container-1", lease(url="http://llm:8000"))
    pass_time(clock, 11, table)
    table.heartbeat("container-2", lease(url="http://llm:8000", started_at=2))
    assert [w.id for w in table.workers()] == ["container-2"]


def test_two_live_workers_are_never_taken_for_one() -> None:
    table = WorkerTable(FakeClock(), DAY_S)
    table.heartbeat("a", lease(url="http://same:8000"))
    table.heartbeat("b", lease(url="http://same:8000"))
    assert [w.id for w in table.workers()] == ["a", "b"]


def test_a_probe_of_an_address_the_worker_has_left_proves_nothing() -> None:
    clock = FakeClock()
    table = table_with(clock, "a")
    table.report("a", WorkerReport(kind=ReportKind.RESET))
    table.answered_probe("a", "http://elsewhere:8000", clock.at)
    assert verdict_of(table, "a") is Verdict.SUSPECT
    table.answered_probe("a", "http://a:8000", clock.at)
    assert verdict_of(table, "a") is Verdict.READY
