"""Calls of huggingface_hub, made in whatever version runs this; prints what came of them as JSON.

`org/tiny` and the other models are those of `conftest.py`.
"""

import hashlib
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, HfFileSystem, __version__, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

api = HfApi()
TINY = "org/tiny"


def digests(folder: Path) -> dict[str, list[Any]]:
    """Size and sha256 of each file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): [
            path.stat().st_size,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        ]
        for path in files
        if ".cache" not in path.relative_to(folder).parts
    }


def refused(call: Callable[[], object]) -> list[str]:
    """The exception's kind as far as callers tell them apart, and its words with those of its causes."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  which one it is, is what is asked
        kinds = (RevisionNotFoundError, EntryNotFoundError, RepositoryNotFoundError)
        kind = next((k.__name__ for k in kinds if isinstance(error, k)), type(error).__name__)
        return [kind, "".join(traceback.format_exception(error))]
    return ["nothing", ""]


def downloads() -> dict[str, Any]:
    folder = Path(snapshot_download(TINY))
    once = Path(hf_hub_download(TINY, "model.safetensors"))
    return {
        "snapshot": digests(folder),
        "commit": folder.name,
        "blob": once.resolve().name,
        "small_blob": Path(hf_hub_download(TINY, "config.json")).resolve().name,
        "again": hf_hub_download(TINY, "model.safetensors") == str(once),
        "odd_path": Path(hf_hub_download(TINY, "sub/a b+ü.txt")).read_text(),
        "by_slashed_ref": Path(hf_hub_download(TINY, "config.json", revision="refs/pr/7")).read_text(),
        "without_main": Path(hf_hub_download("org/prod-only", "a.json")).read_text(),
        "one_segment": Path(hf_hub_download("bare", "a.json")).read_text(),
    }


def questions() -> dict[str, Any]:
    info = api.model_info(TINY, files_metadata=True)
    tree = list(api.list_repo_tree(TINY, recursive=True, expand=True))
    refs = api.list_repo_refs(TINY, include_pull_requests=True)
    return {
        "info": {
            "sha": info.sha,
            "tags": info.tags,
            "pipeline_tag": info.pipeline_tag,
            "library_name": info.library_name,
            "year": info.last_modified and info.last_modified.year,
            "siblings": {s.rfilename: [s.size, s.lfs and s.lfs["sha256"]] for s in info.siblings or []},
        },
        "tree": {getattr(e, "rfilename", e.path): getattr(e, "size", None) for e in tree},
        "last_commits": sorted({str(e.last_commit and e.last_commit["oid"]) for e in tree}),
        "files": api.list_repo_files(TINY),
        "many_files": len(api.list_repo_files("org/many")),
        "paths_info": [e.path for e in api.get_paths_info(TINY, ["config.json", "sub", "none"])],
        "branches": {b.name: b.target_commit for b in refs.branches},
        "pull_requests": [p.ref for p in refs.pull_requests or []],
        "commits": [c.commit_id for c in api.list_repo_commits(TINY)],
        "parameters": api.get_safetensors_metadata(TINY).parameter_count,
        "exists": [
            api.file_exists(TINY, "config.json"),
            api.file_exists(TINY, "none"),
            api.revision_exists(TINY, "main"),
            api.revision_exists(TINY, "none"),
            api.repo_exists(TINY),
            api.repo_exists("org/none"),
        ],
        "whoami": api.whoami(token="hf_" + "a" * 34)["name"],
    }


def refusals() -> dict[str, Any]:
    return {
        "info_repo": refused(lambda: api.model_info("org/none")),
        "info_revision": refused(lambda: api.model_info(TINY, revision="none")),
        "file_repo": refused(lambda: hf_hub_download("org/none", "config.json")),
        "file_revision": refused(lambda: hf_hub_download(TINY, "config.json", revision="none")),
        "file_entry": refused(lambda: hf_hub_download(TINY, "none.json")),
        "tree_entry": refused(lambda: list(api.list_repo_tree(TINY, "none"))),
        "snapshot_repo": refused(lambda: snapshot_download("org/none")),
        "quarantined": refused(lambda: hf_hub_download("org/damaged", "model.safetensors")),
        "dataset": refused(lambda: api.dataset_info("org/none")),
        "bad_token": refused(lambda: api.whoami(token="")),
    }


def file_system() -> dict[str, Any]:
    fs = HfFileSystem()
    with fs.open(f"{TINY}/model.safetensors", "rb", block_size=64) as file:
        file.seek(8)
        part = file.read(32)
    return {
        "ls": sorted(fs.ls(TINY, detail=False)),
        "ls_folder": fs.ls(f"{TINY}@main/sub", detail=False),
        "find": len(fs.find("org/many")),
        "glob": fs.glob(f"{TINY}/*.json"),
        "range": part.hex(),
        "text": fs.read_text(f"{TINY}@refs/pr/7/config.json"),
        "size": fs.info(f"{TINY}/config.json")["size"],
        "modified": fs.modified(f"{TINY}/config.json").year,
    }


def no_exist_markers() -> list[str]:
    folder = Path(snapshot_download(TINY)).parents[1]
    return [path.name for path in (folder / ".no_exist").rglob("*") if path.is_file()]


answer = {
    "version": __version__,
    "downloads": downloads(),
    "questions": questions(),
    "refusals": refusals(),
    "file_system": file_system(),
    "no_exist": no_exist_markers(),
}
sys.stdout.write(json.dumps(answer) + "\n")
