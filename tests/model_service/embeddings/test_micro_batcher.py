"""The thread that batches the inputs of concurrent requests: what runs, who is told what, and who waits."""

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from msp_common.errors import InternalError, TooManyRequests, Unavailable
from msp_model_service.engines.batch_cutting import PassBudget
from msp_model_service.engines.embedder import TokenIds
from msp_model_service.engines.failures import IN_A_ROW
from msp_model_service.engines.micro_batcher import MicroBatcher

PATIENCE_S = 10.0
POISON, NOT_A_NUMBER = 666, 667


class DeviceLost(Exception):
    """After it nothing works."""


class GatedModel:
    """Gives each input its first id and its length. Every pass waits for the test, unless `flows`."""

    def __init__(self, *, flows: bool) -> None:
        self.passes: list[list[int]] = []
        """First ids of the inputs of each."""
        self.lost = False
        self._began: queue.Queue[None] = queue.Queue()
        self._flows = threading.Event()
        self._go = threading.Semaphore(0)
        if flows:
            self._flows.set()

    def forward(self, inputs: Sequence[TokenIds]) -> NDArray[np.float32]:
        self.passes.append([ids[0] for ids in inputs])
        self._began.put(None)
        if not self._flows.is_set():
            assert self._go.acquire(timeout=PATIENCE_S)
        if self.lost:
            raise DeviceLost("the device fell off the bus")
        if any(POISON in ids for ids in inputs):
            raise ValueError("an id that breaks the model")
        rows = np.array([[ids[0], len(ids)] for ids in inputs], dtype=np.float32)
        rows[[NOT_A_NUMBER in ids for ids in inputs]] = np.nan
        return rows

    async def began(self) -> None:
        """The next pass began."""
        await asyncio.to_thread(self._began.get, timeout=PATIENCE_S)

    def finish_pass(self) -> None:
        self._go.release()

    def flow(self) -> None:
        """Let this pass and all others run."""
        self._flows.set()
        self._go.release()


def batcher_of(model: GatedModel, *, max_queued: int = 64, max_waiting_tokens: int = 100_000) -> MicroBatcher:
    batcher = MicroBatcher(
        "test",
        model.forward,
        PassBudget(padded_tokens=512, pass_tokens=24),
        max_queued,
        broken_by=(DeviceLost,),
        max_waiting_tokens=max_waiting_tokens,
    )
    batcher.start()
    return batcher


@pytest.fixture
async def model() -> GatedModel:
    return GatedModel(flows=False)


@pytest.fixture
async def batcher(model: GatedModel) -> AsyncIterator[MicroBatcher]:
    made = batcher_of(model)
    yield made
    model.flow()
    await asyncio.to_thread(made.stop)


async def asked(batcher: MicroBatcher, *inputs: list[int]) -> "asyncio.Task[NDArray[np.float32]]":
    """A request that has been accepted."""
    task = asyncio.create_task(batcher.embed(inputs))
    await asyncio.sleep(0)
    return task


async def test_what_queued_during_a_pass_goes_through_the_next_together(
    model: GatedModel, batcher: MicroBatcher
) -> None:
    requests = [await asked(batcher, [1, 1])]
    await model.began()
    requests += [await asked(batcher, [number, 1]) for number in (2, 3, 4)]
    model.flow()
    answers = await asyncio.gather(*requests)
    assert model.passes == [[1], [2, 3, 4]]
    assert [answer.tolist() for answer in answers] == [[[number, 2]] for number in (1, 2, 3, 4)]


async def test_a_request_gets_its_rows_in_the_order_of_its_inputs(
    model: GatedModel, batcher: MicroBatcher
) -> None:
    model.flow()
    inputs = [[number] * length for number, length in enumerate((300, 2, 90, 2, 300, 1, 40, 600))]
    rows = await batcher.embed(inputs)
    assert rows.tolist() == [[ids[0], len(ids)] for ids in inputs]
    assert len(model.passes) > 1


async def test_a_lone_request_waits_for_no_others(model: GatedModel, batcher: MicroBatcher) -> None:
    request = await asked(batcher, [1])
    await model.began()
    model.finish_pass()
    assert (await request).tolist() == [[1, 1]]


async def test_a_small_request_does_not_wait_for_a_large_one(
    model: GatedModel, batcher: MicroBatcher
) -> None:
    large = await asked(batcher, *([1] * 250 for _ in range(100)))
    await model.began()
    small = await asked(batcher, [2])
    for _ in range(3):
        model.finish_pass()
        await model.began()
    assert (await asyncio.wait_for(small, PATIENCE_S)).tolist() == [[2, 1]]
    assert not large.done()
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)


async def test_a_client_that_left_costs_no_pass(model: GatedModel, batcher: MicroBatcher) -> None:
    first = await asked(batcher, [1])
    await model.began()
    leaving = await asked(batcher, [2])
    staying = await asked(batcher, [3])
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    model.flow()
    await asyncio.gather(first, staying)
    assert model.passes == [[1], [3]]


async def test_a_large_request_whose_client_left_is_not_finished(
    model: GatedModel, batcher: MicroBatcher
) -> None:
    large = await asked(batcher, *([1] * 250 for _ in range(100)))
    await model.began()
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    assert batcher.load_now().in_flight == 0
    model.flow()
    await batcher.embed([[2]])
    assert model.passes == [[1, 1], [2]]


