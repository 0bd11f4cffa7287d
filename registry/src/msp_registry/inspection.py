"""Looking into a snapshot's files before it is published: do they parse, and what do they say?"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import yaml
from anyio import to_thread

from msp_common.contracts.models import Licence
from msp_registry import safetensors_header
from msp_registry.failures import BadSnapshot

ReadRange = Callable[[str, int, int], Awaitable[bytes]]
"""Path, offset and length → the bytes of one of the snapshot's files."""

Format = Literal["safetensors", "gguf", "pickle", "other"]

PICKLE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".ot", ".joblib"}
)
"""Weights in forms that can run code when loaded, or that only other frameworks read."""

_MAX_CONFIG_BYTES = 16 << 20
_MAX_CARD_BYTES = 64 << 10


@dataclass(frozen=True)
class Findings:
    """What the files say of the model."""

    format: Format
    dtype: str | None
    parameters: int | None
    licence: Licence
    requires_remote_code: bool


async def inspect(files: Sequence[tuple[str, int]], read: ReadRange) -> Findings:
    """Read the parts that tell, of files given as (path, size). Raises BadSnapshot naming the file."""
    sizes = dict(files)
    dtypes: Counter[str] = Counter()
    for path, size in files:
        if path.endswith(".safetensors"):
            dtypes += (await _tensors(path, size, read)).by_dtype
    config: dict[str, Any] = {}
    if "config.json" in sizes:
        config = await _config("config.json", sizes["config.json"], read)
    card = ""
    if "README.md" in sizes:
        raw = await read("README.md", 0, min(sizes["README.md"], _MAX_CARD_BYTES))
        card = raw.decode(errors="replace")
    return Findings(
        format=format_of(sizes),
        dtype=dtypes.most_common(1)[0][0] if dtypes else None,
        parameters=sum(dtypes.values()) or None,
        licence=licence_of(card),
        requires_remote_code="auto_map" in config or any(path.endswith(".py") for path in sizes),
    )


def format_of(paths: "Sequence[str] | dict[str, int]") -> Format:
    """The form of the weights: the safest of those that are there."""
    suffixes = {PurePosixPath(path).suffix.lower() for path in paths}
    if ".safetensors" in suffixes:
        return "safetensors"
    if ".gguf" in suffixes:
        return "gguf"
    return "pickle" if suffixes & PICKLE_SUFFIXES else "other"


def licence_of(card: str) -> Licence:
    """From the model card's front matter; a card that cannot be read says nothing."""
    if not card.startswith("---"):
        return Licence()
    front = card.removeprefix("---").split("\n---", 1)[0]
    try:
        data = yaml.safe_load(front)
    except (yaml.YAMLError, RecursionError):
        return Licence()
    if not isinstance(data, dict):
        return Licence()

    def text(name: str) -> str | None:
        value = data.get(name)
        return value[:500] if isinstance(value, str) else None

    return Licence(id=text("license"), name=text("license_name"), link=text("license_link"))


async def _tensors(path: str, size: int, read: ReadRange) -> safetensors_header.Tensors:
    try:
        start = await read(path, 0, safetensors_header.LENGTH_BYTES)
        length = safetensors_header.header_length(start, size)
        header = await read(path, safetensors_header.LENGTH_BYTES, length)
        return await to_thread.run_sync(safetensors_header.read_header, header, size)
    except safetensors_header.BadHeader as error:
        raise BadSnapshot(f"{path} is not a whole safetensors file: {error}") from None


async def _config(path: str, size: int, read: ReadRange) -> dict[str, Any]:
    if size > _MAX_CONFIG_BYTES:
        raise BadSnapshot(
            f"{path} has {size} bytes, more than the {_MAX_CONFIG_BYTES} a configuration may have"
        )
    try:
        config = json.loads(await read(path, 0, size))
    except (ValueError, RecursionError) as error:
        raise BadSnapshot(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict):
        raise BadSnapshot(f"{path} is no JSON object")
    return config
