"""The commit of a snapshot that no hub has named."""

from msp_common.contracts.models import ManifestFile
from msp_common.snapshots import canonical_json, local_commit

A = ManifestFile(path="a.txt", size_bytes=1, sha256="a" * 64, git_sha1="0" * 40)
B = ManifestFile(path="b/ü.txt", size_bytes=2, sha256="b" * 64, git_sha1="1" * 40)


def test_the_commit_follows_from_paths_sizes_and_sha256_alone() -> None:
    other_git = B.model_copy(update={"git_sha1": "2" * 40, "lfs": True})
    assert local_commit([A, B]) == local_commit([other_git, A])
    for change in ({"path": "c"}, {"size_bytes": 3}, {"sha256": "c" * 64}):
        assert local_commit([A, B.model_copy(update=change)]) != local_commit([A, B])


def test_the_commit_of_a_known_list_stays_what_it_is() -> None:
    """Stored snapshots are named by it: another spelling would orphan them."""
    assert local_commit([A, B]) == "48fa92106443a294a026286b5eb090cac2ca4831"


def test_a_value_has_one_spelling() -> None:
    assert canonical_json({"b": [1, "ü"], "a": None}) == '{"a":null,"b":[1,"ü"]}'.encode()
