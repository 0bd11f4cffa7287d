"""Which model goes on which GPU."""

import itertools
import random

from msp_cli.plan.memory import need, usable_bytes
from msp_cli.plan.placement import Plan, Rules, Wanted, place
from msp_common.contracts.model_type import ModelType
from support.cli_plan import facts, gpu, llava, minilm, qwen, tinyllama

RULES = Rules(context=4096)


def wanted(*models: Wanted) -> list[Wanted]:
    return list(models)


def chat(service: str = "llm-primary", pin: str | None = None) -> Wanted:
    return Wanted(service, qwen(), ModelType.LLM, pin=pin)


def pictures(pin: str | None = None) -> Wanted:
    return Wanted("multimodal", llava(), ModelType.MULTIMODAL, pin=pin)


def sentences(pin: str | None = None) -> Wanted:
    return Wanted("embedding", minilm(), ModelType.EMBEDDING, pin=pin)


def where(plan: Plan) -> dict[str, int]:
    return {p.wanted.service: p.gpu.index for p in plan.placed}


def test_each_model_gets_the_smallest_gpu_that_holds_it() -> None:
    plan = place([sentences(), chat(), pictures()], [gpu(0, 80), gpu(1, 24), gpu(2, 8)], RULES)
    assert where(plan) == {"embedding": 0, "llm-primary": 2, "multimodal": 1}
    assert not plan.refused
    assert [p.wanted.service for p in plan.placed] == ["embedding", "llm-primary", "multimodal"]


def test_gpus_that_are_left_are_named() -> None:
    assert [g.index for g in place([sentences()], [gpu(0, 24), gpu(1, 8)], RULES).free] == [0]


def test_what_the_operator_pinned_stays_even_where_it_fits_badly() -> None:
    plan = place([sentences(pin="0"), pictures(pin="GPU-0001")], [gpu(0, 80), gpu(1, 24)], RULES)
    assert where(plan) == {"embedding": 0, "multimodal": 1}


def test_a_bigger_model_does_not_take_the_gpu_that_another_one_is_pinned_to() -> None:
    plan = place([pictures(), sentences(pin="1")], [gpu(0, 80), gpu(1, 24)], RULES)
    assert where(plan) == {"multimodal": 0, "embedding": 1}


def test_two_models_pinned_to_one_gpu_are_refused_by_name() -> None:
    plan = place([chat(pin="0"), sentences(pin="GPU-0000")], [gpu(0, 80), gpu(1, 80)], RULES)
    (refused,) = plan.refused
    assert refused.wanted.service == "embedding"
    assert "llm-primary (Qwen/Qwen2.5-0.5B-Instruct) is already" in refused.why


def test_a_pin_to_a_gpu_that_is_not_there_tells_which_are() -> None:
    (refused,) = place([chat(pin="7")], [gpu(0, 80), gpu(1, 80)], RULES).refused
    assert "pinned to the GPU 7, which is not there; there are 0 (GPU-0000), 1 (GPU-0001)" in refused.why


def test_what_cannot_fit_is_refused_with_the_numbers_and_what_would_fit() -> None:
    (refused,) = place([pictures()], [gpu(0, 12, name="NVIDIA RTX A2000"), gpu(1, 8)], RULES).refused
    assert "needs 15.7 GiB (weights 13.2 GiB, one request of 4,096 tokens 2.0 GiB at 512 KiB" in refused.why
    assert "the largest free GPU has 10.8 GiB to use (0: NVIDIA RTX A2000, 12.0 GiB)" in refused.why
    assert any("bnb-4bit needs" in option and "bitsandbytes" in option for option in refused.options)


def test_options_that_would_not_fit_either_are_not_offered() -> None:
    (refused,) = place([pictures()], [gpu(0, 2)], RULES).refused
    assert refused.options == ("a larger GPU, a smaller model, or several GPUs with vLLM (ENGINE=openai)",)


def test_a_shorter_context_is_offered_where_that_is_enough() -> None:
    (refused,) = place([pictures()], [gpu(0, 17)], Rules(context=4096)).refused
    assert any(option.startswith("--context 2048 needs") for option in refused.options)


def test_memory_that_others_use_is_told_with_the_refusal() -> None:
    (refused,) = place([pictures()], [gpu(0, 24, used_gib=20)], RULES).refused
    assert "20.0 GiB used by others" in refused.why


def test_more_models_than_gpus_are_refused() -> None:
    plan = place([pictures(), chat(), sentences()], [gpu(0, 80), gpu(1, 80)], RULES)
    assert [r.wanted.service for r in plan.refused] == ["embedding"]
    assert "every GPU has a model already" in plan.refused[0].why


def test_a_model_whose_size_cannot_be_told_is_refused_and_the_others_are_placed() -> None:
    unknown = Wanted("llm-secondary", facts("a/b", {}, 10, kind="gguf"), ModelType.LLM)
    plan = place([unknown, chat()], [gpu(0, 80)], RULES)
    assert where(plan) == {"llm-primary": 0}
    assert "GGUF" in plan.refused[0].why


def test_all_are_placed_whenever_any_arrangement_places_all() -> None:
    chance = random.Random(7)
    models = [chat("a"), Wanted("b", tinyllama(), ModelType.LLM), pictures(), sentences()]
    least = {m.service: need(m.facts, m.type, "none", 4096).least() for m in models}
    seen = set()
    for _ in range(200):
        gpus = [gpu(i, chance.choice((1, 2, 3, 4, 6, 8, 16, 18, 24))) for i in range(4)]
        possible = any(
            all(
                least[m.service] <= usable_bytes(g, RULES.fraction)
                for m, g in zip(models, order, strict=True)
            )
            for order in itertools.permutations(gpus)
        )
        assert (not place(models, gpus, RULES).refused) == possible
        seen.add(possible)
    assert seen == {True, False}
