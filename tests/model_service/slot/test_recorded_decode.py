"""Decode steps that are recorded and repeated say what `generate` says; what cannot be recorded runs plainly.

The recorder stands for CUDA graphs: it repeats operations on the same tensors, without Python in between.
"""

import random
from typing import Any

import pytest
import torch

from msp_model_service.engines.slot.forward import Forward
from msp_model_service.engines.slot.kv_cache import Piece
from msp_model_service.engines.slot.static_step import rows_for, view_for
from support.architectures import SERVED
from support.slot_models import Answer, Table, build, generated, some_words
from support.step_recorders import BreakingLater, Elsewhere, NotRecordable, Refusing, Taping

RECORDED = (
    *("Llama", "Qwen2", "Qwen3", "Phi", "Phi3", "Gemma", "Olmo2", "SmolLM3", "Cohere", "StableLm"),
    *("Starcoder2", "GPTNeoX", "GPT2", "GPTBigCode", "OPT", "Mixtral"),
)
"""Keys shared by some heads or all, biases, positions learnt, turned and turned in part, experts."""

SLIDING = ("Qwen2 sliding", "Mistral sliding", "Gemma2", "GptOss")
LENGTHS = (5, 17, 40, 90, 130)


def ask_all(table: Table, chance: random.Random) -> list[tuple[list[int], int, Answer]]:
    asked = [(some_words(chance, length), chance.choice([6, 10])) for length in LENGTHS]
    return [(prompt, tokens, table.ask(prompt, tokens)[1]) for prompt, tokens in asked]


def all_right(model: Any, told: list[tuple[list[int], int, Answer]]) -> bool:
    assert [answer.error for *_, answer in told] == [None] * len(told)
    return [answer.ids for *_, answer in told] == [
        generated(model, prompt, tokens) for prompt, tokens, _ in told
    ]


@pytest.mark.parametrize("name", RECORDED)
def test_repeated_steps_say_what_generate_says(name: str) -> None:
    model, tape = build(name, SERVED[name]), Taping()
    table = Table(model, rows=4, prefill=48, recorder=tape)
    told = ask_all(table, random.Random(name))
    table.finish()
    assert table.forward.recorded is not None
    assert table.forward.recorded.note is None
    assert tape.repeated >= 5, "hardly a step was repeated"
    assert all_right(model, told)


@pytest.mark.parametrize("name", SLIDING)
def test_layers_that_slide_are_not_recorded(name: str) -> None:
    model, tape = build(name, SERVED[name]), Taping()
    table = Table(model, rows=4, prefill=48, recorder=tape)
    told = ask_all(table, random.Random(name))
    table.finish()
    assert table.forward.recorded is not None
    assert "one mask" in (table.forward.recorded.note or "")
    assert not tape.recorded
    assert all_right(model, told)


def test_a_model_whose_forward_pass_waits_for_the_device_runs_plainly() -> None:
    """Falcon's makes a tensor of a number, which takes a copy from the host."""
    model, tape = build("Falcon", SERVED["Falcon"]), Taping()
    table = Table(model, rows=4, prefill=48, recorder=tape)
    told = ask_all(table, random.Random(0))
    table.finish()
    assert table.forward.recorded is not None
    assert "NotRecordable" in (table.forward.recorded.note or "")
    assert (tape.recorded, tape.repeated) == (1, 0)
    assert all_right(model, told)


@pytest.mark.parametrize("name", ["Llama", "Qwen3", "Phi", "GPTNeoX", "GPTBigCode", "OPT", "Mixtral"])
@torch.inference_mode()
def test_a_step_on_another_device_takes_nothing_from_the_host(name: str) -> None:
    """Attention is what transformers' own is there, in half precision as on a GPU. `meta` has no numbers, so
    rows are filled by hand."""
    model = build(name, SERVED[name]).to(torch.bfloat16).to("meta")
    elsewhere = Elsewhere()
    forward = Forward(model, elsewhere)
    for row, length in enumerate((5, 7, 7)):
        forward.prefill([Piece(row, 0, length)], [3] * length)
    for step in range(3):
        logits = forward.decode(0, [1, 2, 3], [5 + step, 7 + step, 7 + step])
        assert (logits.shape, logits.dtype) == ((3, 512), torch.float32)
    assert forward.recorded is not None
    assert forward.recorded.note is None
    assert (elsewhere.recorded, elsewhere.repeated) == (1, 2)
    assert model.config.get_text_config()._attn_implementation == "sdpa"


