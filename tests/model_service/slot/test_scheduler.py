"""What a step does next: budgets, order, memory. Pure decisions, checked one by one and over random lives."""

import random
from dataclasses import replace

import pytest

from msp_model_service.engines.slot.scheduler import (
    FIRST,
    GRAIN,
    HEADROOM,
    Admit,
    Decode,
    Geometry,
    Limits,
    Preempt,
    Prefill,
    Rest,
    Running,
    State,
    fits,
    geometry,
    next_action,
)

LIMITS = Limits(max_rows=4, prefill_tokens=100, kv_tokens=4 * 8 * GRAIN)


def test_nothing_to_do_is_rest() -> None:
    assert next_action(State(), LIMITS, 100) == Rest()


def test_who_waits_is_admitted_and_read_before_others_get_their_token() -> None:
    decoding = Running(1, 50)
    assert next_action(State((decoding,), waiting=30), LIMITS, 100) == Admit()
    assert next_action(State((decoding, Running(2, 30, left=30))), LIMITS, 100) == Prefill(((2, 30),))
    assert next_action(State((decoding, Running(2, 30))), LIMITS, 70) == Decode((1, 2))


def test_short_prompts_are_read_together_within_the_budget() -> None:
    two = (Running(2, 30, left=30), Running(3, 60, left=60))
    assert next_action(State(two[:1], waiting=60), LIMITS, 100) == Admit()
    assert next_action(State(two, waiting=60), LIMITS, 100) == Admit()
    three = (*two, Running(4, 60, left=60))
    assert next_action(State(three, waiting=5), LIMITS, 100) == Prefill(((2, 30), (3, 60), (4, 10)))


def test_who_begins_with_what_is_being_read_waits_for_it() -> None:
    reading = (Running(2, 30, left=30),)
    assert next_action(State(reading, waiting=40, awaits_reading=True), LIMITS, 100) == Prefill(((2, 30),))
    assert next_action(State((), waiting=40, awaits_reading=True), LIMITS, 100) == Admit()


def test_a_long_prompt_is_read_in_pieces_of_the_budget() -> None:
    state = State((Running(1, 50), Running(2, 500, left=500)), waiting=5)
    assert next_action(state, LIMITS, 100) == Prefill(((2, 100),))
    assert next_action(State((Running(1, 50), Running(2, 500, left=400)), waiting=5), LIMITS, 0) == Decode(
        (1,)
    )


def test_a_step_without_budget_and_without_anyone_to_decode_rests() -> None:
    assert next_action(State((Running(1, 500, left=300),)), LIMITS, 0) == Rest()


def test_nobody_is_admitted_beyond_the_rows() -> None:
    full = tuple(Running(key, 10) for key in range(4))
    assert next_action(State(full, waiting=5), LIMITS, 100) == Decode((0, 1, 2, 3))


def test_nobody_is_admitted_where_memory_or_headroom_lacks() -> None:
    long = Running(1, 16 * GRAIN - HEADROOM)
    assert next_action(State((long,), waiting=5), LIMITS, 100) == Admit()
    assert next_action(State((replace(long, length=long.length + 1),), waiting=5), LIMITS, 100) == Decode(
        (1,)
    )
    assert next_action(State((Running(1, 5),), waiting=20 * GRAIN), LIMITS, 100) == Decode((1,))


def test_alone_everyone_is_admitted() -> None:
    assert next_action(State(waiting=1000 * GRAIN), LIMITS, 100) == Admit()


def test_the_youngest_makes_room_when_answers_outgrow_memory() -> None:
    three = tuple(Running(key, 10 * GRAIN) for key in (7, 9, 8))
    assert next_action(State(three), LIMITS, 100) == Preempt(9)
    assert next_action(State(three[:1]), LIMITS, 100) == Decode((7,))


def test_the_cache_keeps_its_shape_while_that_will_do() -> None:
    now = Geometry(4, 256)
    assert geometry(now, busy=4, longest=256, limits=LIMITS) is now


@pytest.mark.parametrize(
    ("busy", "longest", "spare", "expected"),
    [
        (4, 257, False, Geometry(4, 512)),
        (5, 100, False, Geometry(8, 256)),
        (2, 100, True, Geometry(8, 256)),
        (2, 300, True, Geometry(4, 512)),
        (12, 100, False, Geometry(12, 256)),
        (1, 5000, False, Geometry(1, 5120)),
        (2, 1100, False, Geometry(2, 2048)),
        (3, 1100, False, Geometry(3, 1152)),
    ],
)
def test_the_cache_doubles_as_far_as_memory_goes(
    busy: int, longest: int, spare: bool, expected: Geometry
) -> None:
    limits = Limits(max_rows=16, prefill_tokens=100, kv_tokens=4096)
    assert geometry(Geometry(4, 256), busy=busy, longest=longest, limits=limits, spare=spare) == expected


def test_long_rows_give_way_to_many_short_ones() -> None:
    limits = Limits(max_rows=16, prefill_tokens=100, kv_tokens=4096)
    assert geometry(Geometry(1, 4096), busy=8, longest=100, limits=limits) == Geometry(8, 128)


def test_random_lives_end_within_their_limits() -> None:
    """Every request is admitted in turn and gets all its tokens; no step exceeds its budgets."""
    for seed in range(200):
        chance = random.Random(seed)
        limits = Limits(
            max_rows=chance.randint(1, 6),
            prefill_tokens=chance.randint(1, 200),
            kv_tokens=GRAIN * chance.randint(8, 30),
        )
        waiting = [(key, chance.randint(1, 600)) for key in range(12)]
        wanted = {key: length + chance.randint(1, 400) for key, length in waiting}
        running: list[Running] = []
        shape = FIRST
        for _ in range(40_000):
            budget = limits.prefill_tokens
            while True:
                action = next_action(
                    State(tuple(running), waiting[0][1] if waiting else None), limits, budget
                )
                if isinstance(action, Admit):
                    key, length = waiting.pop(0)
                    running.append(Running(key, length, left=length))
                elif isinstance(action, Preempt):
                    gone = next(one for one in running if one.key == action.key)
                    assert gone.key == max(one.key for one in running)
                    running.remove(gone)
                    waiting.insert(0, (gone.key, gone.length))
                elif isinstance(action, Prefill):
                    for key, tokens in action.pieces:
                        at = next(i for i, one in enumerate(running) if one.key == key)
                        assert 0 < tokens <= budget
                        budget -= tokens
                        running[at] = replace(running[at], left=running[at].left - tokens)
                        if not running[at].left:
                            running[at] = replace(running[at], length=running[at].length + 1)
                else:
                    break
                longest = max((one.length for one in running), default=0) + 1
                shape = geometry(shape, busy=len(running), longest=longest, limits=limits)
                assert shape.capacity >= longest
                assert shape.rows >= len(running)
                alone = len(running) == 1
                assert alone or isinstance(action, Prefill) or fits(len(running), longest - 1, limits)
            if isinstance(action, Decode):
                assert len(action.keys) <= limits.max_rows
                running = [
                    replace(one, length=one.length + 1) if one.key in action.keys else one for one in running
                ]
            running = [one for one in running if one.left or one.length < wanted[one.key]]
            if not running and not waiting:
                break
        else:
            pytest.fail(f"seed {seed}: it never ended")
