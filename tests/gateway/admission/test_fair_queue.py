"""Who goes next: turns, bounds, and what must hold whatever comes."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from msp_gateway.admission.fair_queue import FairQueue, QueueFull, Room, Ticket

MODEL = "org/chat"


def queue_of(capacity: int, room: Room = Room(100, 100)) -> FairQueue:  # noqa: B008  (frozen)
    queue = FairQueue(room)
    queue.set_capacity(MODEL, capacity)
    return queue


def asked(queue: FairQueue, key: str, weight: int = 1, key_limit: int | None = None) -> Ticket:
    ticket = Ticket(key, MODEL, weight, key_limit)
    queue.ask(ticket)
    return ticket


def served_keys(queue: FairQueue, first: Ticket) -> list[str]:
    """Keys in the order in which they are served, one at a time, after the first."""
    order, now = [], [first]
    while now:
        ticket = now.pop()
        now += queue.leave(ticket)
        order += [t.key for t in now]
    return order


def test_while_places_are_free_nobody_waits() -> None:
    queue = queue_of(2)
    tickets = [asked(queue, "a"), asked(queue, "a"), asked(queue, "a")]
    assert [t.state for t in tickets] == ["granted", "granted", "waiting"]
    assert [t.position for t in tickets] == [0, 0, 1]


def test_a_place_that_becomes_free_goes_to_the_first_of_a_key() -> None:
    queue = queue_of(1)
    inside, first, second = (asked(queue, "a") for _ in range(3))
    assert queue.leave(inside) == [first]
    assert queue.leave(first) == [second]


def test_keys_take_turns_however_many_requests_each_has() -> None:
    queue = queue_of(1)
    inside = asked(queue, "greedy")
    for _ in range(5):
        asked(queue, "greedy")
    late = asked(queue, "modest")
    assert late.position == 2
    assert served_keys(queue, inside)[:3] == ["greedy", "modest", "greedy"]


def test_a_key_of_twice_the_weight_is_served_twice_as_often() -> None:
    queue = queue_of(1)
    inside = asked(queue, "x")
    for _ in range(12):
        asked(queue, "light", weight=1)
        asked(queue, "heavy", weight=2)
    served = served_keys(queue, inside)[:12]
    assert (served.count("heavy"), served.count("light")) == (8, 4)


def test_leaving_and_coming_again_gains_no_turn() -> None:
    queue = queue_of(1)
    inside = asked(queue, "a")
    asked(queue, "b")
    mine = asked(queue, "a")
    (granted,) = queue.leave(inside)
    assert granted.key == "b"
    queue.leave(mine)
    again = asked(queue, "a")
    asked(queue, "b")
    assert queue.leave(granted) == [again]


def test_a_key_at_its_own_limit_waits_while_others_pass() -> None:
    queue = queue_of(3)
    one = asked(queue, "few", key_limit=1)
    held = asked(queue, "few", key_limit=1)
    assert held.state == "waiting"
    assert asked(queue, "other").state == "granted"
    assert queue.leave(one) == [held]


def test_the_end_of_a_request_lets_in_one_of_the_same_key_that_waits_for_another_model() -> None:
    queue = queue_of(1)
    queue.set_capacity("org/other", 1)
    one = asked(queue, "few", key_limit=1)
    elsewhere = Ticket("few", "org/other", key_limit=1)
    queue.ask(elsewhere)
    assert queue.leave(one) == [elsewhere]


def test_more_replicas_let_waiting_requests_in_at_once() -> None:
    queue = queue_of(0)
    tickets = [asked(queue, "a") for _ in range(3)]
    assert queue.set_capacity(MODEL, 2) == tickets[:2]


def test_fewer_replicas_take_no_place_away_and_let_nobody_in_until_there_is_room() -> None:
    queue = queue_of(2)
    one, two = asked(queue, "a"), asked(queue, "a")
    waiting = asked(queue, "a")
    assert queue.set_capacity(MODEL, 1) == []
    assert queue.leave(one) == []
    assert queue.leave(two) == [waiting]


@pytest.mark.parametrize(
    ("room", "reason"),
    [(Room(100, 2), "2 requests of this API key wait already"), (Room(2, 100), "2 requests wait already")],
)
def test_as_many_wait_as_may_and_no_more(room: Room, reason: str) -> None:
    queue = queue_of(0, room)
    asked(queue, "a"), asked(queue, "a")
    with pytest.raises(QueueFull, match=reason) as full:
        asked(queue, "a")
    assert full.value.position == 3
    assert queue.waiting == 2


def test_bodies_that_wait_have_their_bound_too_but_one_may_always_wait() -> None:
    queue = queue_of(0, Room(100, 100, body_bytes=10))
    large = Ticket("a", MODEL, body_bytes=50)
    queue.ask(large)
    with pytest.raises(QueueFull, match="bodies of 1 requests"):
        queue.ask(Ticket("b", MODEL, body_bytes=1))
    queue.leave(large)
    queue.ask(Ticket("b", MODEL, body_bytes=6))
    queue.ask(Ticket("b", MODEL, body_bytes=4))
    assert queue.waiting == 2


def test_the_next_of_a_key_may_have_another_limit() -> None:
    queue = queue_of(2)
    asked(queue, "a", key_limit=1)
    held = asked(queue, "a", key_limit=1)
    raised = asked(queue, "a", key_limit=2)
    assert queue.leave(held) == [raised]


def test_a_request_that_was_refused_leaves_nothing_behind() -> None:
    queue = queue_of(0, Room(0, 0))
    ticket = Ticket("a", MODEL)
    with pytest.raises(QueueFull):
        queue.ask(ticket)
    assert queue.leave(ticket) == []
    assert queue.waiting == 0


class AnyTraffic(RuleBasedStateMachine):
    """Comes, goes, gives up, and changes of capacity, in any order."""

    tickets = Bundle("tickets")
    LIMITS = {"limited": 2}
    WEIGHTS = {"heavy": 3}

    def __init__(self) -> None:
        super().__init__()
        self.queue = FairQueue(Room(requests=12, requests_per_key=6))
        self.capacity = {"m": 0, "n": 0}
        self.inside: set[Ticket] = set()
        self.waiting: list[Ticket] = []
        self.passed: dict[Ticket, int] = {}
        """How many were granted on its model while it waited."""

    def admitted(self, granted: list[Ticket]) -> None:
        for ticket in granted:
            assert ticket in self.waiting, "only who waits is granted, and only once"
            self.waiting.remove(ticket)
            self.inside.add(ticket)
            for other in self.waiting:
                if other.model == ticket.model:
                    self.passed[other] += 1

    @rule(target=tickets, key=st.sampled_from(["a", "b", "limited", "heavy"]), model=st.sampled_from("mn"))
    def comes(self, key: str, model: str) -> object:
        ticket = Ticket(key, model, self.WEIGHTS.get(key, 1), self.LIMITS.get(key))
        before = self.queue.waiting
        try:
            self.queue.ask(ticket)
        except QueueFull:
            assert self.queue.waiting == before
            assert before == 12 or sum(t.key == key for t in self.waiting) == 6
            return multiple()
        if ticket.state == "granted":
            self.inside.add(ticket)
        else:
            assert ticket.position == self.queue.position(ticket)
            self.waiting.append(ticket)
            self.passed[ticket] = 0
        return ticket

    @rule(ticket=consumes(tickets))
    def goes(self, ticket: Ticket) -> None:
        self.inside.discard(ticket)
        if ticket in self.waiting:
            self.waiting.remove(ticket)
        self.admitted(self.queue.leave(ticket))
        assert self.queue.leave(ticket) == []

    @rule(model=st.sampled_from("mn"), capacity=st.integers(0, 5))
    def changes(self, model: str, capacity: int) -> None:
        self.capacity[model] = capacity
        self.admitted(self.queue.set_capacity(model, capacity))

    @invariant()
    def what_is_told_is_so(self) -> None:
        assert all(t.state == "granted" for t in self.inside)
        assert all(t.state == "waiting" for t in self.waiting)
        for model in "mn":
            assert self.queue.in_flight(model) == sum(t.model == model for t in self.inside)
            assert self.queue.waiting_for(model) == sum(t.model == model for t in self.waiting)
        assert self.queue.waiting == len(self.waiting) <= 12

    @invariant()
    def no_place_is_left_empty_while_somebody_may_have_it(self) -> None:
        for ticket in self.waiting:
            limit = self.LIMITS.get(ticket.key)
            own = sum(t.key == ticket.key for t in self.inside)
            if limit is None or own < limit:
                assert self.queue.in_flight(ticket.model) >= self.capacity[ticket.model]

    @invariant()
    def keys_keep_their_limits(self) -> None:
        assert sum(t.key == "limited" for t in self.inside) <= 2

    @invariant()
    def nobody_starves(self) -> None:
        # Until the turn of a key's k-th request, every other key has k turns at most, in weight for weight,
        # and what it may have had in hand. A key at its own limit gives its turns away.
        for ticket in self.waiting:
            if ticket.key in self.LIMITS:
                continue
            weight = ticket.weight
            most = sum(6 * other / weight + 2 * other for other in (1, 1, 1, 3)) + 6
            assert self.passed[ticket] <= most


class NoPlaceBeyondCapacity(AnyTraffic):
    """The same where capacity only grows: then there are never more inside than places."""

    @rule(model=st.sampled_from("mn"), capacity=st.integers(0, 5))
    def changes(self, model: str, capacity: int) -> None:
        super().changes(model, max(capacity, self.capacity[model]))

    @invariant()
    def capacity_holds(self) -> None:
        assert all(self.queue.in_flight(model) <= self.capacity[model] for model in "mn")


TestAnyTraffic = AnyTraffic.TestCase
TestNoPlaceBeyondCapacity = NoPlaceBeyondCapacity.TestCase
for case in (TestAnyTraffic, TestNoPlaceBeyondCapacity):
    case.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
