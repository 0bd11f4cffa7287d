"""Small files that a model could be made of."""

import hashlib
import json
import struct
from pathlib import Path

from msp_common.contracts.models import Manifest, ManifestFile
from msp_registry.catalogue import Catalogue
from msp_registry.layout import file_key
from msp_registry.stores.store import ObjectStore

CARD = b"---\nlicense: apache-2.0\n---\n# A tiny model\n"


def safetensors(numbers: int = 4, *, cut: int = 0) -> bytes:
    """One float32 tensor; `cut` takes bytes off the end."""
    tensor = {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}
    header = json.dumps({"w": tensor}).encode()
    body = (bytes(range(256)) * (numbers // 64 + 1))[: 4 * numbers]
    data = struct.pack("<Q", len(header)) + header + body
    return data[: len(data) - cut]


def tiny_model(numbers: int = 4) -> dict[str, bytes]:
    """Path → bytes of a whole, valid model."""
    return {
        "README.md": CARD,
        "config.json": b'{"model_type": "tiny"}',
        "model.safetensors": safetensors(numbers),
        "1_Pooling/config.json": b"{}",
        "empty.txt": b"",
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files below `folder`, which is given back."""
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return folder


COMMITS = ["a" * 40, "b" * 40, "c" * 40]


async def publish(
    store: ObjectStore,
    catalogue: Catalogue,
    repo_id: str,
    files: dict[str, bytes],
    *,
    commit: str = COMMITS[0],
    ref: str | None = "main",
    source: str = "folder",
) -> Manifest:
    """Put a snapshot into the store and make it visible."""
    for path, data in files.items():
        await store.put(file_key(repo_id, commit, path), data)
    manifest = Manifest(
        repo_id=repo_id,
        commit=commit,
        revision=ref or commit,
        source=source,
        files=[
            ManifestFile(
                path=path,
                size_bytes=len(data),
                sha256=hashlib.sha256(data).hexdigest(),
                git_sha1=hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(),
            )
            for path, data in sorted(files.items())
        ],
        total_bytes=sum(map(len, files.values())),
        format="safetensors",
        parameters=4,
        tool_version="1",
    )
    await catalogue.publish(manifest, ref)
    return manifest
