"""What .env says to all workers of how they use a GPU, and the worker's own defaults for the rest. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from msp_cli.plan.choices import BadChoice
from msp_cli.plan.memory import GPU_MEMORY_FRACTION, KV_SHARE, MAX_ROWS, PREFILL_TOKENS, Quantization

_MOST_KV_SHARE = 0.95
_MOST_ROWS = 1024
_MOST_PREFILL = 2**20
_LEAST_PREFILL = 16


@dataclass(frozen=True)
class WorkerSettings:
    """The settings of workers that change what fits."""

    gpu_memory_fraction: float = GPU_MEMORY_FRACTION
    kv_share: float = KV_SHARE
    """KV_MEMORY_FRACTION."""
    max_rows: int = MAX_ROWS
    """MAX_RUNNING."""
    prefill_tokens: int = PREFILL_TOKENS
    quantization: Quantization = "none"
    """Of chat models for which nothing else is said."""


def read_settings(env: Mapping[str, str]) -> WorkerSettings:
    """Those of a .env, within the limits that the worker sets. Raises BadChoice."""
    return WorkerSettings(
        _share(env, "GPU_MEMORY_FRACTION", GPU_MEMORY_FRACTION, most=1),
        _share(env, "KV_MEMORY_FRACTION", KV_SHARE, most=_MOST_KV_SHARE),
        _count(env, "MAX_RUNNING", MAX_ROWS, 1, _MOST_ROWS),
        _count(env, "PREFILL_TOKENS", PREFILL_TOKENS, _LEAST_PREFILL, _MOST_PREFILL),
        _quantization(env),
    )


def _share(env: Mapping[str, str], name: str, default: float, *, most: float) -> float:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        raise BadChoice(f".env: {name} is {text!r}, expected a share such as {default:g}, at most {most:g}")
    return value


def _count(env: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = env.get(name, "")
    if not text:
        return default
    value = int(text) if text.isdigit() else 0
    if not least <= value <= most:
        raise BadChoice(f".env: {name} is {text!r}, expected a whole number from {least} to {most}")
    return value


def _quantization(env: Mapping[str, str]) -> Quantization:
    text = env.get("QUANTIZATION", "")
    for known in get_args(Quantization):
        if text == known:
            found: Quantization = known
            return found
    if text:
        raise BadChoice(
            f".env: QUANTIZATION is {text!r}, expected one of {', '.join(get_args(Quantization))}"
        )
    return "none"
