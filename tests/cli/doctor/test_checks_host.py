"""What doctor finds of the host: Docker, driver, toolkit, GPUs, ports, disks, permissions, clock."""

import json

import pytest

from msp_cli.doctor.findings import Code, Level
from msp_cli.doctor.site import Answer, PathFacts, Ran, Unknown
from support.cli_doctor import DATE, FakeSite, compose, container, disks, service, worker


@pytest.fixture
def site() -> FakeSite:
    return FakeSite()


def test_a_healthy_installation_has_nothing_but_good_findings(site: FakeSite) -> None:
    assert {(f.code, f.level, f.what) for f in site.findings() if f.level is not Level.OK} == set()


def test_every_code_but_the_air_gaps_is_looked_at(site: FakeSite) -> None:
    assert {finding.code for finding in site.findings()} == set(Code) - {Code.EGRESS}


def test_whoever_may_not_use_docker_is_told_how(site: FakeSite) -> None:
    refused = "permission denied while trying to connect to the Docker daemon socket"
    site.commands["docker-info"] = Ran(0, json.dumps({"ServerErrors": [refused]}), "")
    found = site.found(Code.DOCKER)
    assert (found.level, "usermod" in (found.remedy or "")) == (Level.PROBLEM, True)


def test_an_engine_that_is_down_is_told_apart_from_none(site: FakeSite) -> None:
    site.commands["docker-info"] = Ran(1, "", "Cannot connect to the Docker daemon")
    assert "systemctl start docker" in (site.found(Code.DOCKER).remedy or "")
    site.commands["docker-info"] = Unknown("docker is not installed here", absent=True)
    assert site.found(Code.DOCKER).level is Level.UNKNOWN


@pytest.mark.parametrize(
    ("version", "level"),
    [("2.23.0", Level.PROBLEM), ("2.24.0", Level.OK), ("v5.0.1", Level.OK), ("dev", Level.OK)],
)
def test_compose_must_know_reset_and_override(site: FakeSite, version: str, level: Level) -> None:
    site.commands["compose-version"] = Ran(0, version, "")
    assert site.found(Code.DOCKER).level is level


def test_without_docker_all_that_needs_it_is_said_not_to_be_checked(site: FakeSite) -> None:
    missing = Unknown("docker is not installed here", absent=True)
    for name in ("docker-info", "compose-version", "compose-config", "cluster-config", "containers"):
        site.commands[name] = missing
    site.stop_platform()
    levels: dict[Code, Level] = {code: site.found(code).level for code in Code if code is not Code.EGRESS}
    needing = (
        Code.DOCKER,
        Code.NO_CONTAINER_TOOLKIT,
        Code.PORT_IN_USE,
        Code.SERVICE_NOT_STARTING,
        Code.GPU_LOST,
    )
    assert {levels[code] for code in needing} == {Level.UNKNOWN}
    assert levels[Code.LOW_DISK] is Level.OK


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (Unknown("nvidia-smi is not installed here", absent=True), "install the NVIDIA driver"),
        (Ran(18, "", "Failed to initialize NVML: Driver/library version mismatch"), "reboot"),
        (
            Ran(9, "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", ""),
            "modprobe nvidia",
        ),
    ],
)
def test_a_card_without_a_driver_is_a_problem(site: FakeSite, said: Ran | Unknown, remedy: str) -> None:
    site.commands["pci-vendors"] = Ran(0, "0x10de\n", "")
    site.commands["nvidia-smi"] = said
    found = site.found(Code.NO_DRIVER)
    assert found.level is Level.PROBLEM
    assert remedy in (found.remedy or "")


def test_a_gpu_that_is_asked_for_must_have_a_driver(site: FakeSite) -> None:
    site.env(WORKER_DEVICE="cuda")
    assert site.found(Code.NO_DRIVER).level is Level.PROBLEM


def test_a_host_without_gpu_that_asks_for_none_is_well(site: FakeSite) -> None:
    assert site.found(Code.NO_DRIVER).level is Level.OK


def test_gpus_without_the_container_toolkit_are_a_problem(site: FakeSite) -> None:
    site.use_cluster()
    assert site.found(Code.NO_CONTAINER_TOOLKIT).level is Level.OK
    site.engine["Runtimes"] = {"runc": {}}
    found = site.found(Code.NO_CONTAINER_TOOLKIT)
    assert found.level is Level.PROBLEM
    assert "nvidia-ctk runtime configure" in (found.remedy or "")
    site.engine["DiscoveredDevices"] = [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]
    assert site.found(Code.NO_CONTAINER_TOOLKIT).level is Level.OK


