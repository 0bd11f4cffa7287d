"""A local model as a tar stream that the registry takes: its manifest first, then its files."""

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import version

from msp_cli.archive_source import Source, SourceFile, Unsuitable
from msp_common.contracts.models import Manifest, ManifestFile
from msp_common.snapshots import MANIFEST_PATH, folder_above_all, local_commit

CHUNK_BYTES = 1 << 20

Moved = Callable[[int], None]


def carried_manifest(
    source: Source, repo_id: str, revision: str, *, rest_from_store: bool = False
) -> Manifest | None:
    """The manifest that the source carries. Raises Unsuitable when its files are not those that are there.

    `rest_from_store`: files that it lists may be missing.
    """
    carried = source.manifest()
    if carried is None:
        if rest_from_store:
            raise Unsuitable(f"there is no {MANIFEST_PATH} that tells which files are to come from the store")
        return None
    _same_files(carried, source.files(), some_missing=rest_from_store)
    return carried.model_copy(update={"repo_id": repo_id, "revision": revision})


def hashed_manifest(source: Source, repo_id: str, revision: str, hashed: Moved) -> Manifest:
    """A manifest from the hashes of the source's files, for a source without one.

    `hashed` is told of bytes that have been read. Raises Unsuitable.
    """
    files = source.files()
    if (top := folder_above_all(file.path for file in files)) is not None:
        raise Unsuitable(
            f"all files of the {source.kind} are in the folder {top!r}; send that folder itself "
            f"(a tar of it is packed with `tar -cf model.tar -C {top} .`)"
        )
    listed = [_hashed(source, file, hashed) for file in files]
    return Manifest(
        repo_id=repo_id,
        commit=local_commit(listed),
        revision=revision,
        source=source.kind,
        files=sorted(listed, key=lambda f: f.path),
        total_bytes=sum(file.size_bytes for file in listed),
        # The registry looks into the files itself, and believes no facts that a manifest states.
        format="other",
        tool_version=version("msp-cli"),
    )


def tar_length(manifest: Manifest, files: list[SourceFile]) -> int:
    """How many bytes `tar_stream` yields."""
    data = _manifest_bytes(manifest)
    members = [(MANIFEST_PATH, len(data)), *((f.path, f.size_bytes) for f in files)]
    blocks = sum(len(_header(path, size)) + size + len(_padding(size)) for path, size in members)
    return blocks + len(_END)


def tar_stream(manifest: Manifest, source: Source, files: list[SourceFile], sent: Moved) -> Iterator[bytes]:
    """The tar: the same bytes for the same content, whatever owner, mode and time the files have.

    Raises Unsuitable when a file has changed its size since the manifest was made.
    """
    data = _manifest_bytes(manifest)
    yield _header(MANIFEST_PATH, len(data)) + data + _padding(len(data))
    for file in files:
        yield _header(file.path, file.size_bytes)
        for chunk in _read(source, file):
            sent(len(chunk))
            yield chunk
        yield _padding(file.size_bytes)
    yield _END


_END = bytes(2 * tarfile.BLOCKSIZE)


def _manifest_bytes(manifest: Manifest) -> bytes:
    return manifest.model_dump_json().encode()


def _header(path: str, size_bytes: int) -> bytes:
    member = tarfile.TarInfo(path)
    member.size = size_bytes
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)


def _read(source: Source, file: SourceFile) -> Iterator[bytes]:
    left = file.size_bytes
    with source.open(file) as opened:
        while chunk := opened.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                break
            yield chunk
    if left:
        raise Unsuitable(f"{file.path} changed while it was read; try again")


def _hashed(source: Source, file: SourceFile, hashed: Moved) -> ManifestFile:
    sha256 = hashlib.sha256()
    git_sha1 = hashlib.sha1(f"blob {file.size_bytes}\0".encode(), usedforsecurity=False)
    for chunk in _read(source, file):
        sha256.update(chunk)
        git_sha1.update(chunk)
        hashed(len(chunk))
    return ManifestFile(
        path=file.path,
        size_bytes=file.size_bytes,
        sha256=sha256.hexdigest(),
        git_sha1=git_sha1.hexdigest(),
    )


def _same_files(manifest: Manifest, files: list[SourceFile], *, some_missing: bool) -> None:
    listed = {file.path: file.size_bytes for file in manifest.files}
    there = {file.path: file.size_bytes for file in files}
    remedy = f"export it again, or delete {MANIFEST_PATH} to send the files as they are"
    for path in sorted(listed.keys() - there.keys() if not some_missing else ()):
        raise Unsuitable(f"the manifest lists {path}, which is not there; {remedy}")
    for path in sorted(there.keys() - listed.keys()):
        raise Unsuitable(f"{path} is not in the manifest; {remedy}")
    for path, size in there.items():
        if listed[path] != size:
            raise Unsuitable(f"{path} has {size} bytes, the manifest says {listed[path]}; {remedy}")
