"""A bundle that is taken in: once, twice, broken off, and over an earlier one."""

import subprocess
from pathlib import Path

import pytest

from support.bundle_host import Carrier, OfflineHost

pytestmark = pytest.mark.stack


def models_in(lock: Path) -> set[str]:
    return {"@".join(line.split("\t")[i] for i in (0, 2)) for line in lock.read_text().splitlines()}


def is_whole(host: OfflineHost, bundle: Path) -> bool:
    names = {name.replace("/", "_") for name in models_in(bundle / "models.lock")}
    return names <= host.stored() and (host.home / "current/bundle.json").exists()


def test_a_host_with_coreutils_and_docker_takes_a_bundle(carried: Path, host: OfflineHost) -> None:
    done = host.run(carried)

    assert is_whole(host, carried)
    assert "http://" in done.stdout
    assert host.setting("MODE") == "offline"
    assert len(host.setting("PASSWORD")) == 48
    assert (host.home / ".env").stat().st_mode & 0o777 == 0o600


def test_a_bundle_that_is_not_cut_is_taken_as_well(
    carrier: Carrier, host: OfflineHost, tmp_path: Path
) -> None:
    carrier.restore_images()
    whole = tmp_path / "whole"
    carrier.setup("--part-size", "1G", out=whole)
    host.forget_images()

    host.run(whole)

    assert not list(whole.rglob("*.part-*"))
    assert is_whole(host, whole)


def test_a_second_run_changes_nothing(carried: Path, host: OfflineHost) -> None:
    host.run(carried)
    before = (host.containers(), (host.home / ".env").read_bytes())

    again = host.run(carried)

    assert (host.containers(), (host.home / ".env").read_bytes()) == before
    for work in ("verifying", "loading", "importing", "installing"):
        assert work not in again.stderr


def test_cut_off_after_every_step_it_goes_on_to_the_same_end(
    carried: Path, host: OfflineHost, tmp_path: Path
) -> None:
    killed = 0
    for steps in range(1, 40):
        host.kill_after(steps, tmp_path)
        done = host.run(carried, check=False)
        if done.returncode == 0:
            break
        killed += 1
        assert done.returncode == -9, done.stderr

    assert killed >= 5
    assert is_whole(host, carried)
    assert "gateway:0.1.0 1" in host.page()
    assert not list(host.home.rglob("*.new"))


def test_cut_off_within_a_step_it_goes_on_to_the_same_end(
    carried: Path, host: OfflineHost, tmp_path: Path
) -> None:
    killed = 0
    for call in (2, 9, 14, 19, 24, 29, 34, 39, 46, 10_000):
        host.kill_before_docker(call, tmp_path)
        done = host.run(carried, check=False)
        if done.returncode == 0:
            break
        killed += 1
        assert done.returncode == -9, done.stderr

    assert killed >= 4
    assert is_whole(host, carried)
    assert "gateway:0.1.0 1" in host.page()


def test_a_later_bundle_keeps_data_and_can_go_back(
    carrier: Carrier, carried: Path, host: OfflineHost
) -> None:
    host.run(carried)
    secrets = (host.home / ".env").read_text()
    first = (host.home / "current").readlink()
    old_main = host.in_store("ref-acme_one@main")
    later = carrier.place / "later"
    carrier.restore_images()
    carrier.make_images("2", "gateway")
    carrier.setup("--since", str(carrier.bundle / "bundle.json"), "--models", _newer(carrier), out=later)

    host.run(later)

    assert "gateway:0.1.0 2" in host.page()
    assert host.in_store("ref-acme_one@main") != old_main
    assert (host.home / ".env").read_text() == secrets
    assert {name.replace("/", "_") for name in models_in(carried / "models.lock")} <= host.stored()
    host.run(later, "--rollback")
    assert "gateway:0.1.0 1" in host.page()
    assert (host.home / "current").readlink() == first
    assert host.in_store("ref-acme_one@main") == old_main
    host.run(later)
    assert "gateway:0.1.0 2" in host.page()


def test_a_worker_whose_model_moved_is_started_again_and_nothing_else(
    carrier: Carrier, carried: Path, host: OfflineHost
) -> None:
    host.run(carried)
    worker, registry = host.started("gateway"), host.started("registry")
    later = carrier.place / "moved"
    carrier.restore_images()
    carrier.setup("--since", str(carrier.bundle / "bundle.json"), "--models", _newer(carrier), out=later)

    host.run(later)

    moved = host.started("gateway")
    assert moved != worker
    host.run(later)
    assert host.started("gateway") == moved
    host.run(later, "--rollback")
    assert host.started("gateway") != moved
    assert host.started("registry") == registry


def test_a_way_back_that_was_cut_off_ends_where_it_was_going(
    carrier: Carrier, carried: Path, host: OfflineHost, tmp_path: Path
) -> None:
    releases = []
    for number in (1, 2, 3):
        bundle = carried
        if number > 1:
            bundle = tmp_path / f"later-{number}"
            carrier.restore_images()
            models = tmp_path / "models.yaml"
            models.write_text(f"# main moved {number} times\nmodels:\n  - id: acme/one\n")
            carrier.setup("--since", str(carrier.bundle / "bundle.json"), "--models", str(models), out=bundle)
        host.run(bundle)
        releases.append((host.home / "current").readlink())

    host.kill_before_docker(8, tmp_path)
    assert host.run(carried, "--rollback", check=False).returncode == -9
    host.kill_before_docker(10_000, tmp_path)
    host.run(carried, "--rollback")

    assert (host.home / "current").readlink() == releases[1]


def test_there_is_no_way_back_from_the_first_release(carried: Path, host: OfflineHost) -> None:
    host.run(carried)

    done = host.run(carried, "--rollback", check=False)

    assert done.returncode == 2
    assert "first release" in done.stderr


def test_two_runs_at_once_are_refused(carried: Path, host: OfflineHost) -> None:
    (host.home / ".lock").mkdir(parents=True)
    sleeper = subprocess.Popen(["bash", "-c", "exec -a offline-import.sh sleep 60"])
    try:
        (host.home / ".lock/pid").write_text(f"{sleeper.pid}\n")
        done = host.run(carried, check=False)
    finally:
        sleeper.kill()
        sleeper.wait()

    assert done.returncode == 1
    assert f"process {sleeper.pid}" in done.stderr


def test_a_delta_is_refused_where_its_base_was_not_imported(
    carrier: Carrier, host: OfflineHost, tmp_path: Path
) -> None:
    carrier.restore_images()
    delta = tmp_path / "delta"
    carrier.setup("--since", str(carrier.bundle / "bundle.json"), out=delta)
    host.forget_images()

    done = host.run(delta, check=False)

    assert not list((delta / "images").glob("*"))
    assert not list((delta / "models").glob("*"))
    assert done.returncode == 3
    assert "import that one first" in done.stderr


def _newer(carrier: Carrier) -> str:
    models = carrier.place / "newer.yaml"
    models.write_text("# main has moved\nmodels:\n  - id: acme/one\n  - id: acme/three\n")
    return str(models)
