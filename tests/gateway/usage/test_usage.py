"""What requests used: told by workers, joined by request id, charged, counted and kept."""

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from msp_common.contracts.keys import UsageLine
from msp_common.contracts.usage import RequestUsage, UsageReport
from msp_common.contracts.workers import ExternalServer, Verdict, Worker
from msp_gateway.admission.rate_limits import RateLimits
from msp_gateway.keys.store import StoreAway
from msp_gateway.usage.book import MemoryUsage, UsageBook
from msp_gateway.usage.collector import UsageAway, UsageCollector
from msp_gateway.usage.ledger import KEPT_S, UsageLedger
from support.gateway_admission import FakeProgress, ask, key
from support.gateway_cluster import GatewayClock, worker

DAY = date(2026, 11, 21)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
EVER = (date.min, date.max)


def told(
    request_id: str = "r1", prompt: int | None = 10, completion: int | None = 5, **more: float
) -> RequestUsage:
    return RequestUsage(
        request_id=request_id,
        path="/v1/chat/completions",
        status=200,
        complete=True,
        stream=True,
        prompt_tokens=prompt,
        completion_tokens=completion,
        duration_s=1,
        **more,  # type: ignore[arg-type]
    )


class Books:
    """A ledger over its book and the limits."""

    def __init__(self) -> None:
        self.clock = GatewayClock()
        self.limits = RateLimits(self.clock)
        self.book = UsageBook(MemoryUsage(), lambda: NOON)
        self.metrics = CollectorRegistry()
        self.ledger = UsageLedger(self.limits, self.book, self.metrics, self.clock)

    def left(self) -> int:
        fields = dict(self.limits.fields(KEY))
        return int(fields[b"x-ratelimit-remaining-tokens"])

    async def lines(self) -> list[UsageLine]:
        return list(await self.book.lines(*EVER))


KEY = key("team", tokens_per_minute=10_000)


async def test_a_request_is_charged_what_its_worker_says_instead_of_what_was_guessed() -> None:
    books = Books()
    request = ask(KEY, progress=FakeProgress(200, "org/real"))
    estimate = books.limits.take(KEY, body_bytes=4000)
    assert books.left() == 10_000 - 1000
    entry = books.ledger.opened(request, estimate)
    entry.closed(gpu_s=2.5)
    books.ledger.used(told(prompt=100, completion=20, audio_s=1.5))
    assert books.left() == 10_000 - 120
    (line,) = await books.lines()
    assert line == UsageLine(
        day=DAY,
        key_id="team",
        model="org/real",
        requests=1,
        prompt_tokens=100,
        completion_tokens=20,
        audio_s=1.5,
        gpu_s=2.5,
    )
    assert (request.progress.prompt_tokens, request.progress.completion_tokens) == (100, 20)
    page = generate_latest(books.metrics).decode()
    assert 'msp_gateway_tokens_total{kind="completion",model="org/real"} 20.0' in page


async def test_a_worker_may_tell_before_the_client_has_read_the_answer() -> None:
    books = Books()
    request = ask(KEY)
    entry = books.ledger.opened(request, books.limits.take(KEY, 40))
    books.ledger.used(told())
    entry.closed(0)
    (line,) = await books.lines()
    assert (line.requests, line.prompt_tokens, books.left()) == (1, 10, 10_000 - 15)


@pytest.mark.parametrize("status", [None, 400, 503])
def test_a_request_that_nothing_was_made_for_is_not_charged(status: int | None) -> None:
    books = Books()
    request = ask(KEY, progress=FakeProgress(status))
    entry = books.ledger.opened(request, books.limits.take(KEY, 4000))
    entry.closed(0)
    assert books.left() == 10_000
    books.ledger.used(told(prompt=100, completion=0))
    assert books.left() == 10_000 - 100


def test_without_a_report_the_guess_stays_charged() -> None:
    books = Books()
    request = ask(KEY, progress=FakeProgress(200))
    entry = books.ledger.opened(request, books.limits.take(KEY, 4000))
    entry.closed(0)
    assert books.left() == 10_000 - 1000


