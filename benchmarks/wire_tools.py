"""The upstream and the load generator in C: built on first use, run on one core."""

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from processes import free_port, pinned, program

SOURCES = Path(__file__).parent / "wire"
BUILT = Path(".run/bench-wire")
LOAD_CORE = (os.cpu_count() or 1) - 1
"""Load and upstream share the last core; what is measured has the first for itself."""


@dataclass(frozen=True)
class Load:
    """What the load generator saw. Times in microseconds."""

    done: int
    errors: int
    per_s: float
    p50_us: float
    p99_us: float
    events: int
    event_p50_us: float


def build(name: str) -> Path:
    """The compiled program; made anew when its source changed. Needs a C compiler."""
    binary, newest = BUILT / name, max(f.stat().st_mtime for f in SOURCES.iterdir())
    if not binary.exists() or binary.stat().st_mtime < newest:
        BUILT.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        try:
            subprocess.run([compiler, "-O2", "-o", binary, SOURCES / f"{name}.c"], check=True)
        except FileNotFoundError:
            raise SystemExit(
                f"no C compiler '{compiler}' (Debian: apt-get install gcc libc6-dev; or set CC)"
            ) from None
    return binary


@dataclass(frozen=True)
class Upstream:
    """A running upstream."""

    port: int

    def stats(self) -> dict[str, int]:
        """What it has seen so far; `working` is the number of answers that are not sent whole."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=5) as answer:
            told: dict[str, int] = json.load(answer)
            return told

    def wait_for(self, working: int, limit_s: float = 15) -> int:
        """Until so many answers are under way; the number at the end of the wait."""
        deadline = time.monotonic() + limit_s
        while (now := self.stats()["working"]) != working and time.monotonic() < deadline:
            time.sleep(0.02)
        return now


@contextmanager
def upstream() -> Iterator[Upstream]:
    """Runs while the block lasts."""
    port = free_port()
    command = pinned([str(build("upstream")), str(port)], LOAD_CORE)
    with program(command, {}, f"http://127.0.0.1:{port}/"):
        yield Upstream(port)


def question(*, stream: bool = False, events: int = 100, pause_ms: int = 0, padding: int = 0) -> bytes:
    """A chat request; `pause_ms` between events, or before an answer that is not streamed."""
    text: Any = "Write a haiku about gateways, and explain in two sentences why it is one. " * 3
    if padding:
        image = "data:image/png;base64," + "iVBORw0KGgoAAAAN" * (padding // 16)
        text = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": image}}]
    asked = {"model": "bench/model", "stream": stream, "max_tokens": events, "seed": pause_ms}
    return json.dumps({**asked, "messages": [{"role": "user", "content": text}]}).encode()


def load(
    port: int, body: bytes, *, connections: int, seconds: float, rate: float = 0, key: str = "sk-bench"
) -> Load:
    """Ask `port`. `rate` as load.c says: 0 closed loop, > 0 requests/s, -1 one request per connection."""
    file = BUILT / f"body-{os.getpid()}"
    command = [str(build("load")), str(port), "/v1/chat/completions", str(file)]
    file.write_bytes(body)
    try:
        ran = subprocess.run(
            pinned([*command, str(connections), str(seconds), str(rate)], LOAD_CORE),
            env={**os.environ, "LOAD_KEY": key},
            capture_output=True,
            text=True,
            timeout=seconds + 30,
            check=True,
        )
    finally:
        file.unlink()
    told = json.loads(ran.stdout)
    told["errors"] += told["unfinished"]
    return Load(**{name: told[name] for name in Load.__dataclass_fields__})
