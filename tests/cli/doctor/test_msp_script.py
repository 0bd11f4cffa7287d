"""scripts/msp: what is asked of the host before the container runs, and what the container is given."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from msp_cli.doctor.site import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[3]
LIBRARIES = ("msp", "lib/before_docker.sh", "lib/host_facts.sh")
TOOLS = (
    "bash", "sh", "cat", "dirname", "env", "head", "id", "mkdir", "mktemp", "readlink", "rm", "sed",
    "tail", "timeout", "tr",
)  # fmt: skip

# In one write: some are called side by side.
NOTES_ITSELF = """#!/bin/bash
call=${0##*/}
for part in "$@"; do call+=$'\\x1f'$part; done
printf '%s\\n' "$call" >>"$CALLS"
"""
DOCKER = (
    NOTES_ITSELF
    + """
case "$1 $2" in
    "version --format") [ -z "$DOCKER_SAYS" ] || { echo "$DOCKER_SAYS" >&2; exit 1; } ;;
    "image inspect") [ -z "$NO_IMAGE" ] || exit 1 ;;
    "ps -a" | "ps --filter") [ -z "$CONTAINERS" ] || printf '%s\\n' $CONTAINERS ;;
    "run --rm") case " $* " in *" msp "*) ls "$KEPT" >/dev/null 2>&1; exit "${MSP_ENDS_WITH:-0}" ;; esac ;;
esac
exit 0
"""
)


class Host:
    """A copy of the scripts, and a PATH with stand-ins that note how they are called."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "platform"
        self.tools = folder / "tools"
        self.calls_file = folder / "calls"
        (self.root / "scripts/lib").mkdir(parents=True)
        for name in LIBRARIES:
            shutil.copy(REPOSITORY / "scripts" / name, self.root / "scripts" / name)
        self.tools.mkdir()
        for tool in (*TOOLS, "ls"):
            found = shutil.which(tool)
            assert found, tool
            (self.tools / tool).symlink_to(found)
        for name in ("nvidia-smi", "ss", "df", "timedatectl"):
            self.add(name, NOTES_ITSELF)
        self.add("docker", DOCKER)

    def add(self, name: str, text: str) -> None:
        path = self.tools / name
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *arguments: str, code: int = 0, cwd: Path | None = None, **environ: str) -> str:
        done = subprocess.run(
            [str(self.root / "scripts/msp"), *arguments],
            env={
                "PATH": str(self.tools),
                "CALLS": str(self.calls_file),
                "TMPDIR": str(self.tools.parent),
                **environ,
            },
            cwd=cwd or self.root,
            capture_output=True,
            text=True,
            timeout=60,
        )
        output = done.stdout + done.stderr
        assert done.returncode == code, output
        return output

    def calls(self) -> list[list[str]]:
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        return [line.rstrip("\x1f").split("\x1f") for line in lines if line]

    def container(self) -> list[str]:
        """How the container of `msp` itself was started."""
        (call,) = [c for c in self.calls() if c[:2] == ["docker", "run"] and "msp" in c]
        return call


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_the_host_is_asked_what_doctor_reads(host: Host) -> None:
    host.run("doctor")
    called = [" ".join(call) for call in host.calls()]
    for name, command in COMMANDS.items():
        if command[0] != "sh":
            assert " ".join(command) in called, name


def test_the_commands_of_the_shell_are_the_same_too() -> None:
    text = (REPOSITORY / "scripts/lib/host_facts.sh").read_text().replace("\\\n", " ")
    recorded = {}
    for line in text.splitlines():
        if line.strip().startswith('record "$1" '):
            _, _, name, *command = shlex.split(line)
            recorded[name] = tuple(command)
    assert recorded == dict(COMMANDS)


