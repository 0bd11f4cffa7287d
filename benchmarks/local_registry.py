"""A registry and the hub that it mirrors from, both on this machine."""

import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from processes import free_port, program


@contextmanager
def source(models: Path, bytes_per_s: int) -> Iterator[str]:
    """The address of a hub over a line of that rate; 0 for no limit."""
    port = free_port()
    command = [sys.executable, "benchmarks/hub_source.py", str(models), str(port), str(bytes_per_s)]
    with program(command, {}, f"http://127.0.0.1:{port}/"):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def registry(hub: str, store: dict[str, str]) -> Iterator[tuple[str, Callable[[], float]]]:
    """Its address, and what tells its peak memory in MiB."""
    port = free_port()
    settings = {"REGISTRY_PORT": str(port), "REGISTRY_HOST": "127.0.0.1", "HF_ENDPOINT": hub, **store}
    url = f"http://127.0.0.1:{port}"
    with program([sys.executable, "-m", "msp_registry"], settings, f"{url}/health") as process:

        def peak_mib() -> float:
            status = Path(f"/proc/{process.pid}/status").read_text()
            return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024

        yield url, peak_mib


def ask(url: str, method: str = "GET") -> Any:
    """JSON of an answer; while the service is not ready yet, asked again."""
    for _ in range(100):
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            time.sleep(0.1)
    raise SystemExit(f"{url} stayed unavailable")


def mirror_s(url: str, model: str) -> float:
    """How long it takes from the request until the snapshot is published."""
    begun = time.monotonic()
    job = ask(f"{url}/models/{model}/download", "POST")
    with urllib.request.urlopen(f"{url}/jobs/{job['id']}/events") as events:
        events.read()
    ended = ask(f"{url}/jobs/{job['id']}")
    if ended["state"] != "SUCCEEDED":
        raise SystemExit(f"the mirror failed: {ended['error']}")
    return time.monotonic() - begun