def test_a_pinned_gpu_that_is_not_there_is_named_with_those_that_are(site: FakeSite) -> None:
    site.use_cluster()
    assert site.found(Code.WRONG_DEVICE_IDS).level is Level.OK
    site.cluster = compose({"llm-primary": worker("llm-primary", "acme/chat", gpu="7")})
    found = site.found(Code.WRONG_DEVICE_IDS)
    assert found.level is Level.PROBLEM
    assert "llm-primary is pinned to the GPU '7'" in found.what
    assert "0 (GPU-aaaa), 1 (GPU-bbbb)" in found.what


def test_a_worker_with_two_gpus_is_a_problem_unless_another_server_splits(site: FakeSite) -> None:
    site.use_cluster()
    site.cluster = compose({"llm-primary": worker("llm-primary", "acme/chat", gpu="0,1")})
    assert site.found(Code.WRONG_DEVICE_IDS).level is Level.PROBLEM
    site.cluster = compose({"llm-primary": worker("llm-primary", "acme/chat", gpu="0,1", ENGINE="openai")})
    assert site.found(Code.WRONG_DEVICE_IDS).level is Level.OK


def test_several_gpus_in_one_variable_are_told_apart(site: FakeSite) -> None:
    site.use_cluster()
    pinned = worker("llm-primary", "acme/chat", gpu="0", ENGINE="openai")
    (device,) = pinned["deploy"]["resources"]["reservations"]["devices"]
    device["device_ids"] = ["0, GPU-bbbb"]
    site.cluster = compose({"llm-primary": pinned})
    assert site.found(Code.WRONG_DEVICE_IDS).level is Level.OK
    device["device_ids"] = ["0,7"]
    assert "pinned to the GPU '7'" in site.found(Code.WRONG_DEVICE_IDS).what


@pytest.mark.parametrize(
    ("gpu", "expected", "level"),
    [
        ("0", "GPU-aaaa", Level.OK),
        ("GPU-bbbb", "GPU-bbbb", Level.OK),
        ("0,1", "GPU-bbbb", Level.OK),
        ("0", "GPU-bbbb", Level.PROBLEM),
        ("1", "1", Level.PROBLEM),
    ],
)
def test_a_worker_that_expects_another_gpu_than_its_own_is_found_before_it_refuses(
    site: FakeSite, gpu: str, expected: str, level: Level
) -> None:
    site.use_cluster()
    pinned = worker("llm-primary", "acme/chat", gpu=gpu, ENGINE="openai", EXPECTED_GPU_UUID=expected)
    site.cluster = compose({"llm-primary": pinned})
    found = site.found(Code.WRONG_DEVICE_IDS)
    assert found.level is level
    assert level is Level.OK or f"EXPECTED_GPU_UUID is {expected!r}" in found.what


def test_the_clusters_file_is_looked_at_when_asked_before_it_is_in_use(site: FakeSite) -> None:
    site.commands["nvidia-smi"] = Ran(0, "0, GPU-aaaa, L4, 23034, 4\n", "")
    assert site.found(Code.WRONG_DEVICE_IDS).level is Level.OK
    assert site.found(Code.WRONG_DEVICE_IDS, cluster=True).level is Level.PROBLEM


def test_two_workers_on_one_gpu_are_found_by_index_and_by_uuid(site: FakeSite) -> None:
    site.use_cluster()
    assert site.found(Code.SHARED_GPU).level is Level.OK
    two = {"a": worker("a", "acme/chat", gpu="1"), "b": worker("b", "acme/chat", gpu="GPU-bbbb")}
    site.cluster = compose(two)
    found = site.found(Code.SHARED_GPU)
    assert (found.level, "a and b" in found.what) == (Level.PROBLEM, True)
    for one in two.values():
        one["environment"]["GPU_MEMORY_FRACTION"] = "0.45"
    assert site.found(Code.SHARED_GPU).level is Level.OK


def test_workers_of_the_standard_mode_must_share_their_gpu(site: FakeSite) -> None:
    site.env(WORKER_RUNTIME="nvidia")
    names = ("llm", "embedding")
    site.standard = compose({n: worker(n, "acme/chat", runtime="nvidia") for n in names})
    found = site.found(Code.SHARED_GPU)
    assert found.level is Level.PROBLEM
    assert "GPU_MEMORY_FRACTION=0.45" in (found.remedy or "")
    site.standard = compose(
        {n: worker(n, "acme/chat", runtime="nvidia", GPU_MEMORY_FRACTION="0.4") for n in names}
    )
    assert site.found(Code.SHARED_GPU).level is Level.OK


