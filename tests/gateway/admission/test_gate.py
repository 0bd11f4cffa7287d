"""Requests that wait for a place, and what they are told."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest

from msp_common.contracts.gpus import Gpu, GpuReport
from msp_gateway.admission import Place
from msp_gateway.admission.fair_queue import Room
from msp_gateway.admission.gate import QueueBounds
from msp_gateway.admission.refusals import Refused, WaitedTooLong
from support.gateway_admission import Admissions, ask, key
from support.gateway_cluster import LLM, worker


async def test_a_request_that_finds_a_place_is_told_nothing() -> None:
    around = Admissions()
    place, request = await around.enter(ask())
    assert (list(place.fields), place.waited_s) == ([], 0)
    await request.aclose()
    assert around.ledger.inside == []


async def test_the_replicas_slots_are_its_places_and_a_free_one_wakes_who_waits() -> None:
    around = Admissions()
    _, one = await around.enter(ask())
    await around.enter(ask())
    waiting = await around.waits(ask())
    around.clock.now += 3
    await one.aclose()
    place, _ = await asyncio.wait_for(waiting, 10)
    assert dict(place.fields)[b"x-msp-queue-position"] == b"1"
    assert dict(place.fields)[b"x-msp-queue-wait-ms"] == b"3000"
    assert place.waited_s == 3


async def test_the_expected_wait_comes_from_how_long_places_were_held() -> None:
    around = Admissions()
    _, request = await around.enter(ask())
    around.clock.now += 8
    await request.aclose()
    _, one = await around.enter(ask())
    await around.enter(ask())
    waiting = await around.waits(ask())
    await one.aclose()
    place, _ = await asyncio.wait_for(waiting, 10)
    assert dict(place.fields)[b"x-msp-queue-expected-wait-ms"] == b"4000"


async def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    around = Admissions(QueueBounds(Room(0, 0), ahead=0))
    for _ in range(20):
        _, request = await around.enter(ask())
        around.clock.now += 10
        await request.aclose()
    await around.enter(ask())
    await around.enter(ask())
    with pytest.raises(
        Refused, match="org/chat is busy, and 0 requests of this API key wait already"
    ) as refused:
        await around.enter(ask())
    assert refused.value.status == 429
    told = refused.value.headers()
    assert (told["Retry-After"], told["x-msp-queue-position"]) == ("5", "1")
    assert told["x-msp-queue-expected-wait-ms"] == "5000"
    assert len(around.ledger.inside) == 2


async def test_the_time_to_come_back_is_never_longer_than_clients_accept() -> None:
    around = Admissions(QueueBounds(Room(0, 0), ahead=0))
    _, request = await around.enter(ask())
    around.clock.now += 5000
    await request.aclose()
    await around.enter(ask())
    await around.enter(ask())
    with pytest.raises(Refused) as refused:
        await around.enter(ask())
    assert refused.value.headers()["Retry-After"] == "120"


async def test_a_request_whose_turn_would_come_too_late_is_told_at_once() -> None:
    around = Admissions(QueueBounds(deadline_s=30, ahead=0))
    for _ in range(10):
        _, request = await around.enter(ask())
        around.clock.now += 100
        await request.aclose()
    await around.enter(ask())
    await around.enter(ask())
    with pytest.raises(Refused, match="in about 50 s, and requests wait 30 s"):
        await around.enter(ask())
    assert around.gate.queue.waiting == 0


async def test_at_the_deadline_a_request_is_answered_and_leaves_the_queue() -> None:
    around = Admissions(QueueBounds(deadline_s=0.02, ahead=0))
    with pytest.raises(WaitedTooLong, match=r"within 0\.02 s") as refused:
        await around.enter(ask(slots=0))
    assert (refused.value.status, refused.value.headers()["Retry-After"]) == (503, "5")
    assert around.gate.queue.waiting == 0
    assert 'why="deadline"} 1.0' in generate_latest(around.metrics).decode()


async def test_a_client_that_leaves_gives_its_turn_away() -> None:
    around = Admissions()
    _, one = await around.enter(ask())
    await around.enter(ask())
    left, stays = await around.waits(ask()), await around.waits(ask())
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    await one.aclose()
    await asyncio.wait_for(stays, 10)


async def test_a_client_that_leaves_at_the_moment_of_its_turn_takes_no_place_along() -> None:
    around = Admissions()
    _, one = await around.enter(ask())
    await around.enter(ask())
    left, stays = await around.waits(ask()), await around.waits(ask())
    await one.aclose()  # grants the first; it has not run yet
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    await asyncio.wait_for(stays, 10)
    assert around.gate.queue.in_flight(LLM) == 2


async def test_more_replicas_are_noticed_while_requests_wait() -> None:
    around = Admissions()
    looking = asyncio.create_task(around.gate.run())
    waiting = await around.waits(ask(slots=0))
    around.replicas = [worker("new")]
    await asyncio.wait_for(waiting, 10)
    looking.cancel()


async def test_a_keys_concurrency_makes_its_requests_wait_and_no_others() -> None:
    around = Admissions()
    few = key("few", concurrency=1)
    _, one = await around.enter(ask(few, slots=8))
    second = await around.waits(ask(few, slots=8))
    await around.enter(ask(key("other"), slots=8))
    await one.aclose()
    await asyncio.wait_for(second, 10)


async def test_a_client_that_asked_for_it_is_told_while_it_waits() -> None:
    around = Admissions()
    told: asyncio.Queue[tuple[int, float | None]] = asyncio.Queue()

    async def tell(position: int, wait_s: float | None) -> None:
        await told.put((position, wait_s))

    _, one = await around.enter(ask())
    await around.enter(ask())
    waiting = await around.waits(ask(tell_waiting=tell))
    assert await asyncio.wait_for(told.get(), 10) == (1, None)
    await one.aclose()
    await asyncio.wait_for(waiting, 10)


async def test_what_was_charged_is_given_back_when_no_place_was_had() -> None:
    around = Admissions(QueueBounds(Room(0, 0), ahead=0))
    limited = key("limited", requests_per_minute=2, tokens_per_minute=5000)
    with pytest.raises(Refused):
        await around.enter(ask(limited, slots=0, body_bytes=400))
    fields = dict(around.limits.fields(limited))
    assert fields[b"x-ratelimit-remaining-requests"] == b"2"
    assert fields[b"x-ratelimit-remaining-tokens"] == b"5000"


async def test_a_key_over_its_rate_is_refused_and_told_where_it_stands() -> None:
    around = Admissions()
    limited = key("limited", requests_per_minute=1)
    place, request = await around.enter(ask(limited))
    assert dict(place.fields)[b"x-ratelimit-remaining-requests"] == b"0"
    await request.aclose()
    with pytest.raises(Refused, match="has used up its 1 requests per minute") as refused:
        await around.enter(ask(limited))
    assert refused.value.headers()["Retry-After"] == "60"
    assert refused.value.headers()["x-ratelimit-reset-requests"] == "1m0s"
    around.clock.now += 60
    await around.enter(ask(limited))


async def test_requests_share_the_gpu_time_of_the_replicas() -> None:
    around = Admissions()
    gpu = Gpu(uuid="GPU-1", index=0, name="H200", memory_used_bytes=0, memory_total_bytes=1)
    (replica,) = ask().replicas
    lease = replica.lease.model_copy(update={"gpu": GpuReport(gpus=[gpu])})
    on_gpu = replace(ask(), replicas=[replica.model_copy(update={"lease": lease})])
    _, one = await around.enter(on_gpu)
    _, two = await around.enter(replace(on_gpu, request_id="r2"))
    around.clock.now += 4
    await one.aclose()
    around.clock.now += 3
    await two.aclose()
    assert [gpu_s for _, gpu_s in around.ledger.ended] == [2, 5]


async def test_requests_that_wait_and_that_were_refused_are_counted() -> None:
    around = Admissions(QueueBounds(Room(1, 1), ahead=0))
    waiting = await around.waits(ask(slots=0))
    with pytest.raises(Refused):
        await around.enter(ask(slots=0))
    page = generate_latest(around.metrics).decode()
    assert 'msp_gateway_queue_waiting{model="org/chat"} 1.0' in page
    assert 'msp_gateway_requests_refused_total{model="org/chat",why="full"} 1.0' in page
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert 'queue_waiting{model="org/chat"} 0.0' in generate_latest(around.metrics).decode()


moves = st.lists(
    st.tuples(st.sampled_from(["comes", "ends", "leaves", "grows"]), st.integers(0, 20)), max_size=40
)


@settings(max_examples=60, deadline=None)
@given(moves)
def test_whatever_clients_do_no_place_and_no_turn_is_lost(steps: list[tuple[str, int]]) -> None:
    async def traffic() -> None:
        around = Admissions(QueueBounds(Room(6, 3), ahead=0))
        tasks: list[asyncio.Task[tuple[Place, AsyncExitStack]]] = []
        slots = 2
        for what, number in steps:
            if what == "comes":
                identity = key(f"k{number % 3}", concurrency=[1, 3, None][number % 3])
                tasks.append(asyncio.create_task(around.enter(ask(identity, slots=slots))))
            elif what == "grows":
                slots = 2 + number % 3
            elif tasks:
                task = tasks.pop(number % len(tasks))
                if what == "ends" and task.done() and not task.exception():
                    await task.result()[1].aclose()
                else:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                    if not task.cancelled() and not task.exception():
                        await task.result()[1].aclose()
            # Not always until all have run: cancellations are to meet grants.
            if number % 2:
                await asyncio.sleep(0)
            assert len(around.ledger.inside) <= around.gate.queue.in_flight(LLM)
        while tasks:
            done = [task for task in tasks if task.done()]
            for task in done:
                tasks.remove(task)
                if not task.exception():
                    await task.result()[1].aclose()
            await asyncio.sleep(0)
        queue = around.gate.queue
        assert (queue.in_flight(LLM), queue.waiting, around.ledger.inside) == (0, 0, [])

    asyncio.run(asyncio.wait_for(traffic(), 20))
