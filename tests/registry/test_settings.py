"""Settings are refused at start, by name, before anything can go half right."""

from pathlib import Path

import pytest

from msp_common.settings import SettingsError
from msp_registry.settings import InitStoreSettings, RegistrySettings

FOLDER = {"REGISTRY_STORE": "file:///var/lib/models"}
S3 = {"MINIO_SVC_USER": "registry", "MINIO_SVC_PASSWORD": "secret-secret"}


def test_a_folder_store_needs_nothing_else() -> None:
    loaded = RegistrySettings.load(FOLDER)
    assert (loaded.folder, loaded.port, loaded.mode) == (Path("/var/lib/models"), 8090, "online")
    assert loaded.import_roots == []


def test_s3_is_the_default_and_needs_its_account() -> None:
    loaded = RegistrySettings.load(S3)
    assert (loaded.folder, loaded.s3_endpoint.url) == (None, "http://minio:9000")
    with pytest.raises(SettingsError, match="needs MINIO_SVC_USER and MINIO_SVC_PASSWORD"):
        RegistrySettings.load({"MINIO_SVC_USER": "registry"})


def test_import_roots_are_a_list_of_absolute_folders() -> None:
    loaded = RegistrySettings.load({**FOLDER, "REGISTRY_IMPORT_ROOTS": "/a:/b c"})
    assert loaded.import_roots == [Path("/a"), Path("/b c")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGISTRY_STORE", "/var/lib/models"),
        ("REGISTRY_STORE", "file://host/share"),
        ("REGISTRY_MODE", "airgap"),
        ("REGISTRY_PORT", "80900"),
        ("REGISTRY_QUOTA_BYTES", "-1"),
        ("REGISTRY_IMPORT_ROOTS", "models"),
        ("REGISTRY_PRESIGN", "yes"),
        ("REGISTRY_STOER", "s3"),
        ("MINIO_ENDPOINT", "minio:port"),
        ("MINIO_BUCKET", "A bucket"),
        ("HF_ENDPOINT", "huggingface.co"),
        ("HF_ENDPOINT", "https://name:password@huggingface.co"),
        ("SERVICE_REGISTRY_URL", "service-registry:8081"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        RegistrySettings.load({**FOLDER, **S3, name: value})


def test_secrets_are_not_shown() -> None:
    loaded = RegistrySettings.load(
        {**FOLDER, **S3, "HF_TOKEN": "hf_hidden", "REGISTRY_ADMIN_TOKEN": "admin_hidden"}
    )
    assert "hidden" not in repr(loaded)
    assert "secret-secret" not in repr(loaded)
    with pytest.raises(SettingsError) as short:
        InitStoreSettings.load(
            {"MINIO_ROOT_USER": "r", "MINIO_ROOT_PASSWORD": "p", **S3, "MINIO_SVC_PASSWORD": "shorty"}
        )
    assert "MINIO_SVC_PASSWORD" in str(short.value)
    assert "shorty" not in str(short.value)


def test_the_service_account_is_never_the_root_account() -> None:
    with pytest.raises(SettingsError, match="must differ"):
        InitStoreSettings.load(
            {
                "MINIO_ROOT_USER": "registry",
                "MINIO_ROOT_PASSWORD": "root-secret",
                "MINIO_SVC_USER": "registry",
                "MINIO_SVC_PASSWORD": "secret-secret",
            }
        )
