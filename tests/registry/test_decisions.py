"""The registry's pure decisions: paths, names, keys, ranges, which files, who uses what."""

import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.models import ManifestFile
from msp_common.contracts.workers import ServedModel, Snapshot, Verdict, Worker, WorkerLease, WorkerState
from msp_common.snapshots import local_commit
from msp_registry.failures import NothingToStore, PickleOnly
from msp_registry.hub.selection import RemoteFile, select
from msp_registry.inspection.inspection import format_of
from msp_registry.inspection.licences import licence_of
from msp_registry.layout import Location, UnsafePath, check_paths, file_key, locate, manifest_key, ref_key
from msp_registry.routes.byte_ranges import Span, requested_span
from msp_registry.routes.raw_paths import one_segment_ids
from msp_registry.usage import users

C = "0123456789" * 4
D = "f" * 40


@pytest.mark.parametrize(
    ("method", "raw", "routed"),
    [
        ("GET", "/models", None),
        ("GET", "/models/", None),
        ("GET", "/models/a/b", "/models/a%2Fb"),
        ("GET", "/models/a%2Fb", "/models/a%2Fb"),
        ("GET", "/models/a%252Fb", "/models/a%252Fb"),
        ("GET", "/models/a", "/models/a"),
        ("GET", "/models/a/download", "/models/a%2Fdownload"),
        ("POST", "/models/a/download", "/models/a/download"),
        ("POST", "/models/a/b/download", "/models/a%2Fb/download"),
        ("POST", "/models/a%2Fb/import", "/models/a%2Fb/import"),
        ("POST", "/models/a%2Fdownload/download", "/models/a%2Fdownload/download"),
        ("POST", "/models/download", "/models/download"),
        ("GET", "/models/a/b/c", "/models/a%2Fb%2Fc"),
        ("GET", f"/files/a/b/{C}/x%20y/z.json", f"/files/a%2Fb/{C}/x y/z.json"),
        ("GET", f"/files/a/{C}/{D}/z.json", f"/files/a/{C}/{D}/z.json"),
        ("GET", f"/files/a%2Fb/{C}/{D}", f"/files/a%2Fb/{C}/{D}"),
        ("GET", "/files/a/b/main/z.json", None),
        ("GET", "/jobs/a/b", None),
        ("GET", "/health", None),
    ],
)
def test_an_id_is_one_segment_however_it_came(method: str, raw: str, routed: str | None) -> None:
    assert one_segment_ids(method, raw) == routed


@pytest.mark.parametrize("repo_id", ["a", "a/b"])
def test_every_key_tells_what_it_is(repo_id: str) -> None:
    assert locate(file_key(repo_id, C, "x/y")) == Location(repo_id, commit=C, path="x/y")
    manifest = locate(manifest_key(repo_id, C))
    assert manifest is not None
    assert manifest.is_manifest
    assert locate(ref_key(repo_id, "refs/pr/1")) == Location(repo_id, ref="refs/pr/1")


@pytest.mark.parametrize(
    "key", [".registry/jobs/x.json", "a", "a/b", "a/b/c/d", f"a/b/c/{C}/x", "a/.registry/other/x", C]
)
def test_other_keys_belong_to_no_model(key: str) -> None:
    assert locate(key) is None


@pytest.mark.parametrize(
    "paths", [["a", "a"], ["a", "a/b"], ["a/b/c", "a/b"], [".registry/x"], ["x", "../y"]]
)
def test_file_lists_that_contradict_themselves_are_refused(paths: list[str]) -> None:
    with pytest.raises(UnsafePath):
        check_paths(paths)


def test_a_local_commit_depends_on_content_and_not_on_order() -> None:
    one = ManifestFile(path="a", size_bytes=1, sha256="1" * 64, git_sha1=C)
    two = ManifestFile(path="b", size_bytes=1, sha256="2" * 64, git_sha1=C)
    assert local_commit([one, two]) == local_commit([two, one])
    assert local_commit([one, two]) != local_commit([one, two.model_copy(update={"path": "c"})])
    # Stores keep this name for years: it must never change.
    assert local_commit([one]) == "bd7540e190d6803929cc7267e11bd9a9aa329a74"


