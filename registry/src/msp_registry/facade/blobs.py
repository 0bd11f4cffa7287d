"""What git would call a snapshot's files and folders, which is what hub clients call them. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from msp_common.contracts.models import Manifest, ManifestFile

LARGE_BYTES = 10_000_000
"""From here on the hub wants files in LFS."""

WEIGHT_SUFFIXES = frozenset(
    {
        *(".7z", ".arrow", ".bin", ".bz2", ".ckpt", ".ftz", ".gguf", ".gz", ".h5", ".joblib", ".mlmodel"),
        *(".model", ".msgpack", ".npy", ".npz", ".onnx", ".ot", ".parquet", ".pb", ".pickle", ".pkl", ".pt"),
        *(".pth", ".rar", ".safetensors", ".tar", ".tflite", ".tgz", ".wasm", ".xz", ".zip", ".zst"),
    }
)
"""What the hub's own `.gitattributes` for new models puts into LFS whatever its size, and GGUF."""


def in_lfs(manifest: Manifest, file: ManifestFile) -> bool:
    """Whether the file counts as an LFS file.

    A hub has said so of mirrored models; of others it follows from size and suffix. All answers about a
    snapshot go by this one rule: clients compare the hashes of one answer with those of another.
    """
    if file.lfs or manifest.hub is not None:
        return file.lfs
    return file.size_bytes > LARGE_BYTES or PurePosixPath(file.path).suffix.lower() in WEIGHT_SUFFIXES


def etag(manifest: Manifest, file: ManifestFile) -> str:
    """The blob's name in clients' caches, without quotes: sha256 of LFS files, git's sha1 of others."""
    return file.sha256 if in_lfs(manifest, file) else file.git_sha1


def lfs_pointer(file: ManifestFile) -> bytes:
    """What git itself holds in place of an LFS file."""
    return (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{file.sha256}\nsize {file.size_bytes}\n"
    ).encode()


def blob_id(manifest: Manifest, file: ManifestFile) -> str:
    """Git's own id of the file: for LFS files that of the pointer."""
    return _git_id(b"blob", lfs_pointer(file)) if in_lfs(manifest, file) else file.git_sha1


def tree_id(files: Mapping[str, str], folders: Mapping[str, str]) -> str:
    """Git's id of a folder, from names and ids of what lies in it, no file of which is executable."""
    rows = [(name.encode(), b"100644", oid) for name, oid in files.items()]
    # Git sorts a folder as if its name ended in a slash.
    rows += [(name.encode() + b"/", b"40000", oid) for name, oid in folders.items()]
    return _git_id(b"tree", _rows(sorted(rows)))


def _rows(rows: Sequence[tuple[bytes, bytes, str]]) -> bytes:
    return b"".join(mode + b" " + name.rstrip(b"/") + b"\0" + _raw(oid) for name, mode, oid in rows)


def _raw(oid: str) -> bytes:
    # A manifest may say anything; an id that is no hex digits still gives some stable id of the folder.
    try:
        return bytes.fromhex(oid)
    except ValueError:
        return oid.encode()


def _git_id(kind: bytes, data: bytes) -> str:
    return hashlib.sha1(b"%s %d\0" % (kind, len(data)) + data, usedforsecurity=False).hexdigest()