def test_the_container_gets_no_socket_of_docker_and_no_privilege(host: Host) -> None:
    host.run("doctor")
    call = host.container()
    assert not [part for part in call if "docker.sock" in part or part == "--privileged"]
    for needed in ("--cap-drop ALL", "--security-opt no-new-privileges", "--read-only", "--pull never"):
        assert needed in " ".join(call)
    assert call[call.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"
    assert f"{host.root}:{host.root}:ro" in call


def test_of_an_imported_release_its_settings_win_and_those_beside_it_are_seen(
    host: Host, tmp_path: Path
) -> None:
    settings = tmp_path / "site.env"
    settings.write_text("MSP_VERSION=0.1.0\n")
    (host.root / ".env").symlink_to(settings)
    (host.root / "bundle.env").write_text("MSP_VERSION=0.2.0\n")
    current = tmp_path / "current"
    current.symlink_to(host.root)
    host.run("doctor", cwd=current)
    call = host.container()
    assert "msp/cli:0.2.0" in call
    assert f"{settings}:{settings}:ro" in call
    assert f"{host.root}:{host.root}:ro" in call


@pytest.mark.parametrize("folder", ["/", "/tmp"])
def test_it_is_called_from_folders_that_a_container_has_itself(host: Host, folder: str) -> None:
    host.run("doctor", cwd=Path(folder))
    assert f"{folder}:{folder}:ro" not in host.container()


def test_what_writes_files_may_write_where_it_is_called(host: Host, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    host.run("support-bundle", cwd=elsewhere)
    call = host.container()
    assert f"{elsewhere}:{elsewhere}:rw" in call
    assert call[call.index("--workdir") + 1] == str(elsewhere)


def test_what_was_recorded_is_handed_in_and_removed_afterwards(host: Host) -> None:
    host.run("doctor", "--json")
    call = host.container()
    facts = call[call.index("--recorded") + 1]
    assert f"{facts}:{facts}:ro" in call
    assert call[-1] == "--json"
    assert not Path(facts).exists()


def test_the_commands_exit_code_is_the_scripts(host: Host) -> None:
    host.run("doctor", code=6, MSP_ENDS_WITH="6")


def test_isolation_is_tried_from_the_host_and_from_every_container(host: Host) -> None:
    host.run("doctor", "--airgap", CONTAINERS="model-gateway msp-llm-1")
    probes = [call for call in host.calls() if "msp_cli.doctor.airgap_probe" in call]
    networks = [call[call.index("--network") + 1] for call in probes]
    assert sorted(networks) == ["container:model-gateway", "container:msp-llm-1", "host"]


def test_without_being_asked_nothing_tries_to_get_out(host: Host) -> None:
    host.run("doctor", CONTAINERS="model-gateway")
    assert not [call for call in host.calls() if "msp_cli.doctor.airgap_probe" in call]


def test_the_bundle_gets_the_logs_of_all_containers(host: Host) -> None:
    host.run("support-bundle", CONTAINERS="model-gateway msp-llm-1")
    logs = [call[-1] for call in host.calls() if call[:2] == ["docker", "logs"]]
    assert logs == ["model-gateway", "msp-llm-1"]


def test_a_plan_gets_the_hosts_gpus_unless_a_file_is_named(host: Host) -> None:
    host.run("plan", "a/b")
    assert "--gpus" in host.container()
    host.calls_file.unlink()
    host.run("plan", "a/b", "--gpus", "mine.csv")
    assert host.container().count("--gpus") == 1


def test_the_image_is_that_of_env(host: Host) -> None:
    (host.root / ".env").write_text("MSP_IMAGE_PREFIX=registry.local/msp\nMSP_VERSION=9.9.9\n")
    host.run("doctor")
    assert "registry.local/msp/cli:9.9.9" in host.container()


def test_files_that_env_names_elsewhere_can_be_looked_at(host: Host, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text("x")
    (host.root / ".env").write_text(f"EXTRA_CA_FILE={authority}\nIMPORT_DIR=/not/there\n")
    host.run("doctor")
    call = host.container()
    assert f"{authority}:{authority}:ro" in call
    assert not [part for part in call if "/not/there" in part]


@pytest.mark.parametrize(
    ("says", "remedy"),
    [
        ("permission denied while trying to connect", "usermod -aG docker"),
        ("Cannot connect to the Docker daemon", "systemctl start docker"),
    ],
)
def test_a_docker_that_cannot_be_used_is_explained(host: Host, says: str, remedy: str) -> None:
    told = host.run("doctor", code=6, DOCKER_SAYS=says)
    assert "problem  docker:" in told
    assert remedy in told


def test_a_missing_image_is_told_with_the_command_that_makes_it(host: Host) -> None:
    told = host.run("doctor", code=6, NO_IMAGE="1")
    assert "docker build --build-arg MEMBER=cli --build-arg PACKAGE=msp_cli -t msp/cli:0.1.0 ." in told


def test_without_docker_the_environments_own_msp_is_run(host: Host) -> None:
    (host.tools / "docker").unlink()
    assert "not installed" in host.run("doctor", code=6)
    own = host.root / ".venv/bin/msp"
    own.parent.mkdir(parents=True)
    own.write_text('#!/bin/bash\necho "own $*"\n')
    own.chmod(0o755)
    assert f"own doctor --root {host.root} --json" in host.run("doctor", "--json")


def test_help_needs_nothing(host: Host) -> None:
    (host.tools / "docker").unlink()
    assert "Usage: scripts/msp" in host.run("--help")