@pytest.mark.parametrize(
    ("header", "size", "span"),
    [
        (None, 10, None),
        ("bytes=0-0", 10, Span(0, 1)),
        ("Bytes = 2 - 3", 10, Span(2, 2)),
        ("bytes=5-2", 10, None),
        ("bytes=-", 10, None),
        ("bytes=0-1,4-5", 10, None),
        ("items=0-1", 10, None),
        ("bytes=a-b", 10, None),
    ],
)
def test_ranges_that_cannot_be_honoured_mean_the_whole(
    header: str | None, size: int, span: Span | None
) -> None:
    assert requested_span(header, size) == span


def remote(*paths: str) -> list[RemoteFile]:
    return [RemoteFile(path, 1, None, None) for path in paths]


@pytest.mark.parametrize(
    ("paths", "taken"),
    [
        (["model.safetensors", "pytorch_model.bin", "config.json"], ["config.json", "model.safetensors"]),
        (["m.safetensors", "original/consolidated.00.pth", "original/params.json"], ["m.safetensors"]),
        (["m.safetensors", "consolidated.safetensors"], ["m.safetensors"]),
        (["consolidated.safetensors", "params.json"], ["consolidated.safetensors", "params.json"]),
        (["m.gguf", "m.bin"], ["m.gguf"]),
        (["m.safetensors", "modeling_x.py"], ["m.safetensors"]),
        (["config.json", "tokenizer.json"], ["config.json", "tokenizer.json"]),
    ],
)
def test_the_safest_form_of_the_weights_is_taken(paths: list[str], taken: list[str]) -> None:
    assert [f.path for f in select(remote(*paths))] == taken


def test_program_files_come_only_by_name() -> None:
    files = remote("m.safetensors", "modeling_x.py")
    assert [f.path for f in select(files, allow=["*.py"])] == ["modeling_x.py"]


def test_a_pattern_that_ends_in_a_slash_means_all_below() -> None:
    files = remote("a/x.json", "a/b/y.json", "z.json")
    assert [f.path for f in select(files, ignore=["a/"])] == ["z.json"]


def test_a_choice_of_nothing_is_an_error() -> None:
    with pytest.raises(PickleOnly):
        select(remote("pytorch_model.BIN", "config.json"))
    with pytest.raises(NothingToStore):
        select([])


@pytest.mark.parametrize(
    ("paths", "format"),
    [
        (["a.gguf"], "gguf"),
        (["a.SAFETENSORS", "b.bin"], "safetensors"),
        (["b.bin"], "pickle"),
        (["x"], "other"),
    ],
)
def test_the_format_is_that_of_the_weights(paths: list[str], format: str) -> None:
    assert format_of(paths) == format


@pytest.mark.parametrize(
    "card", ["", "# no front matter", "---\n: [", "---\n- a\n---\n", "---\nlicense: [a]\n---"]
)
def test_a_card_that_says_nothing_is_no_error(card: str) -> None:
    assert licence_of(card).id is None


def test_a_cards_licence_is_read() -> None:
    card = "---\nlicense: other\nlicense_name: llama3\nlicense_link: https://x.org\n---\n# Model"
    licence = licence_of(card)
    assert (licence.id, licence.name, licence.link) == ("other", "llama3", "https://x.org")


def test_only_workers_that_live_use_a_model() -> None:
    def worker(worker_id: str, model: str, verdict: Verdict) -> Worker:
        lease = WorkerLease(
            url="http://w",
            host="h",
            model=ServedModel(id=model, type=ModelType.LLM),
            state=WorkerState.READY,
            version="1",
            started_at=0,
        )
        return Worker(id=worker_id, verdict=verdict, heartbeat_at=0, lease=lease)

    snapshot = Snapshot(
        generation=1,
        taken_at=0,
        workers=[
            worker("b", "org/a", Verdict.READY),
            worker("a", "org/a", Verdict.FETCHING),
            worker("c", "org/a", Verdict.UNHEALTHY),
            worker("d", "org/b", Verdict.READY),
        ],
    )
    assert users(snapshot, "org/a") == ["a", "b"]
