"""A request explained: where it could have gone, where it went, and why it ended as it did."""

import httpx
from fastapi import FastAPI, Request
from prometheus_client import CollectorRegistry

from msp_common.error_response import error_response
from msp_common.errors import ApiError, Unauthenticated
from msp_gateway.accounting import Accounts
from msp_gateway.failures import FailedTry, Happened
from msp_gateway.record import Record
from msp_gateway.requests.explanation import explain
from msp_gateway.requests.recent import RecentRequests
from msp_gateway.requests.routes import build_router

PATH = "/v1/chat/completions"


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


class Kept:
    """Accounts over a ring of three."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.recent = RecentRequests(3)
        self.metrics = CollectorRegistry()
        self.accounts = Accounts(self.metrics, self.clock, on_open=self.recent.add, now=lambda: 1e9)

    def answered(self, request_id: str, *, identity: str = "anna", model: str = "m") -> Record:
        record = self.accounts.open(request_id, PATH)
        record.identity = identity
        self.accounts.asks(record, "w1", model)
        record.status, record.complete = 200, True
        self.accounts.close(record)
        return record


def failed_over(kept: Kept) -> Record:
    record = kept.accounts.open("r1", PATH)
    record.identity = "anna"
    kept.clock.at += 0.5
    kept.accounts.read(record)
    record.waited_s = 1.0
    kept.clock.at += 1.25
    record.candidates = (("w1", "m", "suspect"), ("w2", "m", "ready"))
    kept.accounts.asks(record, "w1", "m")
    kept.clock.at += 2
    record.failed.append(FailedTry(Happened.RESET, "w1", "m", "connection reset"))
    kept.accounts.asks(record, "w2", "m")
    return record


def test_every_try_is_told_with_its_time_and_whose_fault_it_was() -> None:
    kept = Kept()
    record = failed_over(kept)
    kept.clock.at += 4
    kept.accounts.first_byte(record)
    record.status, record.complete = 200, True
    kept.accounts.close(record)
    told = explain(record)
    assert [(c.worker, c.verdict) for c in told.candidates] == [("w1", "suspect"), ("w2", "ready")]
    first, second = told.tries
    assert (first.worker, first.began_s, first.ended_s, first.what, first.fault, first.detail) == (
        "w1",
        1.75,
        3.75,
        "reset",
        "worker",
        "connection reset",
    )
    assert (second.worker, second.began_s, second.ended_s, second.what) == ("w2", 3.75, 7.75, "answered")
    assert (told.waited_s, told.first_byte_s, told.duration_s, told.under_way) == (1.0, 7.75, 7.75, False)


def test_one_under_way_says_so() -> None:
    told = explain(failed_over(Kept()))
    assert told.under_way
    assert (told.status, told.duration_s) == (None, None)
    assert told.tries[-1].what == "under way"
    assert told.tries[-1].ended_s is None


def test_what_the_gateway_added_leaves_out_the_upload_and_the_queue() -> None:
    assert failed_over(Kept()).added_s == 0.25


def test_errors_are_counted_by_cause_and_retries_by_model() -> None:
    kept = Kept()
    record = failed_over(kept)
    record.failed.append(FailedTry(Happened.BROKEN_OFF, "w2", "m"))
    record.status = 200
    kept.accounts.close(record)
    labels = {"path": PATH, "model": "m", "cause": "broken_off"}
    assert kept.metrics.get_sample_value("msp_gateway_errors_total", labels) == 1
    assert kept.metrics.get_sample_value("msp_gateway_retries_total", {"model": "m"}) == 1


def test_only_the_newest_are_kept() -> None:
    kept = Kept()
    for number in range(5):
        kept.answered(f"r{number}")
    assert [record.request_id for record in kept.recent.newest()] == ["r4", "r3", "r2"]
    assert kept.recent.find("r0") is None


def routes(kept: Kept) -> httpx.AsyncClient:
    """Read by keys named in the field `who`; `admin` reads all."""

    def may_read(request: Request) -> str | None:
        who = request.headers.get("who")
        if who is None:
            raise Unauthenticated("who?")
        return None if who == "admin" else who

    app = FastAPI()
    app.include_router(build_router(kept.recent, may_read))
    app.add_exception_handler(ApiError, lambda request, error: error_response(error))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway")


async def test_a_key_reads_its_own_requests_and_an_admin_all() -> None:
    kept = Kept()
    kept.answered("a", identity="anna")
    kept.answered("b", identity="bert", model="other")

    async with routes(kept) as client:

        async def listed(who: str, **filters: str) -> list[str]:
            answer = await client.get("/requests", headers={"who": who}, params=filters)
            return [request["request_id"] for request in answer.json()["requests"]]

        assert await listed("admin") == ["b", "a"]
        assert await listed("admin", model="other") == ["b"]
        assert await listed("admin", key="anna") == ["a"]
        assert await listed("admin", status="404") == []
        assert await listed("anna") == ["a"]
        assert await listed("anna", key="bert") == []
        assert (await client.get("/requests/b", headers={"who": "bert"})).json()["worker"] == "w1"
        assert (await client.get("/requests/b", headers={"who": "anna"})).status_code == 404
        assert (await client.get("/requests/b")).status_code == 401
