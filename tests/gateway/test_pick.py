"""In which order replicas are asked."""

from msp_common.contracts.workers import Verdict, Worker, WorkerLoad
from msp_gateway.pick import pick
from support.gateway_cluster import worker


def order(
    *workers: Worker,
    in_flight: dict[str, int] | None = None,
    cooling: frozenset[str] = frozenset(),
    turn: int = 0,
) -> str:
    return "".join(w.id for w in pick(workers, in_flight or {}, cooling, turn))


A, B, C = worker("a"), worker("b"), worker("c")


def test_equals_take_turns() -> None:
    assert [order(A, B, C, turn=turn) for turn in range(4)] == ["abc", "bca", "cab", "abc"]


def test_least_loaded_first_counting_what_is_in_flight_here_and_what_was_reported() -> None:
    busy = worker("b", load=WorkerLoad(in_flight=1, queued=2))
    assert order(busy, A, C, in_flight={"a": 4, "c": 2}) == "cba"


def test_suspects_come_after_ready_ones_however_idle() -> None:
    suspect = worker("s", verdict=Verdict.SUSPECT)
    assert order(suspect, A, in_flight={"a": 9}) == "as"


def test_a_replica_that_failed_a_moment_ago_comes_last() -> None:
    suspect = worker("s", verdict=Verdict.SUSPECT)
    assert order(A, B, suspect, cooling=frozenset("a")) == "bsa"


def test_all_are_still_asked_when_all_are_cooling() -> None:
    assert order(A, B, cooling=frozenset("ab")) == "ab"


def test_nobody_is_picked_from_nobody() -> None:
    assert order() == ""
