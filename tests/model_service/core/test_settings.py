"""A worker is told what to be by the environment; mistakes stop it at the start, by name."""

import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.settings import SettingsError
from msp_model_service.audio.limits import AudioLimits
from msp_model_service.settings import WorkerSettings

TOLD = {"MODEL_NAME": "org/model", "MODEL_TYPE": "llm"}


def test_a_name_and_a_type_are_enough() -> None:
    settings = WorkerSettings.load(TOLD)
    assert settings.model_revision == "main"
    assert settings.registry_url == "http://registry:8090"
    assert settings.service_registry_url == "http://service-registry:8081"
    assert settings.model_cache_dir == "/cache"
    assert settings.verify_on_load == "full"
    assert settings.model_cache_limit_bytes is None
    assert settings.auto_download is False
    assert settings.max_body_bytes == 32 * 1024 * 1024
    assert settings.ports == [8000]


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        ("vision", ModelType.MULTIMODAL),
        ("whisper", ModelType.TRANSCRIPTION),
        ("LLM", ModelType.LLM),
        ("embedding", ModelType.EMBEDDING),
    ],
)
def test_types_may_be_spelled_as_people_do(spelling: str, meant: ModelType) -> None:
    assert WorkerSettings.load({**TOLD, "MODEL_TYPE": spelling}).model_type is meant


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODEL_NAME", "../etc"),
        ("MODEL_NAME", "org/name/more"),
        ("MODEL_TYPE", "chat"),
        ("MODEL_REVISION", "a b"),
        ("ENGINE", "vllm"),
        ("DEVICE", "tpu"),
        ("REGISTRY_URL", "registry:8090"),
        ("WORKER_URL", "ftp://host"),
        ("WORKER_ID", "a/b"),
        ("WORKER_PORT", "0"),
        ("EXTRA_PORT", "70000"),
        ("MODEL_CACHE_DIR", "cache"),
        ("VERIFY_ON_LOAD", "maybe"),
        ("MODEL_CACHE_LIMIT_BYTES", "-1"),
        ("AUTO_DOWNLOAD", "perhaps"),
        ("GPU_MEMORY_FRACTION", "1.5"),
        ("THREADS", "0"),
        ("MAX_QUEUED", "-1"),
        ("AUDIO_MAX_FILE_BYTES", "0"),
        ("AUDIO_MAX_DURATION_S", "0"),
        ("AUDIO_MAX_HELD_S", "-1"),
        ("AUDIO_DECODERS", "0"),
        ("AUDIO_FALL_BACK", "perhaps"),
    ],
)
def test_a_malformed_value_is_refused_by_its_variables_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: "):
        WorkerSettings.load({**TOLD, name: value})


def test_what_is_required_is_named() -> None:
    with pytest.raises(SettingsError) as caught:
        WorkerSettings.load({})
    assert str(caught.value).splitlines() == [
        "MODEL_NAME: required, but not set",
        "MODEL_TYPE: required, but not set",
    ]


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("MODEL_NAEM", "MODEL_NAME"),
        ("WORKER_PROT", "WORKER_PORT"),
        ("ENGINES", "ENGINE"),
        ("VERIFY_ON_LAOD", "VERIFY_ON_LOAD"),
        ("GPU_MEMORY_FRACTOIN", "GPU_MEMORY_FRACTION"),
        ("WORKERS_PRE_HOST", "WORKERS_PER_HOST"),
        ("EXPECTED_GPU_UID", "EXPECTED_GPU_UUID"),
        ("AUTO_DOWNLAOD", "AUTO_DOWNLOAD"),
        ("MODEL_CACHE_LIMIT", "MODEL_CACHE_LIMIT_BYTES"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_near_one(typo: str, meant: str) -> None:
    with pytest.raises(SettingsError, match=f"{typo}: no such setting; did you mean {meant}"):
        WorkerSettings.load({**TOLD, typo: "1"})


def test_names_that_images_and_orchestrators_set_are_left_alone() -> None:
    foreign = {
        "CUDA_VERSION": "12.8",
        "NVIDIA_VISIBLE_DEVICES": "0",
        "GPU_DEVICE_ORDINAL": "0",
        "PYTHON_VERSION": "3.11",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "TORCH_CUDA_ARCH_LIST": "9.0",
        "HOSTNAME": "x",
        "DEVICE_ID": "3",
    }
    WorkerSettings.load({**TOLD, **foreign})


def test_aliases_are_split_at_commas() -> None:
    settings = WorkerSettings.load({**TOLD, "MODEL_ALIASES": "gpt-4o-mini, default,,default"})
    assert settings.model_aliases == ("gpt-4o-mini", "default")


def test_the_published_port_is_listened_on_too_but_only_once() -> None:
    assert WorkerSettings.load({**TOLD, "EXTRA_PORT": "8003"}).ports == [8000, 8003]
    assert WorkerSettings.load({**TOLD, "EXTRA_PORT": "8000"}).ports == [8000]


def test_the_default_identity_is_the_same_after_a_restart_and_differs_between_neighbours() -> None:
    settings = WorkerSettings.load(TOLD)
    neighbour = WorkerSettings.load({**TOLD, "WORKER_PORT": "8001"})
    identity = settings.identity("box")
    assert identity == WorkerSettings.load(TOLD).identity("box")
    assert identity.url == "http://box:8000"
    assert identity.worker_id.startswith("box-8000-")
    assert (
        len({identity.worker_id, neighbour.identity("box").worker_id, settings.identity("b").worker_id}) == 3
    )


def test_an_identity_that_is_told_wins() -> None:
    told = {**TOLD, "WORKER_ID": "llm-1", "WORKER_URL": "http://10.0.0.7:8001/", "MACHINE_NAME": "rack-7"}
    identity = WorkerSettings.load(told).identity("box")
    assert (identity.worker_id, identity.url, identity.host) == ("llm-1", "http://10.0.0.7:8001", "rack-7")


def test_what_recordings_may_cost_is_told_by_the_environment() -> None:
    told = {
        "AUDIO_MAX_FILE_BYTES": "2000",
        "AUDIO_MAX_DURATION_S": "30",
        "AUDIO_MAX_HELD_S": "60.5",
        "AUDIO_DECODERS": "3",
    }
    assert WorkerSettings.load(TOLD | told).audio_limits == AudioLimits(2000, 30, 60.5, 3)
    assert WorkerSettings.load(TOLD).audio_limits == AudioLimits()


def test_secrets_are_never_shown() -> None:
    assert "opensesame" not in repr(WorkerSettings.load({**TOLD, "CLUSTER_TOKEN": "opensesame"}))