async def test_an_input_that_breaks_the_model_fails_its_own_request_only(
    model: GatedModel, batcher: MicroBatcher
) -> None:
    requests = [await asked(batcher, [1])]
    await model.began()
    requests += [await asked(batcher, [number, 0]) for number in (2, 3, POISON, 4, 5)]
    model.flow()
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(outcomes.pop(3), ValueError)
    assert [rows.tolist()[0][0] for rows in outcomes if isinstance(rows, np.ndarray)] == [1, 2, 3, 4, 5]
    assert batcher.problem() is None


async def test_the_rest_of_a_failed_request_is_not_run(model: GatedModel, batcher: MicroBatcher) -> None:
    request = await asked(batcher, [POISON], *([1] * 250 for _ in range(50)))
    model.flow()
    with pytest.raises(ValueError, match="breaks"):
        await request
    assert model.passes == [[POISON]]


async def test_a_vector_that_is_not_finite_is_an_error_of_its_request(
    model: GatedModel, batcher: MicroBatcher
) -> None:
    requests = [await asked(batcher, [1])]
    await model.began()
    requests += [await asked(batcher, [2, 0]), await asked(batcher, [3, NOT_A_NUMBER])]
    model.flow()
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [np.ndarray, np.ndarray, InternalError]


async def test_failures_in_a_row_are_a_problem_and_a_success_between_them_is_none() -> None:
    model = GatedModel(flows=True)
    batcher = batcher_of(model)

    async def fail(times: int) -> None:
        for _ in range(times):
            with pytest.raises(ValueError, match="breaks"):
                await batcher.embed([[POISON]])

    await fail(IN_A_ROW - 1)
    await batcher.embed([[1]])
    await fail(IN_A_ROW - 1)
    assert batcher.problem() is None
    await fail(1)
    assert f"{IN_A_ROW} requests in a row failed" in (batcher.problem() or "")
    batcher.stop()


async def test_a_lost_device_is_a_problem_at_once_and_nothing_is_tried_again(
    model: GatedModel, batcher: MicroBatcher
) -> None:
    requests = [await asked(batcher, [1])]
    await model.began()
    requests += [await asked(batcher, [number]) for number in (2, 3)]
    model.lost = True
    model.flow()
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {DeviceLost}
    assert model.passes == [[1], [2, 3]]
    assert "device failed" in (batcher.problem() or "")


async def test_one_request_more_than_may_wait_is_refused_at_once() -> None:
    model = GatedModel(flows=False)
    batcher = batcher_of(model, max_queued=2)
    accepted = [await asked(batcher, [1])]
    await model.began()
    accepted += [await asked(batcher, [number]) for number in (2, 3)]
    with pytest.raises(TooManyRequests, match="2 requests are waiting"):
        await asyncio.wait_for(batcher.embed([[4]]), PATIENCE_S)
    assert batcher.load_now().queued == 2
    model.flow()
    await asyncio.gather(*accepted)
    batcher.stop()


async def test_tokens_that_wait_are_bounded_but_one_large_request_is_taken() -> None:
    model = GatedModel(flows=False)
    batcher = batcher_of(model, max_waiting_tokens=1000)
    large = await asked(batcher, *([1] * 500 for _ in range(4)))
    await model.began()
    with pytest.raises(TooManyRequests, match="1500 tokens are waiting"):
        await asyncio.wait_for(batcher.embed([[2]]), PATIENCE_S)
    large.cancel()
    await asyncio.gather(large, return_exceptions=True)
    model.flow()
    # What its tokens took is free again.
    await asyncio.gather(*(batcher.embed([[3] * 400]) for _ in range(2)))
    batcher.stop()


async def test_it_tells_how_busy_it_is(model: GatedModel, batcher: MicroBatcher) -> None:
    assert batcher.load_now().model_dump(include={"in_flight", "queued", "last_progress_age_s"}) == {
        "in_flight": 0,
        "queued": 0,
        "last_progress_age_s": None,
    }
    requests = [await asked(batcher, [1])]
    await model.began()
    requests.append(await asked(batcher, [2]))
    load = batcher.load_now()
    assert (load.in_flight, load.queued) == (1, 1)
    assert load.last_progress_age_s is not None
    model.flow()
    await asyncio.gather(*requests)
    await asyncio.to_thread(batcher.stop)
    assert batcher.load_now().last_progress_age_s is None
    assert (batcher.load_now().in_flight, batcher.load_now().queued) == (0, 0)
    assert batcher.load_now().tokens_per_s is not None


async def test_stopping_ends_what_waits_and_what_runs(model: GatedModel, batcher: MicroBatcher) -> None:
    requests = [await asked(batcher, [1])]
    await model.began()
    requests.append(await asked(batcher, [2]))
    stopping = asyncio.create_task(asyncio.to_thread(batcher.stop))
    outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    model.flow()
    await stopping
    with pytest.raises(Unavailable):
        await batcher.embed([[3]])
    assert model.passes == [[1]]


async def test_an_empty_request_is_refused_rather_than_waited_for(batcher: MicroBatcher) -> None:
    with pytest.raises(ValueError, match="nothing"):
        await batcher.embed([])


async def test_hundreds_of_cancelled_requests_leave_nothing_behind(
    model: GatedModel, batcher: MicroBatcher
) -> None:
    first = await asked(batcher, [1])
    await model.began()
    for _ in range(10):
        leaving = [await asked(batcher, [2] * 5) for _ in range(50)]
        for request in leaving:
            request.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
    assert (batcher.load_now().queued, batcher.load_now().in_flight) == (0, 1)
    model.flow()
    await first
    assert model.passes == [[1]]
