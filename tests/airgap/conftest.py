"""What tests across an air gap share: one cycle of setup, import and delta, watched for attempts to leave."""

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.airgap_site import (
    GATEWAY_PORT,
    AirgapSite,
    Carried,
    OnlineSide,
    keep_what_a_delta_needs,
    online_side,
)
from support.egress_sink import EgressSink, egress_sink, watching_runtime
from support.four_types import ask_all
from support.second_engine import SecondEngine, second_engine

IMAGES = "MSP_AIRGAP_IMAGES"
"""In the environment: the prefix of images that are taken as they are, in a tree that is being changed."""
CARRIED = pytest.StashKey[list[Carried]]()


@pytest.fixture(scope="session", autouse=True)
def docker_engine() -> None:
    """Skips, or fails on CI, where something is missing."""
    problem = _what_is_missing()
    if problem:
        message = f"no air gap can be made: {problem}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def _what_is_missing() -> str:
    for program in ("docker", "dockerd", "runc", "ip", "iptables", "nsenter", "unshare"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if os.geteuid() != 0:
        return "network namespaces and a second engine need root"
    for command in (["docker", "compose", "version"], ["docker", "info"]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            return done.stderr.strip()
    return ""


@pytest.fixture(scope="session")
def place(docker_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Room for bundles and an engine; nothing of it stays, since it is large."""
    made = tmp_path_factory.mktemp("airgap")
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def engine(place: Path) -> Iterator[SecondEngine]:
    """The engine of the offline side, which has nothing."""
    with second_engine(place, f"e{uuid.uuid4().hex[:8]}", path_first=watching_runtime(place)) as made:
        assert made.docker("images", "-q") == ""
        yield made


@pytest.fixture(scope="session")
def sink(engine: SecondEngine) -> Iterator[EgressSink]:
    """The record of whatever tries to leave the offline side, from before the import on."""
    with egress_sink(engine) as made:
        yield made


@pytest.fixture(scope="session")
def online(place: Path) -> Iterator[OnlineSide]:
    """The online side, on the engine that other tests use too."""
    folder = place / "online"
    folder.mkdir()
    name = f"airgap-{uuid.uuid4().hex[:8]}"
    with online_side(folder, name, os.environ.get(IMAGES, "")) as made:
        yield made


@pytest.fixture(scope="session")
def site(
    engine: SecondEngine, sink: EgressSink, online: OnlineSide, place: Path, pytestconfig: pytest.Config
) -> Iterator[AirgapSite]:
    """What was imported runs and has answered. Most of the time of these tests goes here."""
    made = AirgapSite(engine, place)
    pytestconfig.stash[CARRIED] = made.carried
    with engine.forwarded_port(GATEWAY_PORT) as port:
        made.base_url = f"http://127.0.0.1:{port}"
        made.take_in(online, place / "bundle")
        keep_what_a_delta_needs(place / "bundle", place / "kept")
        shutil.rmtree(place / "bundle")
        made.clients_talk(ask_all)
        yield made


@pytest.fixture(scope="session")
def site_after_delta(site: AirgapSite, online: OnlineSide, place: Path) -> AirgapSite:
    """The same site after a second bundle: what is new since the first one, a moved model."""
    since = str(place / "kept/bundle.json")
    site.take_in(online, place / "bundle-2", "--since", since, moved="samples/chat")
    return site


@pytest.fixture(scope="session")
def unwatched_site(site_after_delta: AirgapSite, sink: EgressSink) -> AirgapSite:
    """The same site without the sink, whose name server and listener answer in place of the outside."""
    sink.close()
    return site_after_delta


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The seconds of each step, as the scripts named them."""
    for carried in config.stash.get(CARRIED, []):
        for run in (carried.setup, carried.imported):
            terminalreporter.section(f"{run.name}: {run.seconds:.0f} s")
            for seconds, line in run.steps():
                terminalreporter.write_line(f"{seconds:7.1f} s  {line[:100]}")
