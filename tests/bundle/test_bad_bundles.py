"""A bundle that is not whole, not genuine or does not fit is refused before anything is touched."""

import shutil
import subprocess
from pathlib import Path

import pytest

from support.bundle_host import Carrier, OfflineHost

pytestmark = pytest.mark.stack

BAD_BUNDLE, NO_ROOM, USAGE = 3, 4, 2

KINDS = {
    "an image": "images/*.tar.part-001",
    "weights": "models/*/*/*/model.safetensors.part-001",
    "a model's manifest": "models/*/*/*/.registry/manifest.json",
    "a name with blanks": "models/*/*/*/tokenizer files/vocab.txt",
    "a compose file": "docker-compose.yml",
    "a script": "scripts/init-env.sh",
    "a document": "docs/AIR-GAP.md",
    "the lock of images": "images.lock",
    "the lock of models": "models.lock",
    "the lock of files": "files.lock",
    "the bundle's page": "bundle.json",
    "the page for people": "MANIFEST.md",
    "a template of settings": ".env.example",
    "a bill of materials": "bom/models.cdx.json",
    "settings": "bundle.env",
}


def one(bundle: Path, pattern: str) -> Path:
    return sorted(bundle.glob(pattern))[0]


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def nothing_was_touched(host: OfflineHost) -> bool:
    return not (host.home / "releases").is_dir() or not any((host.home / "releases").iterdir())


@pytest.mark.parametrize("pattern", KINDS.values(), ids=KINDS.keys())
def test_a_flipped_bit_is_found_and_the_file_named(carried: Path, host: OfflineHost, pattern: str) -> None:
    damaged = one(carried, pattern)
    flip_a_bit(damaged)

    done = host.run(carried, check=False)

    assert done.returncode == BAD_BUNDLE, done.stderr
    assert f"{damaged.relative_to(carried)} is damaged" in done.stderr
    assert nothing_was_touched(host)
    assert not host.containers()


def test_all_that_is_missing_or_damaged_is_named_at_once(carried: Path, host: OfflineHost) -> None:
    gone, damaged = one(carried, "images/*.part-000"), one(carried, KINDS["weights"])
    gone.unlink()
    flip_a_bit(damaged)

    done = host.run(carried, "--verify-only", check=False)

    assert done.returncode == BAD_BUNDLE
    assert f"{gone.relative_to(carried)} is missing" in done.stderr
    assert f"{damaged.relative_to(carried)} is damaged" in done.stderr


def test_a_part_that_is_carried_again_repairs_it_and_only_that_is_read(
    carried: Path, carrier: Carrier, host: OfflineHost
) -> None:
    damaged = one(carried, KINDS["weights"])
    flip_a_bit(damaged)
    assert host.run(carried, check=False).returncode == BAD_BUNDLE

    shutil.copyfile(carrier.bundle / damaged.relative_to(carried), damaged)
    done = host.run(carried)

    assert "verifying 1 files" in done.stderr
    assert "gateway:0.1.0 1" in host.page()


