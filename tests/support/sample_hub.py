"""A hub that holds the trained samples, as a process of its own that containers can reach.

    python -m support.sample_hub PORT [MOVED_MODEL]

`main` of MOVED_MODEL names a later commit, in which one small file is another.
"""

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import uvicorn

from support.fake_hub import FakeHub, FakeRepo

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLES = {
    "samples/chat": "chat",
    "samples/embedding": "embedding",
    "samples/vision": "vision",
    "samples/whisper": "whisper",
}
"""Model → folder below samples/."""
_CHANGED_FILE = "README.md"


def first_commit(model: str) -> str:
    """What `main` names before a model moves."""
    return hashlib.sha1(f"{model} 1".encode()).hexdigest()


def later_commit(model: str) -> str:
    """What `main` names after a model has moved."""
    return hashlib.sha1(f"{model} 2".encode()).hexdigest()


def hub_of_samples(moved: str | None = None) -> FakeHub:
    """The hub, before or after `main` of one model moved."""
    return FakeHub(repos={model: _repo(model, folder, model == moved) for model, folder in SAMPLES.items()})


@contextmanager
def sample_hub(port: int, moved: str | None = None) -> Iterator[None]:
    """Runs the hub on all addresses of this machine until the block ends."""
    command = [sys.executable, "-m", "support.sample_hub", str(port), *([moved] if moved else [])]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")}
    process = subprocess.Popen(command, env=environment)
    try:
        _wait_until_it_answers(f"http://127.0.0.1:{port}/api/models/samples/chat/revision/main", process)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        try:
            httpx.get(url, trust_env=False).raise_for_status()
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise RuntimeError(f"the hub of samples did not answer at {url}")


def _repo(model: str, folder: str, moved: bool) -> FakeRepo:
    root = REPOSITORY / "samples" / folder
    files = {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
    first, later = first_commit(model), later_commit(model)
    changed = {**files, _CHANGED_FILE: files[_CHANGED_FILE] + b"\nA later revision.\n"}
    main = later if moved else first
    return FakeRepo(files, commit=first, refs={"main": main}, others={later: changed})


if __name__ == "__main__":
    hub = hub_of_samples(sys.argv[2] if len(sys.argv) > 2 else None)
    uvicorn.run(hub.app, host="0.0.0.0", port=int(sys.argv[1]), log_level="warning")
