"""Our worker over HTTP beside faster-whisper over HTTP: the same weights, the same core, one client.

faster-whisper comes from an environment of its own, made once:

    uv venv .venv-bench/faster-whisper
    uv pip install --python .venv-bench/faster-whisper/bin/python faster-whisper 'transformers<6' \
        fastapi uvicorn python-multipart

Its converter reads our torch. The weights are random and as large as whisper-base; see `whisper_model`.
Every recording has 30 s of sound and is written down in 100 tokens, greedily: what 30 s of speech have.
"""

import asyncio
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import wave
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import httpx
import numpy as np

from local_registry import mirror_s, registry, source
from processes import free_port, program
from report import Busyness, Report, arguments, publish

TOKENS = 100
WINDOW_S = 30
RATE = 16_000
PEER = Path(".venv-bench/faster-whisper/bin")
SERVER_CPU, CLIENT_CPU = "1", "0"


def recording(seed: int) -> bytes:
    """A wav of noise: random weights hear nothing else in speech."""
    noise = np.random.default_rng(seed).standard_normal(WINDOW_S * RATE)
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(RATE)
        sound.writeframes((3000 * noise).clip(-32767, 32767).astype("<i2").tobytes())
    return file.getvalue()


def make_models(folder: Path) -> None:
    """`transformers` and `ct2`, in processes of their own: torch is not needed in this one."""
    code = (
        "import sys, pathlib, whisper_model as m; m.make(pathlib.Path(sys.argv[1]), tokens=int(sys.argv[2]))"
    )
    weights = folder / "models" / "whisper"
    weights.parent.mkdir()
    command = [sys.executable, "-c", code, str(weights), str(TOKENS)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    torch_of_ours = next(path for path in sys.path if path.endswith("site-packages"))
    command = [str(PEER / "ct2-transformers-converter"), "--model", str(weights)]
    command += ["--output_dir", str(folder / "ct2")]
    command += ["--copy_files", "tokenizer.json", "preprocessor_config.json"]
    environment = os.environ | {"PYTHONPATH": torch_of_ours}
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until_ready(url: str) -> None:
    """Wait for a 200."""
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{url} did not become ready")


@contextmanager
def ours(folder: Path) -> Iterator[str]:
    """Our worker, with its model from our registry, which mirrored it from a local hub."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    store = {"REGISTRY_STORE": f"file://{folder}/store"}
    with source(folder / "models", 0) as hub, registry(hub, store) as (models, _):
        mirror_s(models, "bench/whisper")
        settings = {
            "MODEL_NAME": "bench/whisper",
            "MODEL_TYPE": "transcription",
            "MODEL_CACHE_DIR": f"{folder}/cache",
            "DEVICE": "cpu",
            "THREADS": "1",
            # Random weights are never to be believed.
            "AUDIO_FALL_BACK": "false",
            "REGISTRY_URL": models,
            # Nobody is there: a worker without a lease serves those who know its address.
            "SERVICE_REGISTRY_URL": f"http://127.0.0.1:{free_port()}",
            "WORKER_HOST": "127.0.0.1",
            "WORKER_PORT": str(port),
            "LOG_LEVEL": "warning",
        }
        command = ["taskset", "-c", SERVER_CPU, sys.executable, "-m", "msp_model_service"]
        with program(command, settings, f"{url}/livez"):
            until_ready(f"{url}/health")
            yield url


@contextmanager
def faster_whisper(folder: Path, precision: str) -> Iterator[str]:
    """faster-whisper behind a plain server, as its users put it there."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = ["taskset", "-c", SERVER_CPU, str(PEER / "python"), "benchmarks/faster_whisper_server.py"]
    command += [str(folder / "ct2"), str(port), precision]
    with program(command, {"OMP_NUM_THREADS": "1"}, f"{url}/docs"):
        until_ready(f"{url}/docs")
        yield url


async def sound_per_s(url: str, at_once: int, rounds: int) -> float:
    """Seconds of sound written down in a second, by `at_once` clients that each send `rounds` recordings."""
    recordings = [recording(seed) for seed in range(at_once)]

    async def one_client(http: httpx.AsyncClient, sound: bytes) -> None:
        for _ in range(rounds):
            answer = await http.post(
                "/v1/audio/transcriptions",
                data={"language": "en", "response_format": "json"},
                files={"file": ("a.wav", sound)},
            )
            words = len(json.loads(answer.raise_for_status().text)["text"].split())
            if words != TOKENS:
                raise SystemExit(f"{url} wrote {words} words, not {TOKENS}")

    async with httpx.AsyncClient(base_url=url, timeout=600) as http:
        begun = time.monotonic()
        await asyncio.gather(*(one_client(http, sound) for sound in recordings))
        return at_once * rounds * WINDOW_S / (time.monotonic() - begun)


def run(report: Report, folder: Path, *, quick: bool) -> None:
    """Both engines in turn, several times, so that a busy minute falls on both."""
    make_models(folder)
    sides: dict[str, Callable[[], AbstractContextManager[str]]] = {
        "ours": partial(ours, folder),
        "faster_whisper": partial(faster_whisper, folder, "float32"),
        "faster_whisper_int8": partial(faster_whisper, folder, "int8"),
    }
    found: dict[tuple[str, int], list[float]] = {}
    for _ in range(1 if quick else 3):
        for name, side in sides.items():
            with side() as url:
                asyncio.run(sound_per_s(url, 1, 1))
                for at_once in (1, 8):
                    speed = asyncio.run(sound_per_s(url, at_once, 1 if quick or at_once > 1 else 3))
                    found.setdefault((name, at_once), []).append(speed)
    medians = {key: statistics.median(speeds) for key, speeds in found.items()}
    for (name, at_once), speed in medians.items():
        report.figures[f"{name}_{at_once}_sound_s_per_s"] = speed
        if name != "ours":
            report.ratios[f"over_{name}_{at_once}"] = medians["ours", at_once] / speed


def main() -> None:
    """Run it."""
    options = arguments(__doc__ or "")
    if not (PEER / "python").exists():
        raise SystemExit(f"bench: there is no {PEER}; make it so:\n{__doc__}")
    os.sched_setaffinity(0, {int(CLIENT_CPU)})  # and all children that are not told otherwise
    report = Report("transcription")
    code = "import faster_whisper as f, ctranslate2 as c; print(f.__version__, c.__version__)"
    command = [str(PEER / "python"), "-c", code]
    versions = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    report.peers = {"faster-whisper": versions[0], "ctranslate2": versions[1]}
    busyness = Busyness()
    with tempfile.TemporaryDirectory(prefix="bench-transcription-") as folder:
        run(report, Path(folder), quick=options.quick)
    report.foreign_cores = busyness.foreign_cores()
    publish(report, options.json)


if __name__ == "__main__":
    main()
