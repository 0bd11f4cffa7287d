"""A bundle that is made: once, twice, broken off, without room, as a delta."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.bundle_host import SYNC_THAT_KILLS, Carrier

pytestmark = pytest.mark.stack

NO_ROOM, USAGE = 4, 2


@pytest.fixture(autouse=True)
def images_are_here(carrier: Carrier) -> None:
    """Air-gapped hosts of other tests, on the same engine, forget them."""
    carrier.restore_images()


def times(bundle: Path) -> dict[str, int]:
    return {
        str(path.relative_to(bundle)): path.stat().st_mtime_ns
        for path in bundle.rglob("*")
        if path.is_file() and ".setup" not in path.parts
    }


def test_the_list_of_hashes_holds_everything_and_sha256sum_agrees(carrier: Carrier) -> None:
    done = subprocess.run(
        ["sha256sum", "--strict", "--quiet", "-c", "SHA256SUMS"], cwd=carrier.bundle, capture_output=True
    )
    listed = {line[66:] for line in (carrier.bundle / "SHA256SUMS").read_text().splitlines()}

    assert done.returncode == 0, done.stderr
    assert listed == set(times(carrier.bundle)) - {"SHA256SUMS"}


def test_no_secret_is_carried(carrier: Carrier) -> None:
    env = (carrier.repository / ".env").read_text()
    secrets = [line.partition("=")[2] for line in env.splitlines() if "PASSWORD=" in line or "TOKEN=" in line]
    carried = b"".join(p.read_bytes() for p in carrier.bundle.rglob("*") if p.is_file())

    assert any(secrets)
    assert not [secret for secret in secrets if secret and secret.encode() in carried]


def test_no_file_is_larger_than_a_part(carrier: Carrier) -> None:
    carried = [p for p in carrier.bundle.rglob("*") if p.is_file() and ".setup" not in p.parts]

    assert max(path.stat().st_size for path in carried) <= 200 * 1024
    assert len(list(carrier.bundle.glob("models/*/*/*/model.safetensors.part-*"))) == 4


def test_its_page_is_json_and_says_what_is_there(carrier: Carrier) -> None:
    page = json.loads((carrier.bundle / "bundle.json").read_text())
    carried = sum(p.stat().st_size for p in (carrier.bundle / "images").iterdir())

    assert page["image_bytes"] == carried
    assert (page["images"], page["models"], page["base"]) == (3, 2, None)


def test_a_second_run_writes_nothing(carrier: Carrier) -> None:
    before = times(carrier.bundle)

    again = carrier.setup()

    assert times(carrier.bundle) == before
    assert "saving" not in again.stderr
    assert "exporting" not in again.stderr


def test_a_file_that_went_missing_is_made_again(carrier: Carrier, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(carrier.bundle, out)
    marks = out / ".setup/marks"
    for mark in marks.iterdir():
        mark.write_text(mark.read_text().replace(str(carrier.bundle), str(out)))
    sorted((out / "images").iterdir())[0].unlink()

    again = carrier.setup(out=out)

    assert again.stderr.count("saving") == 1
    assert (out / "SHA256SUMS").read_text() == (carrier.bundle / "SHA256SUMS").read_text()


def test_cut_off_after_every_step_it_makes_the_same_bundle(carrier: Carrier, tmp_path: Path) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    counter = tmp_path / "counter"
    (programs / "sync").write_text(SYNC_THAT_KILLS.format(sync=shutil.which("sync"), counter=counter))
    (programs / "sync").chmod(0o755)
    out = tmp_path / "bundle"
    killed = 0
    for steps in range(1, 60, 2):
        counter.write_text(str(steps))
        done = carrier.setup(out=out, check=False, path=f"{programs}:{os.environ['PATH']}")
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        killed += 1

    assert killed >= 5
    assert (out / "SHA256SUMS").read_text() == (carrier.bundle / "SHA256SUMS").read_text()


def test_without_room_both_numbers_are_told_and_nothing_is_written(carrier: Carrier, tmp_path: Path) -> None:
    out = tmp_path / "small"
    out.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(out)]).returncode:
        pytest.skip("this user may not mount")
    try:
        done = carrier.setup(out=out, check=False)
        written = (out / "images").exists()
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)

    assert done.returncode == NO_ROOM
    assert done.stderr.count("MiB") >= 2
    assert not written


def test_a_disk_that_fills_up_in_between_leaves_nothing_half(carrier: Carrier, tmp_path: Path) -> None:
    out = tmp_path / "small"
    out.mkdir()
    needed = sum(path.stat().st_size for path in carrier.bundle.rglob("*") if path.is_file())
    small = ["mount", "-t", "tmpfs", "-o", f"size={needed * 9 // 10}", "none", str(out)]
    if subprocess.run(small, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    try:
        # Room for what it asks for, and not for all that it turns out to be.
        full = carrier.setup(out=out, check=False)
        subprocess.run(["mount", "-o", f"remount,size={needed * 2}", str(out)], check=True)
        carrier.setup(out=out)
        sums = (out / "SHA256SUMS").read_text()
    finally:
        subprocess.run(["umount", "-l", str(out)], check=True)

    assert full.returncode in (1, NO_ROOM), full.stderr
    assert "No space left" in full.stderr or "free" in full.stderr
    assert sums == (carrier.bundle / "SHA256SUMS").read_text()


def test_what_is_not_declared_any_more_leaves_the_bundle(carrier: Carrier, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    fewer = tmp_path / "models.yaml"
    carrier.setup(out=out)
    fewer.write_text("models:\n  - id: acme/one\n")

    carrier.setup("--models", str(fewer), out=out)

    assert [p.name for p in (out / "models/acme").iterdir()] == ["one"]
    assert "acme/two" not in (out / "SHA256SUMS").read_text()


def test_a_dry_run_tells_sizes_and_times_and_does_nothing(carrier: Carrier, tmp_path: Path) -> None:
    done = carrier.setup("--dry-run", out=tmp_path / "none")

    assert "acme/one at main" in done.stdout
    assert "at 1 Gbit/s" in done.stdout
    assert not (tmp_path / "none").exists()


def test_a_signed_bundle_is_signed_again_only_when_it_changed(carrier: Carrier, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    out = tmp_path / "bundle"

    carrier.setup("--sign", str(key), out=out)
    first = times(out)["SHA256SUMS.sig"]
    carrier.setup("--sign", str(key), out=out)
    unchanged = times(out)["SHA256SUMS.sig"]
    (carrier.repository / "docs/more.md").write_text("more\n")
    try:
        carrier.setup("--sign", str(key), out=out)
    finally:
        (carrier.repository / "docs/more.md").unlink()
    signers = tmp_path / "signers"
    signers.write_text(f"me {(tmp_path / 'key.pub').read_text()}")
    verify = ["ssh-keygen", "-Y", "verify", "-n", "msp-bundle", "-f", str(signers), "-I", "me"]
    with (out / "SHA256SUMS").open() as sums:
        done = subprocess.run([*verify, "-s", str(out / "SHA256SUMS.sig")], stdin=sums, capture_output=True)

    assert unchanged == first
    assert times(out)["SHA256SUMS.sig"] != first
    assert done.returncode == 0, done.stderr


def test_a_wrong_option_is_told(carrier: Carrier) -> None:
    assert carrier.setup("--since", "/nowhere/bundle.json", check=False).returncode == USAGE
    assert carrier.setup("--part-size", "huge", check=False).returncode == USAGE
    assert "--dry-run" in carrier.setup("--help").stdout
