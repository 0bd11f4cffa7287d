"""Weights in few bits: made so while they are loaded, or stored so in the snapshot."""

import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import BitsAndBytesConfig
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from msp_model_service.engines.lifecycle import EngineLoadFailed, Quantization

log = logging.getLogger(__name__)

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel",),
    "auto-round": ("auto_round",),
    "compressed-tensors": ("compressed_tensors",),
    "torchao": ("torchao",),
    "quanto": ("optimum.quanto", "accelerate"),
    "hqq": ("hqq",),
    "aqlm": ("aqlm",),
    "vptq": ("vptq",),
    "spqr": ("spqr_quant",),
    "eetq": ("kernels",),
    "quark": ("quark",),
    "higgs": ("flute", "fast_hadamard_transform"),
    "fbgemm_fp8": ("fbgemm_gpu",),
    "fp_quant": ("fp_quant",),
    "fouroversix": ("fouroversix",),
    "nvfp4": ("kernels",),
    "fp8": ("accelerate",),
    "mxfp4": ("accelerate",),
}
"""Python modules that loading needs, by the method's name in a snapshot's `quantization_config`. Methods that
are not here need none, or transformers says itself what they need."""

_DISTRIBUTIONS = {
    "auto_round": "auto-round",
    "compressed_tensors": "compressed-tensors",
    "quark": "amd-quark",
    "fbgemm_gpu": "fbgemm-gpu",
    "flute": "flute-kernel",
    "optimum.quanto": "optimum-quanto",
}
"""What to install for a module, where that has another name."""

IsInstalled = Callable[[str], bool]


def is_installed(module: str) -> bool:
    """Whether a module of this name could be imported. Imports nothing."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is absent
        return False


@dataclass(frozen=True)
class Loading:
    """How `from_pretrained` is to load the weights."""

    name: str | None = None
    """What the weights are then: `bnb-4bit`, `gptq-4bit`, `fp8`; None when they are in full."""
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def places(self) -> bool:
        """Whether loading puts the weights on the device; quantised ones cannot always be moved later."""
        return "device_map" in self.arguments


def loading(
    config: Any,
    wanted: Quantization,
    device: torch.device,
    dtype: torch.dtype | str,
    installed: IsInstalled = is_installed,
) -> Loading:
    """By the model's configuration and the operator's wish.

    Raises EngineLoadFailed when the two contradict each other, or a library is missing.
    """
    stored = _stored(config)
    if stored is None and wanted == "none":
        return Loading()
    placed = {"device_map": {"": f"cuda:{torch.cuda.current_device()}" if device.type == "cuda" else "cpu"}}
    if stored is not None:
        name = _name_of(stored)
        if wanted != "none":
            raise EngineLoadFailed(
                f"QUANTIZATION is {wanted}, but the snapshot's weights are quantised already ({name}); leave "
                "QUANTIZATION unset to serve them as they are, or serve the model's unquantised repository"
            )
        _check_method(stored, name, installed)
        return Loading(name, placed)
    _check_installed("bitsandbytes", f"QUANTIZATION={wanted}", installed)
    _quieten()
    return Loading(wanted, {**placed, "quantization_config": _bits_and_bytes(wanted, config, dtype)})


def settled(model: Any, how: Loading, dtype: torch.dtype | str) -> tuple[Any, str | None]:
    """The loaded model, and what its weights are after all.

    Without the hardware for a method (fp8, mxfp4), transformers unpacks its weights to bfloat16, those alone.
    """
    if how.name is None or getattr(model, "hf_quantizer", None) is not None:
        return model, how.name
    log.warning(
        "this device cannot compute with %s: the weights are unpacked, and take the memory of full ones",
        how.name,
    )
    return model.to(dtype if isinstance(dtype, torch.dtype) else torch.bfloat16), None


def _stored(config: Any) -> Mapping[str, Any] | None:
    """What the snapshot's own configuration says of its weights."""
    for part in (config, config.get_text_config()):
        said = getattr(part, "quantization_config", None)
        if said:
            return said if isinstance(said, Mapping) else dict(said.to_dict())
    return None


