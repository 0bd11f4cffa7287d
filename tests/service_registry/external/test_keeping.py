"""External servers in the table: listed from the start, judged by what they answer, as workers are."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from msp_common.contracts.workers import ReportKind, Verdict, Worker, WorkerReport
from msp_common.errors import Conflict
from msp_service_registry.external.asking import ServerAnswer
from msp_service_registry.external.file import ExternalServerEntry, WorkersFile
from msp_service_registry.external.keeping import ExternalServers
from msp_service_registry.judging import keep_judging
from msp_service_registry.overview import targets
from msp_service_registry.workers import WorkerTable
from support.service_registry_fakes import FakeClock, lease, settle

SERVER = {
    "name": "big",
    "url": "https://vllm.example",
    "models": [{"id": "org/large", "type": "llm", "served_as": "large"}, {"id": "org/small", "type": "llm"}],
}
BOTH = ServerAnswer(models=frozenset({"large", "org/small"}))
REFUSED = ServerAnswer(ReportKind.REFUSED, "/v1/models: connection refused")


class ScriptedAsker:
    def __init__(self, answer: ServerAnswer) -> None:
        self.answer = answer
        self.asked = 0

    async def ask(self, server: ExternalServerEntry) -> ServerAnswer:
        self.asked += 1
        return self.answer


class Kept:
    def __init__(self, answer: ServerAnswer) -> None:
        self.clock = FakeClock()
        self.table = WorkerTable(self.clock, remove_after_s=86_400)
        self.asker = ScriptedAsker(answer)
        servers = WorkersFile.model_validate({"servers": [SERVER]}).servers
        self.external = ExternalServers(self.table, self.asker, self.clock, servers)

    def workers(self) -> list[Worker]:
        return self.table.workers()

    def large(self) -> Worker:
        return next(w for w in self.workers() if w.id == "big.org--large")


@asynccontextmanager
async def keeping(answer: ServerAnswer) -> AsyncIterator[Kept]:
    kept = Kept(answer)
    tasks = [
        asyncio.create_task(kept.external.run()),
        asyncio.create_task(keep_judging(kept.table, kept.clock)),
    ]
    try:
        await settle()
        yield kept
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_server_that_answers_is_ready_with_all_its_models_and_stays_so() -> None:
    async with keeping(BOTH) as kept:
        assert {w.lease.model.id: w.verdict for w in kept.workers()} == {
            "org/large": Verdict.READY,
            "org/small": Verdict.READY,
        }
        external = kept.large().external
        assert external is not None
        assert external.served_as == "large"
        generation = kept.table.generation
        await kept.clock.advance(60)
        assert kept.large().verdict is Verdict.READY
        assert kept.table.generation == generation, "nothing changed that routing could notice"


async def test_a_server_that_never_answered_is_listed_with_the_reason_and_becomes_ready() -> None:
    async with keeping(REFUSED) as kept:
        await kept.clock.advance(60)
        worker = kept.large()
        assert (worker.verdict, worker.lease.reason) == (Verdict.STARTING, REFUSED.detail)
        kept.asker.answer = BOTH
        await kept.clock.advance(2)
        assert kept.large().verdict is Verdict.READY


async def test_a_server_that_fails_is_suspect_then_unhealthy_and_comes_back() -> None:
    async with keeping(BOTH) as kept:
        kept.asker.answer = REFUSED
        await kept.clock.advance(2.5)
        assert kept.large().verdict is Verdict.SUSPECT
        await kept.clock.advance(10)
        assert kept.large().verdict is Verdict.UNHEALTHY
        kept.asker.answer = BOTH
        await kept.clock.advance(2.5)
        assert kept.large().verdict is Verdict.READY


async def test_a_model_that_the_server_does_not_list_is_not_routed_to_and_the_other_one_is() -> None:
    async with keeping(ServerAnswer(models=frozenset({"org/small"}))) as kept:
        large, small = kept.workers()
        assert (large.verdict, large.lease.reason) == (
            Verdict.STARTING,
            "/v1/models does not list 'large'",
        )
        assert small.verdict is Verdict.READY


async def test_only_external_servers_with_metrics_are_scraped() -> None:
    async with keeping(BOTH) as kept:
        assert targets(kept.workers(), {}) == []
        told = kept.large()
        assert told.external is not None
        with_metrics = told.external.model_copy(update={"metrics_path": "/stats"})
        [group] = targets([told.model_copy(update={"external": with_metrics})], {})
        assert (group.targets, group.labels["__metrics_path__"]) == (["vllm.example"], "/stats")


async def test_a_server_that_lists_nothing_is_taken_at_its_word() -> None:
    async with keeping(ServerAnswer()) as kept:
        assert kept.large().verdict is Verdict.READY


async def test_no_worker_can_register_under_an_external_servers_id() -> None:
    async with keeping(BOTH) as kept:
        with pytest.raises(Conflict, match="external server"):
            kept.table.heartbeat("big.org--large", lease(started_at=kept.clock.now() + 100))


async def test_gateways_reports_count_against_an_external_server_and_its_next_good_answer_clears_them() -> (
    None
):
    async with keeping(BOTH) as kept:
        for _ in range(3):
            kept.table.report("big.org--large", WorkerReport(kind=ReportKind.RESET))
        assert kept.large().verdict is Verdict.UNHEALTHY
        assert kept.table.in_doubt() == {}, "it is asked anyhow, with its key"
        await kept.clock.advance(2)
        assert kept.large().verdict is Verdict.READY
