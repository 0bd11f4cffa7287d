"""Prompts with images: what the language model would be given in place of their token ids."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch

from msp_model_service.engines.chat_model import ChatModel

_ORDINARY = frozenset({"input_ids", "inputs_embeds", "attention_mask", "position_ids"})


class Unusual(ValueError):
    """The model gives its language part more than embeddings; a row of a batch has no place for it."""


class _Reached(Exception):
    """Ends the forward pass where the language model would begin."""

    def __init__(self, given: dict[str, Any]) -> None:
        super().__init__()
        self.given = given


def image_keys(ids: list[int], pixels: Mapping[str, Any], config: Any) -> list[int]:
    """The prompt's ids, with the images' placeholders replaced by a digest of all its pixels.

    Only a prompt with the same images then finds its beginning in another's row. Negative, unlike any id.
    """
    digest = hashlib.blake2b(digest_size=7)
    for name in sorted(pixels):
        value = pixels[name]
        if isinstance(value, torch.Tensor):
            digest.update(name.encode() + repr(tuple(value.shape)).encode())
            digest.update(value.contiguous().numpy().tobytes())
        else:
            digest.update(f"{name}={value!r}".encode())
    mark = -1 - int.from_bytes(digest.digest(), "big")
    named = (getattr(config, name, None) for name in ("image_token_id", "image_token_index"))
    placeholders = {int(token_id) for token_id in named if token_id is not None}
    if not placeholders:
        return [mark] * len(ids)
    return [mark if token_id in placeholders else token_id for token_id in ids]


class PromptImages:
    """One prompt's processor outputs; see Images."""

    def __init__(self, loaded: ChatModel, inputs: Mapping[str, Any]) -> None:
        self._loaded = loaded
        self._inputs = inputs

    def embeddings(self) -> torch.Tensor:
        """The model itself merges text and images, however its family does it; we stop it there and look."""
        model = self._loaded.model
        inputs = {name: on_device(value, self._loaded) for name, value in self._inputs.items()}
        hook = model.get_decoder().register_forward_pre_hook(_stop, with_kwargs=True)
        try:
            model(**inputs, use_cache=False)
        except _Reached as reached:
            return _embeddings_only(reached.given)
        finally:
            hook.remove()
        raise Unusual("the model never called its language part")


def on_device(value: Any, loaded: ChatModel) -> Any:
    """An input on the model's device; pixels in the model's precision, token ids as they are."""
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(loaded.device, loaded.model.dtype if value.is_floating_point() else None)


def _stop(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise _Reached(kwargs)


def _embeddings_only(given: dict[str, Any]) -> torch.Tensor:
    """Raises Unusual for what would be lost: masks between images' parts, positions in two dimensions."""
    lost = [
        name
        for name, value in given.items()
        if name not in _ORDINARY and isinstance(value, torch.Tensor | list | tuple | dict)
    ]
    mask, positions = given.get("attention_mask"), given.get("position_ids")
    if isinstance(mask, dict) or (mask is not None and mask.ndim > 2):
        lost.append("attention_mask")
    if positions is not None and positions.ndim > 2:
        lost.append("position_ids")
    if lost:
        raise Unusual(f"the language part is also given {', '.join(sorted(lost))}")
    embeddings: torch.Tensor = given["inputs_embeds"][0]
    return embeddings
