"""What doctor finds of settings and of the running platform."""

import pytest

from msp_cli.doctor.findings import Code, Level
from msp_cli.doctor.site import PathFacts, Ran, Unknown
from support.cli_doctor import ENV, FakeSite, container, failed_job, model, service

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"


@pytest.fixture
def site() -> FakeSite:
    return FakeSite()


def test_without_env_the_script_that_makes_one_is_named(site: FakeSite) -> None:
    del site.files[".env"]
    found = site.found(Code.BAD_ENV)
    assert (found.level, "init-env.sh" in (found.remedy or "")) == (Level.PROBLEM, True)


@pytest.mark.parametrize(
    ("text", "level", "said"),
    [
        (ENV.replace("MINIO_SVC_PASSWORD=s3cret-svc-password\n", ""), Level.PROBLEM, "MINIO_SVC_PASSWORD"),
        (ENV.replace("\n", "\r\n"), Level.PROBLEM, "Windows line ends"),
        (ENV + "GPU_MEMORY_FRACTION=90%\n", Level.PROBLEM, "GPU_MEMORY_FRACTION is '90%', expected a share"),
        (ENV + "KV_MEMORY_FRACTION=1\n", Level.PROBLEM, "KV_MEMORY_FRACTION is '1', expected a share of at"),
        (ENV + "MAX_RUNNING=all\n", Level.PROBLEM, "MAX_RUNNING is 'all', expected a whole number"),
        (ENV + "QUANTIZATION=4bit\n", Level.PROBLEM, "expected none, bnb-8bit or bnb-4bit"),
        (ENV + "REGISTRATION_NEEDS_TOKEN=no\n", Level.PROBLEM, "is 'no', expected yes, or nothing"),
        (ENV + "REGISTRY_MODE=airgap\n", Level.PROBLEM, "expected online or offline"),
        (ENV + "HF_TOKEN = hf_x\n", Level.PROBLEM, "line 7 is no NAME=value"),
        (ENV + "WORKER_RUNTIME=nvidia\n", Level.WARNING, "WORKER_RUNTIME twice, in lines 6 and 7"),
        (ENV + "WORKER_RUNTIM=nvidia\n", Level.WARNING, "WORKER_RUNTIM, which nothing reads"),
        (ENV + "MY_OWN_THING=1\nCOMPOSE_PROFILES=all\nLLM_3_MODEL=a/b\n", Level.OK, "understood"),
    ],
)
def test_mistakes_in_env_are_told_by_name(site: FakeSite, text: str, level: Level, said: str) -> None:
    site.files[".env"] = text
    found = site.found(Code.BAD_ENV)
    assert found.level is level
    assert said in found.what


def test_no_secret_of_a_mistaken_line_is_shown(site: FakeSite) -> None:
    site.files[".env"] = ENV + "HF_TOKEN : hf_verysecretvalue\n"
    assert "hf_verysecretvalue" not in str(site.findings())


def test_what_compose_refuses_is_passed_on(site: FakeSite) -> None:
    said = "required variable MINIO_SVC_USER is missing a value"
    site.commands["compose-config"] = Ran(1, "", said)
    found = site.found(Code.BAD_ENV)
    assert (found.level, said in found.what) == (Level.PROBLEM, True)


def test_a_gateway_that_is_down_is_told_from_one_that_was_not_started(site: FakeSite) -> None:
    site.answers["http://gw:8080/health"] = Unknown("connection refused")
    assert site.found(Code.GATEWAY_UNREACHABLE).level is Level.PROBLEM
    site.stop_platform()
    assert site.found(Code.GATEWAY_UNREACHABLE).level is Level.UNKNOWN


def test_a_degraded_gateway_is_a_warning_with_its_reason(site: FakeSite) -> None:
    site.gateway |= {"status": "degraded", "reason": "no worker is ready yet"}
    found = site.found(Code.GATEWAY_UNREACHABLE)
    assert (found.level, "no worker is ready yet" in found.what) == (Level.WARNING, True)


def test_a_store_that_the_registry_cannot_use_is_a_problem(site: FakeSite) -> None:
    site.registry = {"status": "down", "parts": {"store": {"status": "down", "reason": "no route to minio"}}}
    found = site.found(Code.STORE_UNREACHABLE)
    assert (found.level, "no route to minio" in found.what) == (Level.PROBLEM, True)
    assert "compose ps minio" in (found.remedy or "")