async def test_a_report_that_knows_no_tokens_changes_no_charge_and_teaches_nothing() -> None:
    books = Books()
    answered, refused = ask(KEY, progress=FakeProgress(200)), ask(KEY, progress=FakeProgress(400))
    for request in (answered, refused):
        entry = books.ledger.opened(request, books.limits.take(KEY, 4000))
        entry.closed(0)
        books.ledger.used(told(prompt=None, completion=None))
    assert books.left() == 10_000 - 1000
    assert books.limits.take(KEY, 4000) == 1000


async def test_what_two_replicas_did_for_one_request_counts_together() -> None:
    books = Books()
    request = ask(KEY)
    books.ledger.opened(request, 0)
    books.ledger.used(told(prompt=10, completion=0))
    books.ledger.used(told(prompt=10, completion=7))
    (line,) = await books.lines()
    assert (line.prompt_tokens, line.completion_tokens) == (20, 7)


async def test_an_id_that_clients_chose_twice_does_not_mix_keys() -> None:
    books = Books()
    first, second = ask(KEY, request_id="same"), ask(key("other"), request_id="same")
    for request in (first, second):
        books.ledger.opened(request, 0)
    books.ledger.used(told("same", prompt=1))
    books.ledger.used(told("same", prompt=2))
    lines = {line.key_id: line.prompt_tokens for line in await books.lines()}
    assert lines == {"team": 1, "other": 2}


async def test_a_report_of_a_request_that_is_not_known_is_passed_over() -> None:
    books = Books()
    books.ledger.used(told("someone else's"))
    assert await books.lines() == []


async def test_requests_are_forgotten_some_time_after_their_end() -> None:
    books = Books()
    old, new = ask(KEY, request_id="old"), ask(KEY, request_id="new")
    old_entry = books.ledger.opened(old, 0)
    old_entry.closed(0)
    books.clock.now += KEPT_S + 1
    new_entry = books.ledger.opened(new, 0)
    new_entry.closed(0)
    books.ledger.used(told("old"))
    assert sum(line.prompt_tokens for line in await books.lines()) == 0
    books.ledger.used(told("new"))
    assert sum(line.prompt_tokens for line in await books.lines()) == 10


async def test_reports_of_one_id_go_to_its_requests_in_the_order_in_which_they_came() -> None:
    books = Books()
    requests = [ask(key(name), request_id="same") for name in ("a", "b", "c")]
    entries = [books.ledger.opened(request, 0) for request in requests]
    entries[1].closed(0)
    for prompt in (1, 2, 3):
        books.ledger.used(told("same", prompt=prompt))
    books.clock.now += KEPT_S + 1
    entries[0].closed(0)  # forgets the second
    books.ledger.used(told("same", prompt=10))
    lines = {line.key_id: line.prompt_tokens for line in await books.lines()}
    assert lines == {"a": 1, "b": 2, "c": 13}


@dataclass
class SometimesAway(MemoryUsage):
    """Keeps usage, while it is there."""

    is_away: bool = False
    writes: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def add(self, lines: Sequence[UsageLine]) -> None:
        self.writes += 1
        if self.is_away:
            raise StoreAway("the disk is full")
        super().add(lines)


async def test_usage_is_written_in_batches_and_read_with_what_is_not_written_yet() -> None:
    store = SometimesAway()
    book = UsageBook(store, lambda: NOON)
    for _ in range(100):
        book.request("k", "m", gpu_s=0.5)
    await book.write()
    await book.write()
    assert store.writes == 1
    book.used("k", "m", 3, 4, 0)
    (line,) = await book.lines(*EVER)
    assert (line.requests, line.gpu_s, line.prompt_tokens, line.completion_tokens) == (100, 50, 3, 4)


async def test_what_cannot_be_written_is_written_later_once() -> None:
    store = SometimesAway(is_away=True)
    book = UsageBook(store, lambda: NOON)
    book.request("k", "m", 0)
    await book.write()
    book.request("k", "m", 0)
    await book.write()
    assert [line.requests for line in await book.lines(*EVER)] == [2]
    store.is_away = False
    await book.write()
    assert [line.requests for line in store.lines(*EVER)] == [2]
    await book.write()
    assert [line.requests for line in await book.lines(*EVER)] == [2]