@torch.inference_mode()
def test_a_number_that_is_brought_from_the_host_is_found() -> None:
    target = torch.zeros(1, device="meta")

    def makes_one() -> None:
        target.copy_(torch.tensor([1.0], device="meta"))

    def copies_one() -> None:
        target.copy_(torch.zeros(1))

    for step in (makes_one, copies_one):
        with pytest.raises(NotRecordable):
            Elsewhere().record(step)


def test_too_many_forms_of_the_step_are_forgotten_and_met_anew(model: Any) -> None:
    chance, tape = random.Random(7), Taping()
    table = Table(model, rows=4, recorder=tape)
    recorded = table.forward.recorded
    assert recorded is not None
    recorded.most = 1
    told = []
    for tokens in (6, 10, 14):
        prompt = some_words(chance, 20)
        told.append((prompt, tokens, table.ask(prompt, tokens)[1]))
    table.finish()
    assert (tape.recorded, tape.forgotten) == (3, 2)
    assert all_right(model, told)


@pytest.fixture(scope="module")
def model() -> object:
    return build("Qwen2", {})


@pytest.mark.parametrize("seed", range(4))
def test_whoever_comes_and_goes_between_repeated_steps(model: object, seed: int) -> None:
    """Rows change places, grow, remember, are reused and preempted; forms of the step change with them."""
    chance, tape = random.Random(seed), Taping()
    table = Table(model, rows=6, prefill=64, kv_tokens=6 * 384, recorder=tape)
    begun = some_words(chance, 60)
    told = []
    left = set()
    for _ in range(14):
        prompt = begun[: chance.choice([0, 20, 60])] + some_words(chance, chance.choice([3, 30, 150, 230]))
        tokens = chance.randrange(2, 40)
        sequence, answer = table.ask(prompt, tokens)
        told.append((prompt, tokens, answer))
        if chance.random() < 0.25:
            left.add(sequence)
        for _ in range(chance.randrange(8)):
            table.step()
            for one in [one for one in left if len(one.made) > 2]:
                one.cancelled = True
    table.finish()
    recorded = table.forward.recorded
    assert recorded is not None
    assert recorded.note is None
    assert tape.forgotten > 0, "the cache never changed"
    assert recorded.repeated > 30
    whole = [one for one in told if one[2].over]
    assert len(whole) >= 8
    assert all_right(model, whole)
    for prompt, tokens, answer in told:
        assert answer.ids == generated(model, prompt, tokens)[: len(answer.ids)]


def test_a_cache_that_grows_ends_what_was_recorded_of_it(model: object) -> None:
    """The first row crosses the end of its capacity, and of its view, while another one runs beside it."""
    chance, tape = random.Random(0), Taping()
    table = Table(model, recorder=tape)
    long, short = some_words(chance, 245), some_words(chance, 20)
    told = [(long, 30, table.ask(long, 30)[1]), (short, 30, table.ask(short, 30)[1])]
    while table.forward.cache.shape.capacity == 256:
        table.step()
    before = tape.repeated
    assert before > 0
    table.finish()
    assert (tape.recorded, tape.forgotten) == (2, 1)
    assert tape.repeated > before
    assert all_right(model, told)


def test_one_form_of_the_step_serves_while_rows_and_lengths_stay_within_it(model: object) -> None:
    """One for three and four rows, one for two, and one for a single one."""
    chance, tape = random.Random(1), Taping()
    table = Table(model, rows=4, recorder=tape)
    told = []
    for tokens in (10, 14, 18, 22):
        prompt = some_words(chance, 5 * tokens)
        told.append((prompt, tokens, table.ask(prompt, tokens)[1]))
    table.finish()
    assert (tape.recorded, tape.forgotten) == (3, 0)
    assert tape.repeated > 20
    assert all_right(model, told)


