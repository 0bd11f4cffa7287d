""".env.example, the compose files, the manifests and the scripts agree."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
COMPOSE_FILES = sorted(REPOSITORY.glob("docker-compose*.yml"))


def example() -> dict[str, str]:
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


SECRETS = {
    "MINIO_ROOT_PASSWORD",
    "MINIO_SVC_PASSWORD",
    "CLUSTER_TOKEN",
    "REGISTRY_ADMIN_TOKEN",
    "GATEWAY_ADMIN_TOKEN",
    "GRAFANA_ADMIN_PASSWORD",
    "WEBUI_SECRET_KEY",
}
# `pull_policy` is `never` for our own images and `missing` for others; a cluster's host has more workers.
SEVERAL_DEFAULTS = {"MSP_PULL_POLICY", "WORKERS_PER_HOST"}


def compose_variables() -> dict[str, set[str]]:
    """Variable → its defaults in the compose files. Comments of those files are no part of them."""
    lines = "\n".join(path.read_text() for path in COMPOSE_FILES).splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found: dict[str, set[str]] = {}
    for name, default in re.findall(r"\$\{([A-Z0-9_]+)(?::-([^}$]*)\})?", text):
        found.setdefault(name, set()).update({default} - {""})
    return found


def test_the_example_explains_every_variable_of_the_compose_files_and_no_other() -> None:
    # COMPOSE_PROFILES is compose's own.
    assert example().keys() - {"COMPOSE_PROFILES"} == compose_variables().keys()


def test_a_variable_has_one_default_in_all_compose_files() -> None:
    several = {name: values for name, values in compose_variables().items() if len(values) > 1}
    # Optional files: nothing is mounted where none is given.
    assert {n for n, values in several.items() if values != {"/dev/null"}} == SEVERAL_DEFAULTS


def test_values_of_the_example_are_the_defaults_of_the_compose_files() -> None:
    defaults = compose_variables()
    given = {name: value for name, value in example().items() if value and defaults.get(name)}
    assert given == {name: next(iter(defaults[name])) for name in given}


def test_the_example_is_understood_by_a_shell_too() -> None:
    """The documents read .env with `. ./.env`."""
    for name, value in example().items():
        assert not re.search(r"[\s$`\"'\\;&|<>()]", value), name


def test_every_variable_of_the_example_has_a_comment_above_it() -> None:
    previous = ""
    for line in (REPOSITORY / ".env.example").read_text().splitlines():
        if line and not line.startswith("#"):
            assert previous, f"{line} has no comment above it"
        previous = line


def test_all_members_and_images_have_one_version() -> None:
    manifests = [tomllib.loads(p.read_text()) for p in REPOSITORY.glob("*/pyproject.toml")]
    versions = {m["project"]["version"] for m in manifests}
    thin = re.search(
        r"WORKER_IMAGE=msp/model-service:(\S+)", (REPOSITORY / "model-service/Dockerfile").read_text()
    )
    assert thin is not None
    assert versions == {example()["MSP_VERSION"]} == {thin[1]}


def test_the_test_machines_stand_in_has_the_name_of_the_default_store_image() -> None:
    script = (REPOSITORY / ".ci/provision.sh").read_text()
    assert f"minio_image={example()['MINIO_IMAGE']}" in script


def test_init_env_fills_every_secret_and_keeps_an_existing_file(tmp_path: Path) -> None:
    target = tmp_path / ".env"
    command = [str(REPOSITORY / "scripts/init-env.sh"), "--file", str(target)]
    subprocess.run(command, check=True, capture_output=True)
    values = dict(
        line.split("=", 1) for line in target.read_text().splitlines() if "=" in line and line[0] != "#"
    )
    made = {name: value for name, value in values.items() if value != example()[name]}
    assert made.keys() == SECRETS
    secrets = list(made.values())
    assert all(len(s) == 48 for s in secrets)
    assert len(set(secrets)) == len(secrets)
    assert target.stat().st_mode & 0o077 == 0
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(command, check=True, capture_output=True)


def test_every_secret_that_a_compose_file_requires_is_made() -> None:
    text = "\n".join(path.read_text() for path in COMPOSE_FILES)
    required = set(re.findall(r"\$\{([A-Z0-9_]+):\?", text))
    assert {name for name in required if not example()[name]} <= SECRETS
