"""The hub as containers see it, with the trained samples under the names of the shipped files."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from support.compose_stack import REPOSITORY
from support.fake_hub import FakeHub, FakeRepo
from support.servers import run_server

SAMPLE_OF = {
    "Qwen/Qwen2.5-0.5B-Instruct": "chat",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": "chat",
    "sentence-transformers/all-MiniLM-L6-v2": "embedding",
    "llava-hf/llava-1.5-7b-hf": "vision",
    "openai/whisper-base": "whisper",
    "huggingface/my-model": "chat",
}
"""Model id of the user's documents → the small model that stands for it."""


@contextmanager
def hub_of_samples() -> Iterator[str]:
    """A hub that containers reach until the block ends: its address."""
    hub = FakeHub(repos={model: FakeRepo(_files(sample)) for model, sample in SAMPLE_OF.items()})
    with run_server(hub.app, host=_host_seen_by_containers()) as url:
        yield url


def _files(sample: str) -> dict[str, bytes]:
    folder = REPOSITORY / "samples" / sample
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _host_seen_by_containers() -> str:
    template = "{{(index .IPAM.Config 0).Gateway}}"
    done = subprocess.run(
        ["docker", "network", "inspect", "bridge", "--format", template],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()
