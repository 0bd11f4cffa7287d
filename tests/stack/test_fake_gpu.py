"""The shipped cluster file, unedited, on an engine that takes reservations of GPUs: who is given which."""

import os
import shutil
from collections.abc import Iterator

import pytest

from support.compose_checkout import Checkout, CommandFailed
from support.fake_gpu_engine import HOOK, fake_gpu_engine, make_images, visible_devices

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="a second engine needs root"),
]

OURS = ("gateway", "registry", "service-registry", "model-service")
PINNED = {"llm-primary": "0", "llm-secondary": "1", "multimodal": "2", "embedding": "3", "transcription": "4"}
RUNNING = "docker ps --format '{{.Label \"com.docker.compose.service\"}} {{.ID}}'"


@pytest.fixture(scope="module")
def user(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """A user on a host with GPUs, as far as its Docker can tell."""
    place = tmp_path_factory.mktemp("gpus")
    with fake_gpu_engine() as address:
        user = Checkout(place / "model-service", docker_host=address)
        user.types("env")
        for name in ("MINIO_ROOT_PASSWORD", "MINIO_SVC_PASSWORD", "CLUSTER_TOKEN"):
            user.sets(**{name: "secret-of-mine"})
        user.sets(REGISTRY_ADMIN_TOKEN="secret-of-mine", GATEWAY_ADMIN_TOKEN="secret-of-mine")
        user.sets(COMPOSE_PROFILES="transcription")
        store = user.shell("docker compose config --images | grep -v '^msp/' | sort -u").strip()
        make_images(address, store, *(f"msp/{name}:0.1.0" for name in OURS))
        yield user


def running(user: Checkout) -> dict[str, str]:
    """Service → container."""
    return dict(line.split() for line in user.shell(RUNNING).splitlines())


def given(user: Checkout) -> dict[str, str | None]:
    """Service → the GPUs that its container was given."""
    assert user.docker_host
    devices = {name: visible_devices(user.docker_host, id_) for name, id_ in running(user).items()}
    return {name: gpus for name, gpus in devices.items() if gpus is not None}


def test_each_worker_is_given_its_gpu_and_nobody_else_any(user: Checkout) -> None:
    user.types("cluster up")
    assert given(user) == PINNED


def test_the_overlay_is_the_same_containers(user: Checkout) -> None:
    user.types("cluster up")
    before = running(user)
    user.types("overlay up")
    assert running(user) == before


def test_a_gpu_is_chosen_in_the_settings_or_in_the_file(user: Checkout) -> None:
    user.types("cluster up")
    before = running(user)
    user.sets(LLM_PRIMARY_GPU="GPU-5a3b1c2d")
    # As the user's documents change it.
    user.edits(
        "docker-compose.gpu-cluster.yml", r'device_ids: \["\$\{EMBEDDING_GPU:-3\}"\]', "device_ids: ['7']"
    )
    user.types("cluster up")
    assert given(user) == {**PINNED, "llm-primary": "GPU-5a3b1c2d", "embedding": "7"}
    after = running(user)
    assert {name for name in after if after[name] != before[name]} == {"llm-primary", "embedding"}


@pytest.mark.skipif(shutil.which(HOOK) is not None, reason="this host has NVIDIA's hook")
def test_without_gpus_the_engine_says_what_is_missing(user: Checkout) -> None:
    """Or else the tests above would prove nothing."""
    ordinary = Checkout(user.folder)
    image = "msp-no-gpu-test:1"
    make_images(ordinary.docker_host, image)
    try:
        with pytest.raises(CommandFailed, match="could not select device driver"):
            ordinary.shell(f"docker run --rm --gpus device=0 {image} true")
    finally:
        ordinary.shell(f"docker rmi -f {image}")
