"""What a catalogue remembers: bounded, and nothing that was deleted while it was read."""

from msp_common.contracts.models import Manifest, ManifestFile
from msp_registry.manifest_memory import ManifestMemory


def manifest(repo_id: str, files: int) -> Manifest:
    listed = [
        ManifestFile(path=f"{n}.bin", size_bytes=1, sha256="0" * 64, git_sha1="0" * 40) for n in range(files)
    ]
    return Manifest(
        repo_id=repo_id,
        commit="a" * 40,
        revision="main",
        source="folder",
        files=listed,
        total_bytes=files,
        format="other",
        tool_version="1",
    )


def test_the_longest_unasked_goes_first_and_its_outline_stays() -> None:
    memory = ManifestMemory(max_files=10)
    for name in ("org/a", "org/b"):
        memory.keep(manifest(name, 4), forgettings=0)
    assert memory.get("org/a", "a" * 40) is not None
    memory.keep(manifest("org/c", 4), forgettings=0)
    there = [name for name in ("org/a", "org/b", "org/c") if memory.get(name, "a" * 40)]
    assert there == ["org/a", "org/c"]
    outline = memory.outline("org/b", "a" * 40)
    assert outline is not None
    assert outline.total_bytes == 4


def test_one_that_is_kept_anew_counts_once_and_one_too_large_is_kept_alone() -> None:
    memory = ManifestMemory(max_files=10)
    for _ in range(5):
        memory.keep(manifest("org/a", 4), forgettings=0)
    memory.keep(manifest("org/b", 6), forgettings=0)
    assert memory.get("org/a", "a" * 40) is not None
    memory.keep(manifest("org/large", 50), forgettings=0)
    assert memory.get("org/large", "a" * 40) is not None
    assert memory.get("org/a", "a" * 40) is None


def test_what_was_read_before_a_deletion_is_not_kept_after_it() -> None:
    memory = ManifestMemory()
    noted = memory.forgettings
    memory.forget("org/a", None)
    memory.keep(manifest("org/a", 1), forgettings=noted)
    assert memory.get("org/a", "a" * 40) is None
    assert memory.outline("org/a", "a" * 40) is None
    memory.keep(manifest("org/a", 1), forgettings=memory.forgettings)
    assert memory.get("org/a", "a" * 40) is not None