async def test_what_is_not_written_at_the_end_is_written_then() -> None:
    store = SometimesAway()
    book = UsageBook(store, lambda: NOON)
    running = asyncio.create_task(book.run())
    await asyncio.sleep(0)
    book.request("k", "m", 0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [line.requests for line in store.lines(*EVER)] == [1]


async def test_a_write_that_the_end_comes_upon_is_made_once() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(MemoryUsage):
        def add(self, lines: Sequence[UsageLine]) -> None:
            begun.set()
            go_on.wait(10)
            super().add(lines)

    store = Slow()
    book = UsageBook(store, lambda: NOON, write_every_s=0)
    book.request("k", "m", 0)
    running = asyncio.create_task(book.run())
    assert await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(running, return_exceptions=True)
    assert [line.requests for line in store.lines(*EVER)] == [1]


@dataclass
class FakeSource:
    """Workers that tell what the test says; each list is used up answer by answer, then nothing comes."""

    answers: dict[str, list[UsageReport | UsageAway]]
    asked: list[tuple[str, int, float | None]] = field(default_factory=list)
    leaving: list[str] = field(default_factory=list)

    async def report(self, url: str, after: int, epoch: float | None) -> UsageReport:
        self.asked.append((url, after, epoch))
        if not self.answers.get(url):
            try:
                await asyncio.Event().wait()
            finally:
                self.leaving.append(url)
        answer = self.answers[url].pop(0)
        if isinstance(answer, UsageAway):
            raise answer
        return answer


class Sink:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.news = asyncio.Event()

    def used(self, usage: RequestUsage) -> None:
        self.ids.append(usage.request_id)
        self.news.set()

    async def until(self, count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(self.ids) < count:
                self.news.clear()
                await self.news.wait()
        return self.ids


async def test_every_worker_is_asked_on_from_where_its_last_answer_ended() -> None:
    reports: list[UsageReport | UsageAway] = [
        UsageReport(epoch=7.5, next=2, requests=[told("a"), told("b")]),
        UsageReport(epoch=9.5, next=1, requests=[told("c")], lost=3),
    ]
    source, sink = FakeSource({"http://w1": reports}), Sink()
    collector = UsageCollector(source, lambda: [worker("w1", url="http://w1")], sink)
    running = asyncio.create_task(collector.run())
    assert await sink.until(3) == ["a", "b", "c"]
    await asyncio.sleep(0)
    assert source.asked == [("http://w1", 0, None), ("http://w1", 2, 7.5), ("http://w1", 1, 9.5)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert source.leaving == ["http://w1"]


async def test_a_worker_that_does_not_answer_is_asked_again_and_holds_no_other_up() -> None:
    answers: dict[str, list[UsageReport | UsageAway]] = {
        "http://bad": [UsageAway("reset"), UsageReport(epoch=1, next=1, requests=[told("late")])],
        "http://good": [UsageReport(epoch=1, next=1, requests=[told("soon")])],
    }
    sink = Sink()
    workers = [worker("bad", url="http://bad"), worker("good", url="http://good")]
    running = asyncio.create_task(UsageCollector(FakeSource(answers), lambda: workers, sink).run())
    assert await sink.until(2) == ["soon", "late"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_only_own_workers_that_can_have_answered_are_asked() -> None:
    external = worker("vllm", url="http://vllm").model_copy(
        update={"external": ExternalServer(served_as="x")}
    )
    workers: list[Worker] = [
        external,
        worker("loading", url="http://loading", verdict=Verdict.LOADING),
        worker("own", url="http://own"),
    ]
    source = FakeSource({"http://own": [UsageReport(epoch=1, next=1, requests=[told()])]})
    sink = Sink()
    running = asyncio.create_task(UsageCollector(source, lambda: workers, sink).run())
    await sink.until(1)
    assert {url for url, _, _ in source.asked} == {"http://own"}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_worker_that_drains_is_followed_until_it_is_gone() -> None:
    workers, looks = [worker("w", url="http://w")], 0

    def look() -> list[Worker]:
        nonlocal looks
        looks += 1
        return workers

    async def some_looks() -> None:
        until = looks + 3
        while looks < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    source = FakeSource({})
    running = asyncio.create_task(UsageCollector(source, look, Sink(), look_again_s=0.01).run())
    async with asyncio.timeout(10):
        await some_looks()
        workers[:] = [worker("w", url="http://w", verdict=Verdict.DRAINING)]
        await some_looks()
        assert (len(source.asked), source.leaving) == (1, [])
        workers.clear()
        await some_looks()
        assert source.leaving == ["http://w"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
