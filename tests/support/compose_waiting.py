"""What a running stack says of itself, and waiting for it: no event crosses a container's border."""

import json
import subprocess
import time
from collections.abc import Callable

import httpx
import pytest

PROJECT = "model-service-platform"
GATEWAY = "http://localhost:8080"
REGISTRY = "http://localhost:8090"


def wait_until(what: str, holds: Callable[[], object], *, timeout_s: float = 240) -> None:
    """Asks `holds` until it is true."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except httpx.TransportError as error:
            last = error
        time.sleep(0.5)
    pytest.fail(f"not within {timeout_s} s: {what} ({last})")


def verdicts() -> dict[str, str]:
    """Service name in the worker's URL → verdict."""
    services = httpx.get(f"{GATEWAY}/services").json()["services"]
    return {httpx.URL(s["url"]).host: s["status"] for s in services if s["kind"] == "worker"}


def wait_for_workers(*names: str, timeout_s: float = 240) -> None:
    """Until all of them, and no others, are ready."""
    wanted = dict.fromkeys(names, "ready")
    wait_until(f"ready: {names}", lambda: verdicts() == wanted, timeout_s=timeout_s)


def wait_for_worker(name: str) -> None:
    """Until it serves again, whatever the others do."""
    wait_until(f"{name} is ready", lambda: verdicts().get(name) == "ready")


def wait_for_job(url: str) -> None:
    """Until the registry's job is done; any other end fails."""

    def over() -> bool:
        job = httpx.get(url).json()
        if job["state"] in ("FAILED", "CANCELLED"):
            pytest.fail(f"{url}: {job}")
        return bool(job["state"] == "SUCCEEDED")

    wait_until(f"{url} is done", over)


def wait_for_model(model_id: str) -> None:
    """Until a worker serves it."""

    def served() -> bool:
        services = httpx.get(f"{GATEWAY}/services").json()["services"]
        return "ready" in {s["status"] for s in services if (s["model"] or {}).get("id") == model_id}

    wait_until(f"{model_id} is served", served)


def containers(*, project: str = PROJECT) -> dict[str, str]:
    """Service → id of its container, whether it runs or not."""
    service = '{{.Label "com.docker.compose.service"}}'
    lines = _listed("container", project, "-a", "--format", f"{service} {{{{.ID}}}}")
    return dict(line.split() for line in lines)


def volumes(*, project: str = PROJECT) -> set[str]:
    """The project's volumes."""
    return set(_listed("volume", project, "-q"))


def leftovers(*, project: str = PROJECT) -> list[str]:
    """Containers, volumes and networks that carry the project's label."""
    found = _listed("container", project, "-aq")
    return found + _listed("volume", project, "-q") + _listed("network", project, "-q")


def state_of(container: str) -> dict[str, object]:
    """What the engine says of a container's state."""
    done = subprocess.run(
        ["docker", "inspect", "--format", "{{json .State}}", container],
        check=True,
        capture_output=True,
        text=True,
    )
    state: dict[str, object] = json.loads(done.stdout)
    return state


def _listed(kind: str, project: str, *options: str) -> list[str]:
    label = f"label=com.docker.compose.project={project}"
    listing = ["docker", kind, "ls", "--filter", label, *options]
    done = subprocess.run(listing, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