def test_new_secrets_for_an_old_store_have_a_remedy_of_their_own(site: FakeSite) -> None:
    reason = "S3 said InvalidAccessKeyId"
    site.registry = {"status": "down", "parts": {"store": {"status": "down", "reason": reason}}}
    assert "keeps the secrets of its first start" in (site.found(Code.STORE_UNREACHABLE).remedy or "")


def test_a_store_whose_container_has_ended_is_named(site: FakeSite) -> None:
    site.answers["http://reg:8090/health"] = Unknown("connection refused")
    site.containers = [container("gateway"), container("minio", status="exited", exit_code=1)]
    found = site.found(Code.STORE_UNREACHABLE)
    assert (found.level, "minio (exited)" in found.what) == (Level.PROBLEM, True)


@pytest.mark.parametrize(
    ("sick", "said"),
    [
        (container("llm", status="restarting", restarts=7, exit_code=2), "again and again (7 restarts"),
        (container("llm", restarts=5), "again and again"),
        (container("llm", status="exited", exit_code=3), "ended with exit code 3"),
        (container("llm", status="exited", exit_code=137, oom=True), "want of memory"),
        (container("llm", status="created"), "never started"),
    ],
)
def test_containers_that_do_not_stay_up_are_named(site: FakeSite, sick: dict[str, object], said: str) -> None:
    site.containers = [container("gateway"), sick]
    found = site.found(Code.SERVICE_NOT_STARTING)
    assert (found.level, said in found.what) == (Level.PROBLEM, True)


def test_a_job_that_ended_well_is_well(site: FakeSite) -> None:
    site.containers.append(container("init-store", status="exited"))
    assert site.found(Code.SERVICE_NOT_STARTING).level is Level.OK


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("failed", Level.PROBLEM),
        ("unhealthy", Level.PROBLEM),
        ("suspect", Level.WARNING),
        ("loading", Level.OK),
    ],
)
def test_workers_are_judged_by_the_service_registrys_verdict(
    site: FakeSite, status: str, level: Level
) -> None:
    site.services.append(service("llm-2", status=status, reason="its engine broke"))
    assert site.found(Code.SERVICE_NOT_STARTING).level is level


@pytest.mark.parametrize(
    ("settings", "level", "remedy"),
    [
        ({}, Level.WARNING, "msp models pull acme/chat"),
        ({"AUTO_DOWNLOAD": "false"}, Level.PROBLEM, "msp models pull acme/chat"),
        ({"REGISTRY_MODE": "offline"}, Level.PROBLEM, "msp models import acme/chat"),
    ],
)
def test_a_model_that_the_registry_lacks_is_named(
    site: FakeSite, settings: dict[str, str], level: Level, remedy: str
) -> None:
    site.env(**settings)
    site.models = [model("acme/sentences")]
    found = site.found(Code.MODEL_MISSING)
    assert (found.level, "acme/chat (for llm)" in found.what) == (level, True)
    assert remedy in (found.remedy or "")


def test_a_damaged_model_is_named(site: FakeSite) -> None:
    site.models = [model("acme/chat", quarantined=True), model("acme/sentences")]
    assert "acme/chat has damaged files" in site.found(Code.MODEL_MISSING).what


LOST = "NVML: Unknown Error; the container has lost its GPU, as happens when systemd on the host reloads"


def test_a_container_that_lost_its_gpu_is_told_how_to_get_it_back(site: FakeSite) -> None:
    site.use_cluster()
    site.gpu_stats["without_gpu"] = [{"worker_id": "llm-1", "host": "h", "reason": LOST}]
    found = site.found(Code.GPU_LOST)
    assert found.level is Level.PROBLEM
    assert "--force-recreate" in (found.remedy or "")
    assert "CDI" in (found.remedy or "")
    assert site.found(Code.GPU_NOT_DETECTED).level is Level.OK


def test_a_card_that_fell_off_the_bus_needs_more_than_a_new_container(site: FakeSite) -> None:
    reason = "GPU is lost; it has fallen off the bus: look for Xid"
    site.gpu_stats["without_gpu"] = [{"worker_id": "llm-1", "host": "h", "reason": reason}]
    assert "Xid" in (site.found(Code.GPU_LOST).remedy or "")


def test_a_worker_without_the_gpu_that_is_meant_for_it_is_a_problem(site: FakeSite) -> None:
    site.gpu_stats["without_gpu"] = [{"worker_id": "llm-1", "host": "h", "reason": "no NVML here"}]
    assert site.found(Code.GPU_NOT_DETECTED).level is Level.OK
    site.commands["nvidia-smi"] = Ran(0, "0, GPU-aaaa, L4, 23034, 4\n", "")
    assert site.found(Code.GPU_NOT_DETECTED).level is Level.WARNING
    site.env(WORKER_RUNTIME="nvidia")
    assert site.found(Code.GPU_NOT_DETECTED).level is Level.PROBLEM