def test_a_file_that_nobody_listed_is_refused(carried: Path, host: OfflineHost) -> None:
    (carried / "scripts/lib/extra.sh").write_text("true\n")

    done = host.run(carried, "--verify-only", check=False)

    assert done.returncode == BAD_BUNDLE
    assert "scripts/lib/extra.sh is not listed" in done.stderr


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("../../etc/passwd", "outside of the bundle"),
        ("docs/../../etc/passwd", "outside of the bundle"),
        ("/etc/passwd", "SHA256SUMS is damaged"),
        ("", "SHA256SUMS is damaged"),
        ("docs/no such page.md", "docs/no such page.md is missing"),
        ("$(touch pwned)", "$(touch pwned) is missing"),
    ],
)
def test_hostile_names_in_the_list_are_refused(
    carried: Path, host: OfflineHost, path: str, told: str
) -> None:
    with (carried / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  {path}\n")

    done = host.run(carried, "--verify-only", check=False)

    assert done.returncode == BAD_BUNDLE
    assert told in done.stderr
    assert not list(carried.rglob("pwned"))


@pytest.mark.parametrize("name", ["$(touch pwned)", "-rf", "a\nb", "[x", "*"])
def test_hostile_names_of_files_that_nobody_listed_are_refused(
    carried: Path, host: OfflineHost, name: str
) -> None:
    (carried / "docs" / name).write_text("x")

    done = host.run(carried, "--verify-only", check=False)

    assert done.returncode == BAD_BUNDLE
    assert "is not listed" in done.stderr
    assert not list(carried.rglob("pwned"))


def test_a_link_in_place_of_a_file_is_refused_though_it_leads_to_the_same_bytes(
    carried: Path, host: OfflineHost, tmp_path: Path
) -> None:
    page = carried / "docs/AIR-GAP.md"
    page.rename(tmp_path / "elsewhere.md")
    page.symlink_to(tmp_path / "elsewhere.md")

    done = host.run(carried, "--verify-only", check=False)

    assert done.returncode == BAD_BUNDLE
    assert "docs/AIR-GAP.md is missing" in done.stderr


def make_key(place: Path, name: str) -> tuple[Path, Path]:
    key = place / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", key], check=True)
    signers = place / f"{name}.signers"
    signers.write_text(f"{name}@example.org {key.with_suffix('.pub').read_text()}")
    return key, signers


def sign(bundle: Path, key: Path) -> None:
    signature = bundle / "SHA256SUMS.sig"
    signature.unlink(missing_ok=True)
    command = [
        "ssh-keygen",
        "-q",
        "-Y",
        "sign",
        "-n",
        "msp-bundle",
        "-f",
        str(key),
        str(bundle / "SHA256SUMS"),
    ]
    subprocess.run(command, check=True)


def test_signatures_are_held_to_where_signers_are_named(
    carried: Path, host: OfflineHost, tmp_path: Path
) -> None:
    key, signers = make_key(tmp_path, "maker")
    stranger, _ = make_key(tmp_path, "stranger")
    ask = ("--verify-only", "--signers", str(signers))

    unsigned = host.run(carried, *ask, check=False)
    sign(carried, stranger)
    by_a_stranger = host.run(carried, *ask, check=False)
    sign(carried, key)
    right = host.run(carried, *ask)
    with (carried / "SHA256SUMS").open("a") as sums:
        sums.write(f"{'0' * 64}  more\n")
    changed_after = host.run(carried, *ask, check=False)

    assert (unsigned.returncode, by_a_stranger.returncode, changed_after.returncode) == (BAD_BUNDLE,) * 3
    assert "no signature" in unsigned.stderr
    assert "nobody" in by_a_stranger.stderr
    assert "signed by maker@example.org" in right.stderr
    assert "is not what maker@example.org signed" in changed_after.stderr


def test_without_room_for_the_release_it_says_so_and_goes_on_when_there_is_some(
    carried: Path, host: OfflineHost, tmp_path: Path
) -> None:
    host.home.mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(host.home)]
    if subprocess.run(small, capture_output=True).returncode:
        pytest.skip("this user may not mount")
    try:
        full = host.run(carried, check=False)
        subprocess.run(["mount", "-o", "remount,size=16m", str(host.home)], check=True)
        host.run(carried)
        page = host.page()
    finally:
        host.remove()
        subprocess.run(["umount", "-l", str(host.home)], check=True)

    assert full.returncode == NO_ROOM, full.stderr
    assert "free" in full.stderr
    assert "gateway:0.1.0 1" in page


def test_a_mistyped_option_is_told_and_nothing_done(carried: Path, host: OfflineHost) -> None:
    assert host.run(carried, "--hom", "/x", check=False).returncode == USAGE
    assert host.run(carried, "--signers", "/nowhere", check=False).returncode == USAGE
    assert "--rollback" in host.run(carried, "--help").stdout


def test_an_image_that_is_not_the_locked_one_is_refused(carried: Path, host: OfflineHost) -> None:
    lock = carried / "images.lock"
    text = lock.read_text()
    config = text.splitlines()[0].split("\t")[3]
    lock.write_text(text.replace(config, f"sha256:{'5' * 64}"))
    sums = carried / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines() if not line.endswith("  images.lock")]
    digest = subprocess.run(["sha256sum", str(lock)], capture_output=True, text=True, check=True).stdout[:64]
    sums.write_text("\n".join([*lines, f"{digest}  images.lock"]) + "\n")

    done = host.run(carried, check=False)

    assert done.returncode == BAD_BUNDLE
    assert "images.lock says" in done.stderr
