"""Looking into a snapshot's files before it is published: do they parse, and what do they say?"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from anyio import to_thread

from msp_common.contracts.models import Licence
from msp_registry.failures import BadSnapshot
from msp_registry.inspection import gguf_header, safetensors_header, shard_index
from msp_registry.inspection.licences import is_licence_text, licence_of

ReadRange = Callable[[str, int, int], Awaitable[bytes]]
"""Path, offset and length → the bytes of one of the snapshot's files."""

Format = Literal["safetensors", "gguf", "pickle", "other"]

PICKLE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".h5", ".msgpack", ".ot", ".joblib"}
)
"""Weights in forms that can run code when loaded, or that only other frameworks read."""

_WEIGHTS = PICKLE_SUFFIXES | {".safetensors", ".gguf", ".onnx"}
_MAX_CONFIG_BYTES = 16 << 20
_MAX_TOKENIZER_BYTES = 64 << 20
_MAX_CARD_BYTES = 64 << 10
_START_BYTES = 64

# The keys before the tensors hold a vocabulary, of some MiB.
_GGUF_FIRST_READ = 1 << 20
_GGUF_LAST_READ = 64 << 20


@dataclass(frozen=True)
class Findings:
    """What the files say of the model."""

    format: Format
    dtype: str | None
    parameters: int | None
    licence: Licence
    requires_remote_code: bool


async def inspect(
    files: Sequence[tuple[str, int]], read: ReadRange, sha256: Mapping[str, str] | None = None
) -> Findings:
    """Read the parts that tell, of files given as (path, size). Raises BadSnapshot naming the file.

    `sha256` holds the files' hashes, from which those of the licence texts are taken.
    """
    sizes = dict(files)
    for path, size in files:
        if PurePosixPath(path).suffix.lower() in _WEIGHTS:
            _refuse_what_is_no_weights(path, await read(path, 0, min(size, _START_BYTES)))
    dtypes = await _safetensors(sizes, read)
    if not dtypes:
        dtypes = await _ggufs(sizes, read)
    config: Any = None
    if "config.json" in sizes:
        config = await _json("config.json", sizes["config.json"], _MAX_CONFIG_BYTES, read)
        if not isinstance(config, dict):
            raise BadSnapshot("config.json is no JSON object")
    if "tokenizer.json" in sizes:
        await _json("tokenizer.json", sizes["tokenizer.json"], _MAX_TOKENIZER_BYTES, read, _forgotten)
    card = ""
    if "README.md" in sizes:
        raw = await read("README.md", 0, min(sizes["README.md"], _MAX_CARD_BYTES))
        card = raw.decode(errors="replace")
    texts = {path: digest for path, digest in sorted((sha256 or {}).items()) if is_licence_text(path)}
    return Findings(
        format=format_of(sizes),
        dtype=dtypes.most_common(1)[0][0] if dtypes else None,
        parameters=sum(dtypes.values()) or None,
        licence=licence_of(card).model_copy(update={"text_sha256": texts}),
        requires_remote_code="auto_map" in (config or {}) or any(path.endswith(".py") for path in sizes),
    )


def format_of(paths: "Sequence[str] | dict[str, int]") -> Format:
    """The form of the weights: the safest of those that are there."""
    suffixes = {PurePosixPath(path).suffix.lower() for path in paths}
    if ".safetensors" in suffixes:
        return "safetensors"
    if ".gguf" in suffixes:
        return "gguf"
    return "pickle" if suffixes & PICKLE_SUFFIXES else "other"


def _refuse_what_is_no_weights(path: str, start: bytes) -> None:
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise BadSnapshot(
            f"{path} is a web page: a login or error page was saved as weights; fetch the file again"
        )
    if text.startswith(b"version https://git-lfs"):
        raise BadSnapshot(
            f"{path} is only git-lfs's pointer to the weights; fetch them with `git lfs pull` in the clone"
        )


async def _safetensors(sizes: Mapping[str, int], read: ReadRange) -> Counter[str]:
    """The numbers of each type in all files, which are also compared with their indexes."""
    dtypes: Counter[str] = Counter()
    names: dict[str, set[str]] = {}
    for path, size in sizes.items():
        if path.endswith(".safetensors"):
            tensors = await _tensors(path, size, read)
            dtypes += tensors.by_dtype
            names[path] = tensors.names
    for path, size in sizes.items():
        if path.endswith(shard_index.SUFFIX):
            above = path.rpartition("/")[0]
            prefix = f"{above}/" if above else ""
            beside = {p.removeprefix(prefix): n for p, n in names.items() if p.startswith(prefix)}
            try:
                _bounded(path, size, shard_index.MAX_INDEX_BYTES)
                data = await read(path, 0, size)
                mapped = await to_thread.run_sync(shard_index.weight_map, data)
                shard_index.check_shards(mapped, beside)
            except shard_index.BadIndex as error:
                raise BadSnapshot(f"{path} does not fit its files: {error}") from None
    return dtypes


async def _tensors(path: str, size: int, read: ReadRange) -> safetensors_header.Tensors:
    try:
        start = await read(path, 0, min(size, safetensors_header.LENGTH_BYTES))
        length = safetensors_header.header_length(start, size)
        header = await read(path, safetensors_header.LENGTH_BYTES, length)
        return await to_thread.run_sync(safetensors_header.read_header, header, size)
    except safetensors_header.BadHeader as error:
        raise BadSnapshot(f"{path} is not a whole safetensors file: {error}") from None


async def _ggufs(sizes: Mapping[str, int], read: ReadRange) -> Counter[str]:
    """The numbers of each type, where the files are parts of one model and not several forms of it."""
    ggufs = {path: size for path, size in sizes.items() if path.lower().endswith(".gguf")}
    headers = {path: await _gguf(path, size, read) for path, size in ggufs.items()}
    if len({gguf_header.without_part(path) for path in ggufs}) != 1 or None in headers.values():
        return Counter()
    return sum((header.by_dtype for header in headers.values() if header), Counter())


async def _gguf(path: str, size: int, read: ReadRange) -> gguf_header.GgufHeader | None:
    """None where the header is so long that reading it is not worth the facts in it."""
    length = min(size, _GGUF_FIRST_READ)
    while True:
        data = await read(path, 0, length)
        try:
            return await to_thread.run_sync(gguf_header.read_header, data, size)
        except gguf_header.BadGguf as error:
            raise BadSnapshot(f"{path} is not a whole GGUF file: {error}") from None
        except gguf_header.MoreNeeded:
            if length >= min(size, _GGUF_LAST_READ):
                return None
            length = min(size, length * 4)


async def _json(
    path: str, size: int, limit_bytes: int, read: ReadRange, hook: Callable[[Any], Any] | None = None
) -> Any:
    _bounded(path, size, limit_bytes)
    data = await read(path, 0, size)
    try:
        return await to_thread.run_sync(lambda: json.loads(data, object_pairs_hook=hook))
    except (ValueError, RecursionError) as error:
        raise BadSnapshot(f"{path} is not JSON: {error}") from None


def _bounded(path: str, size: int, limit_bytes: int) -> None:
    if size > limit_bytes:
        raise BadSnapshot(f"{path} has {size} bytes, more than the {limit_bytes} that such a file may have")


def _forgotten(pairs: object) -> None:
    """Only whether a vocabulary parses is asked for; kept, it would take ten times its size."""
