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
    """What the model card says of the licence."""

    id: str | None = None
    name: str | None = None
    link: str | None = None


class Manifest(Contract):
    """All files of one commit of a model. A snapshot exists from the moment its manifest is published."""

    schema_version: Literal[1] = 1
    repo_id: str
    commit: str
    revision: str
    """The branch, tag or commit that was asked for."""
    source: str
    """Where the bytes came from: a Hub endpoint, or `folder` for a local import."""
    files: list[ManifestFile]
    total_bytes: int
    format: Literal["safetensors", "gguf", "pickle", "other"]
    dtype: str | None = None
    parameters: int | None = None
    licence: Licence = Licence()
    gated: bool = False
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


class ModelSummary(Contract):
    """One line of `GET /models`."""

    id: str
    commit: str
    refs: dict[str, str] = {}
    total_bytes: int
    format: str
    parameters: int | None = None


class ModelList(Contract):
    """Answer of `GET /models`."""

    models: list[ModelSummary]
