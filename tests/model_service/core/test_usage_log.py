"""The log of what requests used: numbers, waiting, forgetting, and the worker's end."""

import asyncio

import pytest

from msp_common.contracts.usage import RequestUsage, UsageReport
from msp_model_service.usage_log import UsageLog

EPOCH = 1234.5
LONG_S = 600.0


def usage(number: int) -> RequestUsage:
    return RequestUsage(
        request_id=f"req_{number}", path="/v1/chat/completions", status=200, complete=True, stream=False,
        duration_s=0.1,
    )  # fmt: skip


def log_of(ended: int, kept: int = 100, gather_s: float = 0.0) -> UsageLog:
    log = UsageLog(EPOCH, kept=kept, gather_s=gather_s)
    for number in range(1, ended + 1):
        log.begun()
        log.ended(usage(number))
    return log


def ids(report: UsageReport) -> list[int]:
    return [int(one.request_id.removeprefix("req_")) for one in report.requests]


async def waiting(log: UsageLog, after: int) -> "asyncio.Task[UsageReport]":
    """A reader that waits already."""
    task = asyncio.create_task(log.report(after, LONG_S))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


async def got(task: "asyncio.Task[UsageReport]") -> UsageReport:
    async with asyncio.timeout(10):
        return await task


async def test_a_reader_gets_what_came_after_the_number_it_names() -> None:
    log = log_of(5)
    first = await log.report(0, LONG_S)
    assert (ids(first), first.next, first.lost, first.epoch) == ([1, 2, 3, 4, 5], 5, 0, EPOCH)
    log.begun()
    log.ended(usage(6))
    again = await log.report(first.next, LONG_S, EPOCH)
    assert (ids(again), again.next) == ([6], 6)


async def test_what_was_forgotten_is_counted() -> None:
    report = await log_of(10, kept=4).report(3, LONG_S)
    assert (ids(report), report.next, report.lost) == ([7, 8, 9, 10], 10, 3)


@pytest.mark.parametrize(
    ("after", "epoch"), [(3, EPOCH - 1), (9, None)], ids=["another epoch", "a number from nowhere"]
)
async def test_a_number_of_an_earlier_life_reads_from_the_beginning(after: int, epoch: float | None) -> None:
    assert ids(await log_of(4).report(after, LONG_S, epoch)) == [1, 2, 3, 4]


async def test_a_long_report_comes_in_parts() -> None:
    log, told, after = log_of(1300, kept=2000), list[int](), 0
    while len(told) < 1300:
        report = await log.report(after, LONG_S)
        assert 0 < len(report.requests) <= 512
        told, after = told + ids(report), report.next
    assert told == list(range(1, 1301))


async def test_a_reader_waits_for_the_next_request() -> None:
    log = log_of(2)
    log.begun()
    reader = await waiting(log, 2)
    log.ended(usage(3))
    assert ids(await got(reader)) == [3]


async def test_nothing_new_is_told_when_the_time_is_over() -> None:
    report = await log_of(2).report(2, 0.01)
    assert (report.requests, report.next, report.lost) == ([], 2, 0)


async def test_requests_that_end_shortly_after_one_another_make_one_report() -> None:
    log = log_of(0, gather_s=0.05)
    reader = await waiting(log, 0)
    for number in (1, 2, 3):
        log.begun()
        log.ended(usage(number))
        await asyncio.sleep(0)
    assert ids(await got(reader)) == [1, 2, 3]


async def test_the_end_lets_an_idle_workers_readers_go() -> None:
    log = log_of(2)
    reader = await waiting(log, 2)
    log.close()
    assert (await got(reader)).requests == []
    assert (await log.report(2, LONG_S)).requests == []


async def test_the_end_waits_for_the_requests_that_still_run() -> None:
    log = log_of(0, gather_s=LONG_S)
    log.begun()
    log.begun()
    reader = await waiting(log, 0)
    log.close()
    log.ended(usage(1))
    await asyncio.sleep(0.01)
    assert not reader.done()
    log.ended(usage(2))
    assert ids(await got(reader)) == [1, 2]
