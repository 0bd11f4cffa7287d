"""How much memory a model takes."""

from typing import Any

import pytest

from msp_cli.plan.facts import FactsMissing
from msp_cli.plan.memory import (
    CUDA_CONTEXT_BYTES,
    MAX_ROWS,
    kv_bytes_per_token,
    need,
    room,
    usable_bytes,
    weight_bytes,
)
from msp_cli.plan.model_config import read_config
from msp_common.contracts.model_type import ModelType
from support.cli_plan import LLAVA, QWEN, TINYLLAMA, WHISPER, facts, gpu, llava, minilm, qwen, tinyllama

GIB = 2**30


@pytest.mark.parametrize(
    ("model", "kib"), [(qwen(), 12), (tinyllama(), 22), (llava(), 512)], ids=["qwen", "tinyllama", "llava"]
)
def test_keys_and_values_of_a_token_are_those_that_the_engine_measured(model: Any, kib: int) -> None:
    assert kv_bytes_per_token(model) == kib * 1024


def test_layers_without_attention_keep_nothing() -> None:
    config = {**QWEN, "layer_types": ["full_attention", "linear_attention"] * 12}
    assert kv_bytes_per_token(facts("a/b", config, 10)) == 6 * 1024


def test_layers_that_share_another_ones_keys_and_values_keep_none_of_their_own() -> None:
    assert kv_bytes_per_token(facts("a/b", {**QWEN, "num_kv_shared_layers": 8}, 10)) == 8 * 1024


def test_latent_attention_is_kept_unfolded_as_the_engine_does() -> None:
    config = {**QWEN, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128}
    assert kv_bytes_per_token(facts("a/b", config, 10)) == 24 * 14 * (64 + 128 + 128) * 2


def test_weights_have_the_type_that_the_configuration_says_not_the_stored_one() -> None:
    assert weight_bytes(facts("a/b", QWEN, 1000, stored="F32"), "none") == 2000
    without = {k: v for k, v in QWEN.items() if k != "torch_dtype"}
    assert weight_bytes(facts("a/b", without, 1000, stored="F32"), "none") == 4000


def test_few_bits_spare_the_linear_layers_and_leave_the_vocabulary_in_full() -> None:
    full, eight, four = (weight_bytes(llava(), q) for q in ("none", "bnb-8bit", "bnb-4bit"))
    assert full == 2 * 7_063_427_072
    tables = 2 * 2 * 32064 * 4096
    assert four == pytest.approx(tables + 0.5625 * (7_063_427_072 - tables / 2), rel=0.001)
    assert four < eight < full


def test_experts_are_counted_in_full_since_bitsandbytes_may_not_reach_them() -> None:
    config = {**QWEN, "num_experts": 60}
    assert weight_bytes(facts("a/b", config, 1000), "bnb-4bit") == 2000


def test_what_is_stored_in_few_bits_takes_its_files_size() -> None:
    config = {**QWEN, "quantization_config": {"quant_method": "gptq", "bits": 4}}
    model = facts("a/b", config, 1000, file_bytes=600)
    assert weight_bytes(model, "none") == 600
    with pytest.raises(FactsMissing, match="stored in few bits already"):
        weight_bytes(model, "bnb-4bit")


def test_pickled_weights_take_their_files_size() -> None:
    assert weight_bytes(facts("a/b", QWEN, None, kind="pickle", file_bytes=700), "none") == 700


def test_what_no_own_engine_serves_is_not_guessed_at() -> None:
    with pytest.raises(FactsMissing, match="GGUF"):
        weight_bytes(facts("a/b", {}, 1000, kind="gguf"), "none")
    with pytest.raises(FactsMissing, match="no layers, heads and width"):
        kv_bytes_per_token(facts("a/b", {"model_type": "rwkv"}, 1000))
    with pytest.raises(FactsMissing, match="type"):
        weight_bytes(facts("a/b", {}, 1000, stored=None), "none")


def test_what_others_hold_and_the_context_are_not_to_be_used() -> None:
    assert usable_bytes(gpu(0, 24), 0.9) == int(0.9 * 24 * GIB)
    assert usable_bytes(gpu(0, 24, used_gib=10), 0.9) == 14 * GIB - CUDA_CONTEXT_BYTES
    assert usable_bytes(gpu(0, 24, used_gib=24), 0.9) == 0


def test_keys_and_values_get_the_workers_own_share_of_what_the_weights_leave() -> None:
    its_need = need(tinyllama(), ModelType.LLM, "none", 2048)
    left = room(its_need, 10 * GIB)
    assert left.kv_bytes == int(0.8 * (10 * GIB - 2 * 1_100_048_384))
    assert left.kv_tokens == left.kv_bytes // (22 * 1024)
    assert left.rows == min(MAX_ROWS, left.kv_tokens // 2048)


def test_a_model_with_a_short_context_is_planned_for_that() -> None:
    assert need(tinyllama(), ModelType.LLM, "none", 8192).context == 2048


def test_what_is_needed_at_least_is_enough_for_one_request_of_that_length() -> None:
    for model, kind in ((qwen(), ModelType.LLM), (llava(), ModelType.MULTIMODAL)):
        its_need = need(model, kind, "none", 4096)
        assert room(its_need, its_need.least()).rows >= 1
        assert 0.2 * (its_need.least() - its_need.weights) >= its_need.activations - 1


def test_an_embedder_keeps_nothing_between_tokens() -> None:
    its_need = need(minilm(), ModelType.EMBEDDING, "none", 4096)
    assert (its_need.kv_per_token, room(its_need, GIB).rows) == (0, 0)
    assert its_need.least() < GIB


@pytest.mark.parametrize(
    ("config", "modules", "kind"),
    [
        (QWEN, False, ModelType.LLM),
        (TINYLLAMA, False, ModelType.LLM),
        (LLAVA, False, ModelType.MULTIMODAL),
        (WHISPER, False, ModelType.TRANSCRIPTION),
        ({"architectures": ["BertModel"]}, False, ModelType.EMBEDDING),
        ({"architectures": ["Qwen3ForCausalLM"]}, True, ModelType.EMBEDDING),
        ({"architectures": ["Wav2Vec2ForCTC"]}, False, None),
        ({}, False, None),
    ],
)
def test_the_type_is_told_by_the_architecture(
    config: dict[str, Any], modules: bool, kind: ModelType | None
) -> None:
    assert read_config(config, sentence_transformer=modules).type is kind
