"""Manifests that lie, and what must hold however an import is refused."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest

from msp_common.snapshots import canonical_json
from msp_registry.failures import BadArchive, BadFolder
from support.registry_files import write_folder
from support.registry_imports import Importing, files_below

MANIFEST = ".registry/manifest.json"
LONG = "x" * 10_000


@contextmanager
def nothing_written_beside(folder: Path) -> Iterator[None]:
    """A secret beside the imports stays as it is, and nothing appears next to it."""
    outside = write_folder(folder / "outside", {"secret": b"secret"})
    before = files_below(outside)
    yield
    assert files_below(outside) == before
    assert {place.name for place in folder.iterdir()} <= {"outside", "roots", "store"}


async def refused(roots: Path, source: Path, reason: str) -> None:
    """Importing it says why not, and leaves the store of the registry empty."""
    importing = Importing([roots])
    before = files_below(roots)
    with pytest.raises((BadFolder, BadArchive), match=reason):
        await importing.take(source)
    assert importing.store.visible() == set()
    assert not [key for key in importing.store.objects if not key.startswith("org/tiny/")]
    assert files_below(roots) == before


async def refused_tar(roots: Path, data: bytes, reason: str) -> None:
    """The same for a tar on the disk and for the same tar as a stream, manifest or not."""
    (roots / "model.tar").write_bytes(data)
    await refused(roots, roots / "model.tar", reason)
    importing = Importing()
    with pytest.raises(BadArchive):
        await importing.take_tar(data)
    assert importing.store.visible() == set()


def manifest_of(files: dict[str, bytes], **changes: Any) -> bytes:
    """A manifest of a hub's model, changed."""
    listed = [
        {
            "path": path,
            "size_bytes": len(data),
            "sha256": sha256(data).hexdigest(),
            "git_sha1": sha1(b"blob %d\0" % len(data) + data).hexdigest(),
        }
        for path, data in files.items()
    ]
    manifest = {
        "repo_id": "org/tiny",
        "commit": "a" * 40,
        "revision": "main",
        "source": "http://hub",
        "files": listed,
        "total_bytes": sum(map(len, files.values())),
        "format": "safetensors",
        "tool_version": "1",
    }
    return canonical_json(manifest | changes)


def lied(files: dict[str, bytes], path: str = "README.md", **changes: Any) -> bytes:
    """A manifest that says something else of one file."""
    told = json.loads(manifest_of(files))
    told["files"] = [entry | changes if entry["path"] == path else entry for entry in told["files"]]
    told["total_bytes"] = sum(entry["size_bytes"] for entry in told["files"])
    return canonical_json(told)


def listing_more(files: dict[str, bytes], path: str) -> bytes:
    """A manifest that lists one more file."""
    told = json.loads(manifest_of(files))
    told["files"].append(told["files"][0] | {"path": path})
    told["total_bytes"] += told["files"][0]["size_bytes"]
    return canonical_json(told)