def _name_of(stored: Mapping[str, Any]) -> str:
    method = _method_of(stored)
    if method == "bitsandbytes":
        return "bnb-4bit" if stored.get("load_in_4bit") else "bnb-8bit"
    groups = stored.get("config_groups") or {}  # of compressed-tensors
    weights = [group.get("weights") or {} for group in groups.values() if isinstance(group, Mapping)]
    named = (stored.get("bits"), *(part.get("num_bits") for part in weights))
    bits = next((bits for bits in named if isinstance(bits, int)), None)
    return f"{method}-{bits}bit" if bits else method


def _method_of(stored: Mapping[str, Any]) -> str:
    if stored.get("load_in_4bit") or stored.get("load_in_8bit"):
        return "bitsandbytes"
    return str(stored.get("quant_method") or "unknown")


def _check_method(stored: Mapping[str, Any], name: str, installed: IsInstalled) -> None:
    method = _method_of(stored)
    if method != "bitsandbytes" and method not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        # Transformers would only warn, and read the packed numbers as if they were weights.
        raise EngineLoadFailed(
            f"the snapshot's weights are quantised by the method {method!r}, which this version of "
            "transformers does not know; serve the model's unquantised repository"
        )
    if method == "bitsandbytes":
        _quieten()
    _check_installed(method, f"the snapshot's weights ({name})", installed)


def _check_installed(method: str, what: str, installed: IsInstalled) -> None:
    missing = [_DISTRIBUTIONS.get(name, name) for name in _NEEDS.get(method, ()) if not installed(name)]
    if missing:
        raise EngineLoadFailed(
            f"{what}: loading needs {' and '.join(missing)}, not installed here; add it to the worker's "
            "image, serve the model's unquantised repository (with QUANTIZATION=bnb-4bit if it must be "
            "small), or take another server through ENGINE=openai"
        )


def _bits_and_bytes(wanted: Quantization, config: Any, dtype: torch.dtype | str) -> BitsAndBytesConfig:
    if wanted == "bnb-8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    stored = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    computes = dtype if isinstance(dtype, torch.dtype) else stored
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=computes if isinstance(computes, torch.dtype) else torch.bfloat16,
    )


def _quieten() -> None:
    """It warns at every layer of every pass of a conversion that is how it works."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def weight_bytes(model: torch.nn.Module) -> int:
    """What the weights take in memory, with the scales of quantised ones; each storage once."""
    held = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        parts = [*vars(state).values()] if state is not None else []
        held += [part for part in parts if torch.is_tensor(part)]
    storages: dict[int, int] = {}
    for tensor in held:
        try:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        except (RuntimeError, NotImplementedError):  # a tensor made of others has no storage of its own
            storages[id(tensor)] = tensor.nbytes
    return sum(storages.values())


def check_took(model: torch.nn.Module, wanted: Quantization) -> None:
    """Raises EngineLoadFailed if no layer was quantised; the log tells when most of the weights were not."""
    if wanted == "none":
        return
    # Imported only where it is wanted: it takes a second.
    from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt

    made = [module for module in model.modules() if isinstance(module, (Linear4bit, Linear8bitLt))]
    if not made:
        raise EngineLoadFailed(
            f"QUANTIZATION is {wanted}, but this model has no layer that bitsandbytes can quantise; "
            "leave it unset"
        )
    kept = sum(p.numel() for p in model.parameters() if p.is_floating_point())
    quantised = sum(module.in_features * module.out_features for module in made)
    if kept > quantised:
        log.warning(
            "QUANTIZATION=%s reaches %d of the model's %d million weights: what bitsandbytes takes for no "
            "linear layer, such as experts held in one tensor, stays as it is",
            wanted,
            quantised // 10**6,
            (kept + quantised) // 10**6,
        )
