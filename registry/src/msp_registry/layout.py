"""Which keys the store's objects have, and which names may become part of one.

    {repo}/{commit}/{path}                          the files of a snapshot, plain: other tools can read them
    {repo}/{commit}/.registry/manifest.json         written last: without it the snapshot does not exist
    {repo}/{commit}/.registry/uploads/{hash}.json   a large file on its way, and where it goes on
    {repo}/{commit}/.registry/quarantine.json       files that are no longer what the manifest says
    {repo}/.registry/refs/{ref, percent-encoded}    the commit that a branch or tag names
    .registry/jobs/{id}.json                        jobs
    .registry/scrub.json                            when each snapshot was last read back

`repo` is `org/name` or `name`. No id may end in a segment of 40 hex digits, or the snapshots of `org` could
not be told from the model `org/<40 hex>`.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, unquote

from msp_common.model_ids import InvalidModelId, parse_model_id
from msp_common.snapshots import MANIFEST_PATH, OWN_FOLDER
from msp_registry.stores.store import BadKey, check_key

JOBS = f"{OWN_FOLDER}/jobs/"
SCRUB = f"{OWN_FOLDER}/scrub.json"

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REF = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._/+-]{0,126}[A-Za-z0-9_+-])?")


class UnsafePath(ValueError):
    """A path that may not become part of a snapshot."""


class BadRevision(ValueError):
    """Neither a commit nor a possible name of a branch or tag."""


def is_commit(text: str) -> bool:
    """Whether it is 40 lower-case hex digits."""
    return _COMMIT.fullmatch(text) is not None


def repo_id_of(raw: str) -> str:
    """As `parse_model_id`, and no last segment that looks like a commit. Raises InvalidModelId."""
    repo_id = parse_model_id(raw)
    if is_commit(repo_id.rsplit("/", 1)[-1]):
        raise InvalidModelId(f"{raw!r} ends like a commit; such a model cannot be stored")
    return repo_id


def check_revision(revision: str) -> str:
    """The revision itself. Raises BadRevision."""
    try:
        check_key(quote(revision, safe=""))
        fine = bool(_REF.fullmatch(revision)) and ".." not in revision and "//" not in revision
    except (BadKey, UnicodeEncodeError):
        fine = False
    if not fine:
        raise BadRevision(
            f"{revision[:200]!r} is no revision; expected a branch, a tag or a commit of 40 hex digits"
        )
    return revision


def check_path(path: str) -> str:
    """The path itself. Raises UnsafePath for anything that could leave its snapshot or hide the manifest."""
    try:
        check_key(path)
    except BadKey as error:
        raise UnsafePath(str(error).replace("is no key", "is no path of a model's file")) from None
    if path.split("/", 1)[0] == OWN_FOLDER:
        raise UnsafePath(f"{path!r}: {OWN_FOLDER} is the registry's own folder")
    return path


def check_paths(paths: Iterable[str]) -> None:
    """Each path by itself, and all together: none twice, none both a file and a folder. Raises UnsafePath."""
    files = set()
    for path in paths:
        if check_path(path) in files:
            raise UnsafePath(f"{path!r} is listed twice")
        files.add(path)
    for path in files:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if above in files:
                raise UnsafePath(f"{above!r} is listed both as a file and as a folder")


def file_key(repo_id: str, commit: str, path: str) -> str:
    """Where a snapshot's file is."""
    return f"{repo_id}/{commit}/{check_path(path)}"


def manifest_key(repo_id: str, commit: str) -> str:
    """Where a snapshot's manifest is."""
    return f"{repo_id}/{commit}/{OWN_FOLDER}/manifest.json"


def upload_key(repo_id: str, commit: str, path: str) -> str:
    """Where it is kept how far a large file on its way has come."""
    name = hashlib.sha256(check_path(path).encode()).hexdigest()[:32]
    return f"{repo_id}/{commit}/{OWN_FOLDER}/uploads/{name}.json"


def quarantine_key(repo_id: str, commit: str) -> str:
    """Where a snapshot's bad files are listed."""
    return f"{repo_id}/{commit}/{OWN_FOLDER}/quarantine.json"


def ref_key(repo_id: str, ref: str) -> str:
    """Where a branch or tag is."""
    return f"{repo_id}/{OWN_FOLDER}/refs/{quote(check_revision(ref), safe='')}"


def job_key(job_id: str) -> str:
    """Where a job is."""
    return f"{JOBS}{job_id}.json"


@dataclass(frozen=True)
class Location:
    """What a key of the store is: a file of a snapshot, a snapshot's manifest, or a ref."""

    repo_id: str
    commit: str | None = None
    path: str | None = None
    ref: str | None = None

    @property
    def is_manifest(self) -> bool:
        """Whether the snapshot exists by this key."""
        return self.commit is not None and self.path == MANIFEST_PATH


def locate(key: str) -> Location | None:
    """The inverse of the functions above; None for keys that belong to no model."""
    parts = key.split("/")
    for n in (1, 2):
        if len(parts) <= n + 1 or parts[0] == OWN_FOLDER:
            return None
        repo_id = "/".join(parts[:n])
        if is_commit(parts[n]):
            return Location(repo_id, commit=parts[n], path="/".join(parts[n + 1 :]))
        if parts[n] == OWN_FOLDER:
            if parts[n + 1] == "refs" and len(parts) == n + 3:
                return Location(repo_id, ref=unquote(parts[n + 2]))
            return None
    return None
