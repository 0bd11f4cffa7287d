"""Snapshots that no hub has named: their commit, which follows from their content, and where they begin."""

import hashlib
import json
from collections.abc import Iterable

from msp_common.contracts.models import ManifestFile

OWN_FOLDER = ".registry"
"""The registry's own folder inside a snapshot; no file of a model may be in it."""

MANIFEST_PATH = f"{OWN_FOLDER}/manifest.json"
"""Where an exported snapshot carries its manifest: in a tar it is the first member."""


def local_commit(files: Iterable[ManifestFile]) -> str:
    """The sha1 of the canonical list of paths, sizes and hashes; the order of `files` does not matter."""
    listing = [{"path": f.path, "sha256": f.sha256, "size_bytes": f.size_bytes} for f in files]
    listing.sort(key=lambda entry: str(entry["path"]))
    return hashlib.sha1(canonical_json(listing), usedforsecurity=False).hexdigest()


def canonical_json(value: object) -> bytes:
    """The one spelling of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def folder_above_all(paths: Iterable[str]) -> str | None:
    """The one folder that a whole model lies in, where a level too high was given; else None."""
    all_paths = set(paths)
    tops = {path.split("/", 1)[0] for path in all_paths}
    if len(tops) != 1:
        return None
    (top,) = tops
    below = {path.removeprefix(f"{top}/") for path in all_paths}
    is_model = any(p == "config.json" or p.endswith((".safetensors", ".gguf")) for p in below if "/" not in p)
    return top if top not in all_paths and is_model else None
