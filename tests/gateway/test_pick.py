"""In which order replicas are asked."""

from msp_common.contracts.workers import Verdict, Worker, WorkerLoad
from msp_gateway.pick import Seen, pick
from support.gateway_cluster import worker


def order(
    *workers: Worker,
    in_flight: dict[str, int] | None = None,
    cooling: frozenset[str] = frozenset(),
    turn: int = 0,
    shares: dict[str, float] | None = None,
    conversation: str | None = None,
) -> str:
    seen = Seen(in_flight or {}, cooling, shares or {})
    return "".join(w.id for w in pick(workers, seen, turn, conversation))


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


def test_a_replica_that_says_itself_that_it_stands_still_comes_after_suspects() -> None:
    still = worker("x", load=WorkerLoad(in_flight=1, last_progress_age_s=30))
    suspect = worker("s", verdict=Verdict.SUSPECT)
    assert order(still, suspect, A, in_flight={"a": 9}) == "asx"


def test_a_newcomer_gets_its_share_of_the_work_and_no_more() -> None:
    in_flight = dict.fromkeys("abc", 0)
    for turn in range(210):
        first = order(A, B, C, in_flight=in_flight, shares={"c": 0.1}, turn=turn)[0]
        in_flight[first] += 1
    assert in_flight == {"a": 100, "b": 100, "c": 10}


def test_a_conversation_comes_back_to_its_replica_while_that_is_not_much_busier() -> None:
    home = order(A, B, C, conversation="x")[0]
    other = {"a", "b", "c"} - {home}
    assert all(order(A, B, C, conversation="x", turn=turn)[0] == home for turn in range(9))
    assert order(A, B, C, conversation="x", in_flight={home: 2})[0] == home
    assert order(A, B, C, conversation="x", in_flight={home: 3})[0] in other
    assert order(A, B, C, conversation="x", in_flight={home: 22, **dict.fromkeys(other, 10)})[0] == home
    assert order(A, B, C, conversation="x", in_flight={home: 23, **dict.fromkeys(other, 10)})[0] in other


def test_a_conversations_replica_is_left_when_it_is_in_doubt() -> None:
    home = order(A, B, C, conversation="x")[0]
    assert order(A, B, C, conversation="x", cooling=frozenset(home))[0] != home


def test_conversations_spread_and_stay_when_a_replica_goes() -> None:
    names = [f"conversation {number}" for number in range(300)]
    before = {name: order(A, B, C, conversation=name)[0] for name in names}
    assert all(60 < list(before.values()).count(home) < 140 for home in "abc")
    after = {name: order(A, B, conversation=name)[0] for name in names}
    assert all(after[name] == home for name, home in before.items() if home != "c")