def test_spare_rows_of_a_step_keep_what_they_remember(model: object) -> None:
    """Three decode in a form for four, beside a prompt being read in pieces into the fourth row."""
    chance, tape = random.Random(2), Taping()
    table = Table(model, rows=4, prefill=16, recorder=tape)
    told = []
    for length, tokens in ((8, 30), (9, 30), (10, 30), (200, 6)):
        prompt = some_words(chance, length)
        told.append((prompt, tokens, table.ask(prompt, tokens)[1]))
    table.finish()
    prompt = told[3][0]
    again = table.ask(prompt, 6)[1]
    table.finish()
    assert again.ids == told[3][2].ids
    assert table.batch.tally.reused > 190
    assert tape.repeated > 20
    assert all_right(model, told)


def test_a_recording_that_fails_leaves_plain_steps_and_is_told_once(
    model: object, caplog: pytest.LogCaptureFixture
) -> None:
    refusing = Refusing()
    table = Table(model, rows=4, prefill=48, recorder=refusing)
    told = ask_all(table, random.Random(3))
    table.finish()
    recorded = table.forward.recorded
    assert recorded is not None
    assert "no memory for a graph" in (recorded.note or "")
    assert refusing.recorded == 1
    assert [one.message for one in caplog.records].count(recorded.note or "") == 1
    assert all_right(model, told)


def test_a_recording_that_fails_when_repeated_is_not_repeated_again(model: object) -> None:
    """The step is then made anew, row by row as after any failure, and nobody notices."""
    breaking = BreakingLater(3, RuntimeError("the graph broke"))
    table = Table(model, rows=4, prefill=48, recorder=breaking)
    told = ask_all(table, random.Random(4))
    table.finish()
    recorded = table.forward.recorded
    assert recorded is not None
    assert "the graph broke" in (recorded.note or "")
    assert breaking.repeated == 3
    assert all_right(model, told)


class DeviceLost(Exception):
    pass


@torch.inference_mode()
def test_a_lost_device_is_told_by_a_repeated_step(model: object) -> None:
    breaking = BreakingLater(1, DeviceLost())
    table = Table(model, broken_by=(DeviceLost,), recorder=breaking)
    table.ask([5, 6, 7], 10)
    with pytest.raises(DeviceLost):
        table.finish()


def test_without_a_recorder_nothing_is_recorded(model: object) -> None:
    table = Table(model)
    assert table.forward.recorded is None


@pytest.mark.parametrize(
    ("count", "cache_rows", "rows"),
    [(1, 4, 1), (2, 4, 2), (3, 4, 4), (5, 6, 6), (5, 16, 8), (8, 8, 8), (9, 64, 16), (33, 64, 64)],
)
def test_rows_of_a_form_are_a_power_of_two_or_all(count: int, cache_rows: int, rows: int) -> None:
    assert rows_for(count, cache_rows) == rows


@pytest.mark.parametrize(
    ("length", "capacity", "view"),
    [(1, 256, 256), (256, 512, 256), (257, 512, 512), (300, 384, 384), (513, 2048, 768)],
)
def test_views_are_multiples_of_256_or_everything(length: int, capacity: int, view: int) -> None:
    assert view_for(length, capacity) == view


@torch.inference_mode()
def test_the_tape_finds_steps_that_a_graph_could_not_hold(model: object) -> None:
    """What proves the steps must itself be able to fail."""
    source, target = torch.zeros(3), torch.zeros(3)

    def reads_contents() -> None:
        target.fill_(float(source.sum()))

    def keeps_python(seen: list[torch.Tensor]) -> None:
        seen.append(source * 2)
        target.copy_(seen[0])

    with pytest.raises(NotRecordable, match=r"item|scalar"):
        Taping().record(reads_contents)
    seen: list[torch.Tensor] = []
    repeat = Taping().record(lambda: keeps_python(seen))
    source.fill_(1)
    repeat()
    assert target.tolist() == [0, 0, 0], "what was made before the recording is not made again"
    repeat = Taping().record(lambda: keeps_python([]))
    source.fill_(4)
    repeat()
    assert target.tolist() == [8, 8, 8]