HELD = 'LISTEN 0 128 {address}:8080 0.0.0.0:* users:(("nginx",pid=812,fd=6))\n'


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "*", "[::]"])
def test_a_port_that_another_program_holds_is_named_with_it(site: FakeSite, address: str) -> None:
    site.commands["listening"] = Ran(0, HELD.format(address=address), "")
    found = site.found(Code.PORT_IN_USE)
    assert found.level is Level.PROBLEM
    assert "port 8080 (for gateway) is held by nginx (process 812)" in found.what


def test_a_port_that_our_own_container_holds_is_well(site: FakeSite) -> None:
    site.commands["listening"] = Ran(0, HELD.format(address="0.0.0.0"), "")
    site.containers.append(container("gateway", ports=[8080]))
    assert site.found(Code.PORT_IN_USE).level is Level.OK


def test_a_port_that_another_stack_holds_is_named_by_its_container(site: FakeSite) -> None:
    site.commands["listening"] = Ran(0, "LISTEN 0 128 0.0.0.0:8080 0.0.0.0:*\n", "")
    site.containers.append(container("other-web", project="other", ports=[8080]))
    assert "container other-web" in site.found(Code.PORT_IN_USE).what


def test_the_same_port_on_another_address_is_well(site: FakeSite) -> None:
    site.commands["listening"] = Ran(0, "LISTEN 0 128 10.0.0.1:8090 0.0.0.0:*\n", "")
    assert site.found(Code.PORT_IN_USE).level is Level.OK


@pytest.mark.parametrize(("free", "level"), [(1, Level.PROBLEM), (12, Level.WARNING), (60, Level.OK)])
def test_room_is_looked_for_where_docker_keeps_its_data(site: FakeSite, free: float, level: Level) -> None:
    site.commands["disks"] = Ran(1, disks(root_gib=400, docker_gib=free), "df: /x: Permission denied")
    found = site.found(Code.LOW_DISK)
    assert found.level is level
    assert ("/var/lib/docker" in found.what) or level is Level.OK


def test_an_env_that_others_may_read_is_told_of(site: FakeSite) -> None:
    site.paths[".env"] = PathFacts(0o644, 1000, False)
    found = site.found(Code.WRONG_PERMISSIONS)
    assert (found.level, found.remedy) == (Level.WARNING, "chmod 600 .env")


@pytest.mark.parametrize(
    ("path", "level"),
    [
        (PathFacts(0o700, 1000, True), Level.PROBLEM),
        (PathFacts(0o755, 1000, True), Level.OK),
        (PathFacts(0o700, 10001, True), Level.OK),
        (Unknown("/srv/models: No such file or directory", absent=True), Level.PROBLEM),
        (Unknown("/srv/models: Permission denied"), Level.UNKNOWN),
    ],
)
def test_containers_must_be_able_to_read_what_env_names(
    site: FakeSite, path: PathFacts | Unknown, level: Level
) -> None:
    site.env(IMPORT_DIR="/srv/models")
    site.paths["/srv/models"] = path
    assert site.found(Code.WRONG_PERMISSIONS).level is level


@pytest.mark.parametrize(
    ("date", "level"),
    [
        (DATE, Level.OK),
        ("Fri, 15 Jan 2027 08:00:30 GMT", Level.WARNING),
        ("Fri, 15 Jan 2027 07:40:00 GMT", Level.PROBLEM),
    ],
)
def test_clocks_of_other_hosts_are_compared(site: FakeSite, date: str, level: Level) -> None:
    site.services.append(service("far", url="http://10.0.0.9:8000"))
    site.answers["http://10.0.0.9:8000/livez"] = Answer(200, "{}", date)
    found = site.found(Code.CLOCK_SKEW)
    assert found.level is level
    assert "far" in found.what


def test_a_clock_that_follows_nobody_is_told_of(site: FakeSite) -> None:
    site.commands["clock"] = Ran(0, "no\n", "")
    assert site.found(Code.CLOCK_SKEW).level is Level.WARNING


def test_a_clock_that_nobody_tells_of_is_unknown(site: FakeSite) -> None:
    site.commands["clock"] = Ran(1, "", "System has not been booted with systemd")
    site.stop_platform()
    assert site.found(Code.CLOCK_SKEW).level is Level.UNKNOWN
