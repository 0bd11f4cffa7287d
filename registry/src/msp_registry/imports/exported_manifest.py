"""The manifest that an exported snapshot brings with it: read as what a stranger says. Pure."""

import re

from pydantic import ValidationError

from msp_common.contracts.models import Manifest
from msp_common.snapshots import MANIFEST_PATH, local_commit
from msp_registry.imports.source import MAX_FILES, MAX_MANIFEST_BYTES
from msp_registry.layout import BadRevision, UnsafePath, check_paths, check_revision, file_key, is_commit
from msp_registry.stores.store import BadKey, check_key

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SHA1 = re.compile(r"[0-9a-f]{40}")

# Files that never had a hub are named by their content, which can be checked.
_OWN_COMMITS = ("folder", "tar", "s3://")


class BadManifest(ValueError):
    """A manifest that cannot be that of a snapshot."""


def exported_manifest(data: bytes, repo_id: str) -> Manifest:
    """The manifest, as that of `repo_id`: a model keeps its commit under another name. Raises BadManifest."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise BadManifest(f"{MANIFEST_PATH} has more than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = Manifest.model_validate_json(data).model_copy(update={"repo_id": repo_id})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BadManifest(
            f"{MANIFEST_PATH} is no manifest: {where[:200]}: {first['msg'][:200]}; export the model again, "
            "or remove the folder .registry to import the files as they are"
        ) from None
    _check_head(manifest)
    _check_files(manifest)
    return manifest


def _check_head(manifest: Manifest) -> None:
    if not is_commit(manifest.commit):
        raise BadManifest(
            f"{MANIFEST_PATH} names {manifest.commit[:200]!r} as its commit; expected 40 hex digits"
        )
    try:
        check_revision(manifest.revision)
    except BadRevision as error:
        raise BadManifest(f"{MANIFEST_PATH}: {error}") from None
    if not manifest.files:
        raise BadManifest(f"{MANIFEST_PATH} lists no files")
    if len(manifest.files) > MAX_FILES:
        raise BadManifest(f"{MANIFEST_PATH} lists more than {MAX_FILES} files")


def _check_files(manifest: Manifest) -> None:
    try:
        check_paths(file.path for file in manifest.files)
        for file in manifest.files:
            check_key(file_key(manifest.repo_id, manifest.commit, file.path))
    except (UnsafePath, BadKey) as error:
        raise BadManifest(f"{MANIFEST_PATH}: {error}") from None
    for file in manifest.files:
        if file.size_bytes < 0 or not _SHA256.fullmatch(file.sha256) or not _SHA1.fullmatch(file.git_sha1):
            raise BadManifest(f"{MANIFEST_PATH} gives {file.path!r} no possible size and hashes")
    total = sum(file.size_bytes for file in manifest.files)
    if total != manifest.total_bytes:
        raise BadManifest(
            f"{MANIFEST_PATH} says {manifest.total_bytes} bytes in all, but its files have {total}"
        )
    if manifest.hub is None and manifest.source.startswith(_OWN_COMMITS):
        content = local_commit(manifest.files)
        if content != manifest.commit:
            raise BadManifest(
                f"{MANIFEST_PATH} names commit {manifest.commit}, but that of its list of files is {content}"
            )
