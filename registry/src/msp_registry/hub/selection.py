"""Which files of a repository are taken: the caller's patterns, then the safetensors-only policy. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from msp_registry.failures import NothingToStore, PickleOnly
from msp_registry.inspection.inspection import PICKLE_SUFFIXES

# Second copies of the same weights in their makers' own form.
_DUPLICATES = ("original/*", "consolidated*")


@dataclass(frozen=True)
class RemoteFile:
    """A file as a source lists it. One hash is known: sha256 for large files, git's for small ones."""

    path: str
    size_bytes: int
    git_sha1: str | None
    sha256: str | None
    sha256_suffices: bool = False
    """Clients know the file by its sha256: git's hash, which must be given, is taken as it is."""

    @property
    def lfs(self) -> bool:
        """Whether the source keeps it as a large file."""
        return self.sha256 is not None


def select(
    files: Sequence[RemoteFile],
    *,
    allow: Sequence[str] = (),
    ignore: Sequence[str] = (),
    allow_pickle: bool = False,
) -> list[RemoteFile]:
    """The files to take, by path. Raises NothingToStore, and PickleOnly when the policy leaves no weights.

    Patterns are fnmatch's, as in `huggingface_hub`; one that ends in `/` means all below. Program files are
    taken only where an allow pattern names them, since they would run in whoever trusts the snapshot.
    """
    wanted = [f for f in files if (not allow or _matches(f.path, allow)) and not _matches(f.path, ignore)]
    if not allow:
        wanted = [f for f in wanted if not f.path.endswith(".py")]
    if not allow_pickle:
        wanted = _without_pickle(wanted)
    if not wanted:
        raise NothingToStore(
            f"none of the {len(files)} files is left by allow_patterns {list(allow)} and "
            f"ignore_patterns {list(ignore)}"
        )
    return sorted(wanted, key=lambda f: f.path)


def _without_pickle(files: list[RemoteFile]) -> list[RemoteFile]:
    pickles = [f for f in files if _is_pickle(f.path)]
    safe = [f for f in files if not _is_pickle(f.path)]
    safetensors = [f for f in safe if f.path.endswith(".safetensors") and not _matches(f.path, _DUPLICATES)]
    if pickles and not any(f.path.endswith((".safetensors", ".gguf")) for f in safe):
        raise PickleOnly(
            f"the weights come only in forms that can run code when loaded ({pickles[0].path}); "
            "ask again with allow_pickle=true if you trust their maker"
        )
    return [f for f in safe if not _matches(f.path, _DUPLICATES)] if safetensors else safe


def _is_pickle(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in PICKLE_SUFFIXES


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, f"{p}*" if p.endswith("/") else p) for p in patterns)
