"""What the registry knows of a snapshot, in the hub's words. Pure."""

import re
from datetime import UTC, datetime
from typing import Any

from msp_common.contracts.models import Manifest, ManifestFile
from msp_registry.facade.blobs import blob_id, in_lfs, lfs_pointer

Json = dict[str, Any]

MAIN = "main"
"""The revision that clients mean when nobody names one."""

_UNKNOWN_DATE = "1970-01-01T00:00:00.000Z"
_PULL_REQUEST = re.compile(r"refs/pr/(\d+)")
_CONVERSION = re.compile(r"refs/convert/(.+)")


def model_info(manifest: Manifest, *, blobs: bool) -> Json:
    """`/api/models/{id}`. Siblings are complete: clients before 2.0 download what they list.

    `blobs` adds sizes and hashes to them.
    """
    hub = manifest.hub
    info: Json = {
        "_id": manifest.commit[:24],
        "id": manifest.repo_id,
        "modelId": manifest.repo_id,
        "author": manifest.repo_id.rpartition("/")[0] or None,
        "sha": manifest.commit,
        "lastModified": date_of(manifest),
        "private": hub.private if hub else False,
        "gated": hub.gated if hub else False,
        "disabled": False,
        "tags": hub.tags if hub else [],
        "pipeline_tag": hub.pipeline_tag if hub else None,
        "library_name": hub.library_name if hub else None,
        "downloads": 0,
        "likes": 0,
        "spaces": [],
        "usedStorage": manifest.total_bytes,
        "siblings": [_sibling(manifest, file, blobs=blobs) for file in manifest.files],
    }
    licence = {"license": manifest.licence.id, "license_name": manifest.licence.name}
    card = {key: value for key, value in licence.items() if value}
    if card:
        info["cardData"] = card
    return {key: value for key, value in info.items() if value is not None}


def refs_answer(refs: dict[str, str], default_commit: str, *, pull_requests: bool) -> Json:
    """`/api/models/{id}/refs`. What is no pull request or conversion counts as a branch.

    `main` is always there, since it is always answered (see `routes.hub_lookup`).
    """
    branches, converts, pulls = [], [], []
    for name, commit in sorted({MAIN: default_commit, **refs}.items()):
        if match := _PULL_REQUEST.fullmatch(name):
            pulls.append({"name": match[1], "ref": name, "targetCommit": commit})
        elif match := _CONVERSION.fullmatch(name):
            converts.append({"name": match[1], "ref": name, "targetCommit": commit})
        else:
            branches.append({"name": name, "ref": f"refs/heads/{name}", "targetCommit": commit})
    answer: Json = {"branches": branches, "converts": converts, "tags": []}
    return {**answer, "pullRequests": pulls} if pull_requests else answer


def commits_answer(manifest: Manifest) -> list[Json]:
    """`/api/models/{id}/commits/{revision}`: the one commit that is known; its history stayed behind."""
    last = last_commit(manifest)
    return [{**last, "message": "", "authors": [{"user": "registry"}]}]


def last_commit(manifest: Manifest) -> Json:
    """The commit, as expanded entries of a tree name it."""
    return {"id": manifest.commit, "title": f"Snapshot from {manifest.source}", "date": date_of(manifest)}


def whoami(display_name: str = "registry") -> Json:
    """`/api/whoami-v2` for whoever sends a token: the fields that `hf auth login` and `whoami` read."""
    return {
        "type": "user",
        "id": "0" * 24,
        "name": "local",
        "fullname": "Anyone: this registry checks no tokens for reading",
        "isPro": False,
        "orgs": [],
        "auth": {"type": "access_token", "accessToken": {"displayName": display_name, "role": "read"}},
    }


def date_of(manifest: Manifest) -> str:
    """When the model was last changed, as far as known; in the one spelling that clients can read."""
    said = manifest.hub.last_modified if manifest.hub else None
    try:
        when = datetime.fromisoformat(said) if said else _mirrored_at(manifest)
        in_utc = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return _UNKNOWN_DATE
    return in_utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _mirrored_at(manifest: Manifest) -> datetime:
    """Raises ValueError and OverflowError when it is not known, or no time at all."""
    if manifest.mirrored_at is None:
        raise ValueError("not known")
    return datetime.fromtimestamp(manifest.mirrored_at, UTC)


def _sibling(manifest: Manifest, file: ManifestFile, *, blobs: bool) -> Json:
    sibling: Json = {"rfilename": file.path}
    if blobs:
        sibling |= {"size": file.size_bytes, "blobId": blob_id(manifest, file)}
        if in_lfs(manifest, file):
            sibling["lfs"] = {
                "sha256": file.sha256,
                "size": file.size_bytes,
                "pointerSize": len(lfs_pointer(file)),
            }
    return sibling
