"""Whatever happens, every exchange with a worker is closed once and counted out again."""

from contextlib import suppress

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message

from msp_common.errors import ApiError
from msp_gateway.accounting import Accounts
from msp_gateway.calls import Call, Candidate
from msp_gateway.head import JsonRequest
from msp_gateway.record import Record
from msp_gateway.relay import Relay
from msp_gateway.replicas import Replicas
from msp_gateway.stalls import Limits, Progress
from msp_gateway.upstream import UpstreamRefused, UpstreamReset
from msp_gateway.watchdog import Watchdog
from support.gateway_cluster import FakeReports, GatewayClock, worker
from support.gateway_upstream import FakeAnswer, FakeUpstream

JSON = ((b"content-type", b"application/json"),)
EVENTS = ((b"content-type", b"text/event-stream"),)
RESET = UpstreamReset("gone")
ALL = [Candidate(worker(name)) for name in "abc"]
CALL = Call("/v1/chat/completions", (), JsonRequest([b"{}"]))


class ClientBroke(Exception):
    """What a server may raise when it cannot send."""


class Sent:
    """Takes messages; refuses to from the given one on."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.messages: list[Message] = []
        self._breaks_at = breaks_at

    async def __call__(self, message: Message) -> None:
        if len(self.messages) == self._breaks_at:
            raise ClientBroke
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(m["body"] for m in self.messages[1:])


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([FakeAnswer(200, b"{}", headers=JSON)], id="whole"),
        pytest.param([FakeAnswer(204)], id="empty"),
        pytest.param([FakeAnswer(400, b"{}")], id="client's mistake"),
        pytest.param([FakeAnswer(500, b"{}"), FakeAnswer(200, b"{}")], id="server error, then whole"),
        pytest.param([FakeAnswer(500, b"{}"), FakeAnswer(500, RESET)], id="server error, then half an error"),
        pytest.param([UpstreamRefused("no"), UpstreamRefused("no"), UpstreamRefused("no")], id="refused"),
        pytest.param([FakeAnswer(200, RESET), FakeAnswer(200, b"{}")], id="reset before the first byte"),
        pytest.param([FakeAnswer(200, b"{", RESET, headers=JSON)], id="reset in the middle"),
        pytest.param([FakeAnswer(200, b"data", RESET, headers=EVENTS)], id="reset in a stream"),
        pytest.param([FakeAnswer(503, b"x" * 300_000), FakeAnswer(200, b"{}")], id="endless error"),
    ],
)
@pytest.mark.parametrize("client_breaks_at", [None, 0, 1])
async def test_every_exchange_is_closed_once(
    script: list[FakeAnswer | UpstreamRefused], client_breaks_at: int | None
) -> None:
    answers = [result for result in script if isinstance(result, FakeAnswer)]
    for answer in answers:
        answer.closed = 0
    replicas = Replicas(5, GatewayClock())
    upstream = FakeUpstream(*script)
    relay = over(upstream, replicas)
    with suppress(ApiError, ClientBroke):
        await relay.run(CALL, ALL, record(), Sent(client_breaks_at))
    assert len(upstream.asked) == len(script)
    assert [answer.closed for answer in answers] == [1] * len(answers)
    assert replicas.in_flight == {}


def over(upstream: FakeUpstream, replicas: Replicas) -> Relay:
    watchdog = Watchdog(Limits(look_after_s=5, give_up_after_s=5), lambda worker_id: Progress.UNKNOWN)
    return Relay(
        upstream, replicas, FakeReports(), watchdog, worker, Accounts(CollectorRegistry(), lambda: 0.0)
    )


def record() -> Record:
    return Record("req_1", CALL.path, 0.0)


async def test_an_empty_answer_is_an_answer() -> None:
    sent = Sent()
    relay = over(FakeUpstream(FakeAnswer(204)), Replicas(5, GatewayClock()))
    last = await relay.run(CALL, ALL[:1], record(), sent)
    assert (sent.messages[0]["status"], sent.body, last) == (204, b"", b"")


async def test_a_stream_that_ends_without_an_empty_line_is_passed_on_whole() -> None:
    sent = Sent()
    answer = FakeAnswer(200, b"data: 1\n\nda", b"ta: 2\n", headers=EVENTS)
    relay = over(FakeUpstream(answer), Replicas(5, GatewayClock()))
    last = await relay.run(CALL, ALL[:1], record(), sent)
    assert last is not None
    assert sent.body + last == b"data: 1\n\ndata: 2\n"
