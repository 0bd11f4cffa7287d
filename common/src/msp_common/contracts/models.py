"""Models at rest: the manifest of one snapshot, and what the registry tells of a model."""

from typing import Literal

from msp_common.contracts.base import Contract


class ManifestFile(Contract):
    """One file of a snapshot."""

    path: str
    size_bytes: int
    sha256: str
    git_sha1: str
    """sha1 of the git blob header and the bytes: what the Hub names small files by."""
    lfs: bool = False


class Licence(Contract):
    """What the model card and the licence files say of the licence."""

    id: str | None = None
    name: str | None = None
    link: str | None = None
    text_sha256: dict[str, str] = {}
    """Path of each licence or notice file, and the hash of its text."""


class HubRecord(Contract):
    """What the hub said of a model when it was mirrored; clients in the air gap ask for it."""

    pipeline_tag: str | None = None
    library_name: str | None = None
    tags: list[str] = []
    last_modified: str | None = None
    private: bool = False
    gated: bool | str = False
    """False, or the hub's word for how access is granted: `auto`, `manual`."""


class Manifest(Contract):
    """All files of one commit of a model. A snapshot exists from the moment its manifest is published."""

    schema_version: Literal[1] = 1
    repo_id: str
    commit: str
    revision: str
    """The branch, tag or commit that was asked for."""
    source: str
    """Where the bytes came from: a hub's address, `folder`, `tar`, or `s3://bucket/prefix`."""
    files: list[ManifestFile]
    total_bytes: int
    format: Literal["safetensors", "gguf", "pickle", "other"]
    dtype: str | None = None
    parameters: int | None = None
    licence: Licence = Licence()
    hub: HubRecord | None = None
    """None where no hub was asked."""
    mirrored_at: float | None = None
    """Unix time; for a gated model also when the holder of the token made use of the granted access."""
    requires_remote_code: bool = False
    allow_patterns: list[str] = []
    ignore_patterns: list[str] = []
    tool_version: str


class FileUrl(Contract):
    """Where the bytes of one file of a manifest can be had with ranged GETs, for a limited time."""

    path: str
    url: str
    """Absolute, or relative to the registry's address."""
    expires_at: float | None = None


class ModelInfo(Contract):
    """Answer of `GET /models/{name}`: the snapshot that a revision names, and where its bytes are."""

    id: str
    commit: str
    revision: str
    refs: dict[str, str] = {}
    """Branches and channels of this model, and the commit that each names."""
    manifest: Manifest
    urls: list[FileUrl] = []
    quarantined: dict[str, str] = {}
    """Files that are no longer what the manifest says, and why; they are not served."""
    used_by: list[str] | None = None
    """Ids of the workers that use this commit; null when the service registry could not be asked."""


class ModelSummary(Contract):
    """One line of `GET /models`."""

    id: str
    commit: str
    refs: dict[str, str] = {}
    total_bytes: int
    format: str
    parameters: int | None = None
    quarantined: bool = False
    """Whether the commit has files that are not served."""


class ModelList(Contract):
    """Answer of `GET /models`."""

    models: list[ModelSummary]


class RefChange(Contract):
    """Body of `PUT /models/{name}/refs/{ref}`: exactly one of both."""

    commit: str | None = None
    revision: str | None = None
    """Another ref of the model, whose commit is taken."""


class Refs(Contract):
    """Answer of the refs routes: what each ref names, and which commits there are to choose from."""

    id: str
    refs: dict[str, str]
    commits: list[str]
    """Published commits, newest first."""


class DeletedModel(Contract):
    """Answer of `DELETE /models/{name}`."""

    id: str
    commits: list[str]
    refs: list[str]
    objects: int
    freed_bytes: int
    broke: list[str] = []
    """Workers that use what is gone now; only with `force`."""


class GcRequest(Contract):
    """Body of `POST /gc`."""

    dry_run: bool = True
    older_than_s: float = 86_400
    """Younger leftovers are kept: an operator may be about to resume their job."""
    unreferenced: bool = False
    """Also snapshots that no ref names and no worker uses."""


class GcItem(Contract):
    """One thing that a collection removes, or would remove."""

    kind: Literal["unpublished", "upload", "unreferenced"]
    """Files without a manifest, a broken-off upload, a snapshot that no ref names."""
    name: str
    objects: int
    freed_bytes: int


class GcReport(Contract):
    """Answer of `POST /gc`."""

    dry_run: bool
    items: list[GcItem]
    freed_bytes: int
    skipped: dict[str, str] = {}
    """What was left for now, by name, and why: a job of the model runs, or nobody can tell who uses it."""
