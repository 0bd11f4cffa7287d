"""The index of weights in several files: which tensor is in which of them. Pure."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

SUFFIX = ".safetensors.index.json"
MAX_INDEX_BYTES = 64 << 20


class BadIndex(ValueError):
    """An index that cannot be one, or that is not of these files."""


def weight_map(data: bytes) -> dict[str, str]:
    """Tensor → name of the file that holds it. Raises BadIndex."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadIndex(f"it is not JSON: {error}") from None
    mapped = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(mapped, dict) or not all(isinstance(shard, str) for shard in mapped.values()):
        raise BadIndex("it has no weight_map from tensors to files")
    return mapped


def check_shards(mapped: Mapping[str, str], tensors: Mapping[str, AbstractSet[str]]) -> None:
    """Compare an index with the tensors of the files beside it, by file name. Raises BadIndex.

    An index none of whose files is there is left over from a choice of files without weights.
    """
    shards = set(mapped.values())
    missing = sorted(shards - tensors.keys())
    if len(missing) == len(shards):
        return
    if missing:
        raise BadIndex(
            f"it names {missing[0]!r}, which is not there ({len(missing)} of {len(shards)} missing)"
        )
    for tensor, shard in mapped.items():
        if tensor not in tensors[shard]:
            raise BadIndex(f"it says that tensor {tensor[:200]!r} is in {shard!r}, which does not hold it")