def test_a_worker_on_another_gpu_than_its_file_says_is_found(site: FakeSite) -> None:
    site.use_cluster()
    line = service("w", url="http://llm-primary:8000", gpu_uuids=["GPU-aaaa"])
    site.services.append(line)
    assert site.found(Code.WRONG_DEVICE_IDS).level is Level.OK
    line["gpu_uuids"] = ["GPU-bbbb"]
    found = site.found(Code.WRONG_DEVICE_IDS)
    assert (found.level, "pinned to GPU-aaaa and runs on GPU-bbbb" in found.what) == (Level.PROBLEM, True)


def test_an_open_port_without_a_key_is_told_of(site: FakeSite) -> None:
    site.gateway["authentication"] = "off"
    found = site.found(Code.NO_API_KEY)
    assert (found.level, "msp keys create" in (found.remedy or "")) == (Level.WARNING, True)
    site.env(GATEWAY_BIND_ADDRESS="127.0.0.1")
    assert site.found(Code.NO_API_KEY).level is Level.OK


@pytest.mark.parametrize(("address", "level"), [("127.0.0.1", Level.OK), ("0.0.0.0", Level.WARNING)])
def test_without_docker_the_open_port_is_seen_by_who_listens(
    site: FakeSite, address: str, level: Level
) -> None:
    site.gateway["authentication"] = "off"
    site.containers = []
    site.commands["listening"] = Ran(0, f"LISTEN 0 128 {address}:8080 0.0.0.0:*\n", "")
    assert site.found(Code.NO_API_KEY).level is level


def test_without_docker_no_env_is_needed(site: FakeSite) -> None:
    site.containers = []
    del site.files[".env"], site.paths[".env"]
    assert site.found(Code.BAD_ENV).level is Level.OK
    assert site.found(Code.WRONG_PERMISSIONS).level is Level.OK


def test_a_proxy_must_leave_the_stacks_own_names_alone(site: FakeSite) -> None:
    site.env(HTTPS_PROXY="http://proxy:3128")
    assert site.found(Code.PROXY_AND_CA).level is Level.OK
    site.env(NO_PROXY="localhost,minio")
    found = site.found(Code.PROXY_AND_CA)
    assert (found.level, "lacks service-registry" in found.what) == (Level.PROBLEM, True)


def test_a_proxy_that_dockers_client_hands_to_containers_is_found(site: FakeSite) -> None:
    site.containers.append(container("embedding", env={"HTTP_PROXY": "http://p:1"}))
    found = site.found(Code.PROXY_AND_CA)
    assert (found.level, "embedding has HTTP_PROXY" in found.what) == (Level.PROBLEM, True)
    site.containers[-1] = container(
        "embedding", env={"HTTP_PROXY": "http://p:1", "no_proxy": "registry,gateway"}
    )
    assert site.found(Code.PROXY_AND_CA).level is Level.OK


@pytest.mark.parametrize(
    ("text", "level", "said"),
    [
        (CERTIFICATE, Level.OK, "authority of your own"),
        ("0\x82\x03", Level.PROBLEM, "no certificate in PEM form"),
        (CERTIFICATE + "-----BEGIN PRIVATE KEY-----\n", Level.PROBLEM, "private key"),
        (Unknown("/etc/ca.pem: No such file or directory", absent=True), Level.PROBLEM, "No such file"),
    ],
)
def test_the_extra_authority_must_be_a_certificate(
    site: FakeSite, text: str | Unknown, level: Level, said: str
) -> None:
    site.env(EXTRA_CA_FILE="/etc/ca.pem")
    site.files["/etc/ca.pem"] = text
    site.paths["/etc/ca.pem"] = PathFacts(0o644, 0, False)
    found = site.found(Code.PROXY_AND_CA)
    assert (found.level, said in found.what) == (level, True)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("SSL: CERTIFICATE_VERIFY_FAILED: self-signed certificate in chain", "EXTRA_CA_FILE"),
        ("407 Proxy Authentication Required", "HTTPS_PROXY=http://USER"),
    ],
)
def test_a_download_that_failed_at_certificate_or_proxy_has_its_remedy(
    site: FakeSite, message: str, remedy: str
) -> None:
    site.jobs = [failed_job(message)]
    found = site.found(Code.PROXY_AND_CA)
    assert found.level is Level.PROBLEM
    assert remedy in (found.remedy or "")
