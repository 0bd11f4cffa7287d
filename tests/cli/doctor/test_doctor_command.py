"""`msp doctor` and `msp support-bundle`, run."""

import json
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from msp_cli.doctor.site import COMMANDS, Unknown
from msp_cli.main import app
from support.cli_doctor import ENV, FakeSite
from support.cli_registry import Served

CERTAIN = ("gateway", "registry", "minio", "llm")


@pytest.fixture
def installation(tmp_path: Path, served: Served) -> Path:
    """A folder with a .env, and what was recorded of a healthy host."""
    site = FakeSite()
    (tmp_path / ".env").write_text(ENV)
    (tmp_path / ".env").chmod(0o600)
    facts = tmp_path / "facts"
    facts.mkdir()
    for name in COMMANDS:
        ran = site.run(name)
        code, out = (127, "") if isinstance(ran, Unknown) else (ran.code, ran.out)
        record(facts, name, out, code)
    answers = {
        "/health": {"status": "ok", "authentication": "on", "parts": {"store": {"status": "ok"}}},
        "/services": {"services": site.services},
        "/gpu-stats": site.gpu_stats,
        "/models": {"models": site.models},
        "/jobs": {"jobs": []},
        "/metrics": "none",
    }
    for path, answer in answers.items():
        served.fake.answers["GET", path] = (200, answer)
    return tmp_path


def record(folder: Path, name: str, out: str, code: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for end, text in (("out", out), ("err", ""), ("code", str(code))):
        (folder / f"{name}.{end}").write_text(text)


def msp(installation: Path, served: Served, command: str, *arguments: str) -> Result:
    given = ["--root", str(installation), "--recorded", str(installation / "facts"), *arguments]
    environment = {"REGISTRY_URL": served.url, "GATEWAY_URL": served.url, "COLUMNS": "200"}
    return CliRunner().invoke(app, [command, *given], env=environment)


def test_a_healthy_installation_ends_with_0(installation: Path, served: Served) -> None:
    done = msp(installation, served, "doctor")
    assert "0 problem(s), 0 warning(s)" in done.stdout
    assert done.exit_code == 0, done.output


def test_a_problem_ends_with_6_and_stands_at_the_end_with_its_remedy(
    installation: Path, served: Served
) -> None:
    (installation / ".env").write_text(ENV + "REGISTRY_MODE=airgap\n")
    done = msp(installation, served, "doctor")
    *_, what, remedy, _ = done.stdout.splitlines()
    assert done.exit_code == 6
    assert what.startswith("problem  bad-env: .env: REGISTRY_MODE is 'airgap'")
    assert remedy.startswith("         → ")


def test_programs_get_the_same_as_json(installation: Path, served: Served) -> None:
    answer = json.loads(msp(installation, served, "doctor", "--json").stdout)
    assert answer["exit_code"] == 0
    assert {"code", "level", "what", "remedy"} == answer["findings"][0].keys()


def test_what_was_not_checked_counts_when_asked(installation: Path, served: Served) -> None:
    (installation / "facts" / "listening.code").unlink()
    done = msp(installation, served, "doctor")
    assert "port-in-use: not checked: ss was not run on the host" in done.stdout
    assert done.exit_code == 0
    assert msp(installation, served, "doctor", "--strict").exit_code == 6


def test_isolation_ends_with_0_only_when_proved_everywhere(installation: Path, served: Served) -> None:
    (installation / ".env").write_text(ENV + "REGISTRY_MODE=offline\n")
    _offline_registry(installation)
    shut, through = (
        json.dumps([{"target": "DNS x", "through": got_out, "detail": "-"}]) for got_out in (False, True)
    )
    for place in ("host", *CERTAIN):
        record(installation / "facts" / "airgap", place, shut)
    assert msp(installation, served, "doctor", "--airgap").exit_code == 0
    record(installation / "facts" / "airgap", "llm", "", 125)
    unproved = msp(installation, served, "doctor", "--airgap")
    assert "the network of llm: the probe ended with 125" in unproved.stdout
    assert unproved.exit_code == 6
    record(installation / "facts" / "airgap", "llm", through)
    assert (
        "from the network of llm 1 of 1 got out: DNS x"
        in msp(installation, served, "doctor", "--airgap").stdout
    )


def _offline_registry(installation: Path) -> None:
    path = installation / "facts" / "containers.out"
    containers = json.loads(path.read_text())
    containers[1]["Config"]["Env"] = ["REGISTRY_MODE=offline"]
    path.write_text(json.dumps(containers))


def test_the_bundle_is_written_once_and_for_its_owner_alone(installation: Path, served: Served) -> None:
    target = installation / "out.tar.gz"
    done = msp(installation, served, "support-bundle", str(target))
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(target)
    assert target.stat().st_mode & 0o777 == 0o600
    with tarfile.open(target) as archive:
        assert "msp-support/findings.txt" in archive.getnames()
    again = msp(installation, served, "support-bundle", str(target))
    assert again.exit_code == 2
    assert "is there already" in again.stderr


def test_nothing_at_all_is_said_not_to_be_checked(tmp_path: Path, served: Served) -> None:
    served.fake.silent = 10_000
    done = msp(tmp_path, served, "doctor")
    assert "problem  bad-env: there is no .env" in done.stdout
    assert done.stdout.count("not checked:") >= 10
