"""Who may go next when a model's replicas are all busy. Pure: no clock, no I/O, no waiting.

Every model has a line. Within a line keys take turns in proportion to their weights (start-time fair
queueing, Goyal, Vin, Cheng 1996), and the requests of one key go in the order in which they came. A key that
keeps thousands waiting therefore delays another key's single request by no more than its own next turn.
"""

from collections import deque
from dataclasses import dataclass, field
from math import ceil
from typing import Literal

State = Literal["waiting", "granted", "ended"]
"""Where a ticket stands."""


@dataclass(eq=False, slots=True)
class Ticket:
    """One request in the queue, or in its place."""

    key: str
    model: str
    weight: int = 1
    key_limit: int | None = None
    """How many requests of the key may be in places at the same time."""
    body_bytes: int = 0
    state: State = "waiting"
    position: int = 0
    """When it came: how many were to go until its turn, itself included; 0 if it got its place at once."""


@dataclass(frozen=True)
class Room:
    """What may wait."""

    requests: int = 2048
    """Altogether."""
    requests_per_key: int = 1024
    body_bytes: int = 512 * 1024 * 1024
    """Of bodies altogether: who waits keeps its body in memory. One request may wait whatever its size."""


class QueueFull(Exception):
    """The text says which bound was reached. `position` is what the ticket's would have been."""

    def __init__(self, reason: str, position: int) -> None:
        super().__init__(reason)
        self.position = position


@dataclass(slots=True)
class _Line:
    capacity: int = 0
    in_flight: int = 0
    waiting: dict[str, deque[Ticket]] = field(default_factory=dict)
    now: float = 0.0
    """Virtual time: that of the last turn."""
    next_turn: dict[str, float] = field(default_factory=dict)
    """Virtual time before which a key has no turn. Kept while anybody waits, so that nobody gains by leaving
    and coming again."""


class FairQueue:
    """All lines. Methods that may free places give the tickets that are granted by it, in order."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._lines: dict[str, _Line] = {}
        self._key_in_flight: dict[str, int] = {}
        self._key_waiting: dict[str, int] = {}
        self._waiting = 0
        self._waiting_bytes = 0

    @property
    def waiting(self) -> int:
        """How many wait, for whatever model."""
        return self._waiting

    def models_waited_for(self) -> list[str]:
        """Models whose line is not empty."""
        return [model for model, line in self._lines.items() if line.waiting]

    def in_flight(self, model: str) -> int:
        """How many places of the model are taken."""
        line = self._lines.get(model)
        return line.in_flight if line else 0

    def waiting_for(self, model: str) -> int:
        """How many wait for the model."""
        line = self._lines.get(model)
        return sum(map(len, line.waiting.values())) if line else 0

    def set_capacity(self, model: str, capacity: int) -> list[Ticket]:
        """The model has so many places from now on. Nobody loses a place when there are fewer."""
        line = self._lines.get(model)
        if line is None:
            line = self._lines[model] = _Line()
        grown = capacity > line.capacity
        line.capacity = capacity
        return self._grant(line) if grown and line.waiting else []

    def ask(self, ticket: Ticket) -> int:
        """Grant the ticket, or let it wait. How many places of its model are taken then.

        Raises QueueFull: the ticket has ended then.
        """
        line = self._lines.get(ticket.model)
        if line is None:
            line = self._lines[ticket.model] = _Line()
        # Whoever waits while there is a free place waits for its key's own limit: nobody is passed here.
        if self._may_go(ticket, line) and ticket.key not in line.waiting:
            self._take(ticket, line)
            return line.in_flight
        ticket.position = self._place_of(ticket, line, len(line.waiting.get(ticket.key, ())) + 1)
        if reason := self._no_room(ticket):
            ticket.state = "ended"
            raise QueueFull(reason, ticket.position)
        line.waiting.setdefault(ticket.key, deque()).append(ticket)
        self._key_waiting[ticket.key] = self._key_waiting.get(ticket.key, 0) + 1
        self._waiting += 1
        self._waiting_bytes += ticket.body_bytes
        return line.in_flight

    def leave(self, ticket: Ticket) -> list[Ticket]:
        """Give up the place, or the waiting for it. A second time changes nothing."""
        was, ticket.state = ticket.state, "ended"
        if was == "ended":
            return []
        line = self._lines[ticket.model]
        if was == "waiting":
            self._remove(ticket, line)
            # The next of its key may have another limit.
            return self._grant(line) if line.waiting else []
        line.in_flight -= 1
        _count_down(self._key_in_flight, ticket.key)
        granted = self._grant(line) if line.waiting else []
        if ticket.key_limit is not None and ticket.key in self._key_waiting:
            # The key's own limit may have been all that held its requests in other lines.
            for other in self._lines.values():
                if other is not line and ticket.key in other.waiting:
                    granted += self._grant(other)
        return granted

    def position(self, ticket: Ticket) -> int:
        """How many are to go until the waiting ticket's turn, itself included, by the present weights."""
        line = self._lines[ticket.model]
        return self._place_of(ticket, line, line.waiting[ticket.key].index(ticket) + 1)

    def _grant(self, line: _Line) -> list[Ticket]:
        granted = []
        while ticket := self._next(line):
            start = max(line.now, line.next_turn.get(ticket.key, 0.0))
            line.now = start
            line.next_turn[ticket.key] = start + 1 / ticket.weight
            self._remove(ticket, line)
            self._take(ticket, line)
            granted.append(ticket)
        return granted

    def _next(self, line: _Line) -> Ticket | None:
        heads = [tickets[0] for tickets in line.waiting.values() if self._may_go(tickets[0], line)]
        return min(heads, key=lambda t: max(line.now, line.next_turn.get(t.key, 0.0)), default=None)

    def _may_go(self, ticket: Ticket, line: _Line) -> bool:
        limit = ticket.key_limit
        return line.in_flight < line.capacity and (
            limit is None or self._key_in_flight.get(ticket.key, 0) < limit
        )

    def _take(self, ticket: Ticket, line: _Line) -> None:
        ticket.state = "granted"
        line.in_flight += 1
        self._key_in_flight[ticket.key] = self._key_in_flight.get(ticket.key, 0) + 1

    def _remove(self, ticket: Ticket, line: _Line) -> None:
        tickets = line.waiting[ticket.key]
        tickets.remove(ticket)
        if not tickets:
            del line.waiting[ticket.key]
        self._waiting -= 1
        self._waiting_bytes -= ticket.body_bytes
        _count_down(self._key_waiting, ticket.key)
        if not line.waiting:
            line.now, line.next_turn = 0.0, {}

    def _no_room(self, ticket: Ticket) -> str | None:
        room = self._room
        if self._key_waiting.get(ticket.key, 0) >= room.requests_per_key:
            return f"{room.requests_per_key} requests of this API key wait already"
        if self._waiting >= room.requests:
            return f"{room.requests} requests wait already"
        if self._waiting and self._waiting_bytes + ticket.body_bytes > room.body_bytes:
            return (
                f"the bodies of {self._waiting} requests that wait fill the {room.body_bytes} bytes for them"
            )
        return None

    def _place_of(self, ticket: Ticket, line: _Line, own: int) -> int:
        return own + sum(
            min(len(tickets), ceil(own * tickets[0].weight / ticket.weight))
            for key, tickets in line.waiting.items()
            if key != ticket.key
        )


def _count_down(counts: dict[str, int], key: str) -> None:
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1
