"""A snapshot's files and folders, as the hub lists them. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from msp_common.contracts.models import Manifest
from msp_registry.facade.answers import Json, last_commit
from msp_registry.facade.blobs import blob_id, in_lfs, lfs_pointer, tree_id

PAGE_ENTRIES = 1000
"""As the hub; llama.cpp and others never ask for a second page, so no page is smaller unless asked for."""


class FileTree:
    """Files, and the folders that their paths imply. No path begins or ends with a slash; the root is ''."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._files = {file.path: file for file in manifest.files}
        self._children: dict[str, set[str]] = {"": set()}
        self._tree_ids: dict[str, str] = {}
        for path in self._files:
            while path:
                above = path.rpartition("/")[0]
                known = above in self._children
                self._children.setdefault(above, set()).add(path)
                if known:
                    break
                path = above

    def below(self, folder: str, *, recursive: bool) -> list[str] | None:
        """Paths of what lies in a folder, sorted; None where there is no such folder."""
        if folder not in self._children:
            return None
        found = list(self._children[folder])
        for path in found:
            if recursive:
                found.extend(self._children.get(path, ()))
        return sorted(found)

    def entry(self, path: str, *, expand: bool) -> Json | None:
        """A file or folder; None where there is neither."""
        file = self._files.get(path)
        entry: Json
        if file is not None:
            entry = {
                "type": "file",
                "oid": blob_id(self._manifest, file),
                "size": file.size_bytes,
                "path": path,
            }
            if in_lfs(self._manifest, file):
                entry["lfs"] = {
                    "oid": file.sha256,
                    "size": file.size_bytes,
                    "pointerSize": len(lfs_pointer(file)),
                }
        elif path and path in self._children:
            entry = {"type": "directory", "oid": self._tree_id(path), "size": 0, "path": path}
        else:
            return None
        if expand:
            entry["lastCommit"] = last_commit(self._manifest)
        return entry

    def entries(self, paths: Iterable[str], *, expand: bool) -> list[Json]:
        """Of those paths that exist."""
        found = (self.entry(path, expand=expand) for path in paths)
        return [entry for entry in found if entry is not None]

    def _tree_id(self, folder: str) -> str:
        if folder not in self._tree_ids:
            files, folders = {}, {}
            for path in self._children[folder]:
                name = path.rpartition("/")[2]
                if path in self._files:
                    files[name] = blob_id(self._manifest, self._files[path])
                else:
                    folders[name] = self._tree_id(path)
            self._tree_ids[folder] = tree_id(files, folders)
        return self._tree_ids[folder]


@dataclass(frozen=True)
class Page:
    """Part of a listing, and where the next part begins."""

    paths: list[str]
    next_cursor: int | None


def page_of(paths: list[str], cursor: str | None, limit: str | None) -> Page:
    """The part that a request asks for; nonsense is taken for the beginning and a whole page."""
    first = int(cursor) if cursor and cursor.isascii() and cursor.isdigit() and len(cursor) < 10 else 0
    asked = int(limit) if limit and limit.isascii() and limit.isdigit() and len(limit) < 10 else 0
    length = min(asked or PAGE_ENTRIES, PAGE_ENTRIES)
    following = first + length
    return Page(paths[first:following], following if following < len(paths) else None)
