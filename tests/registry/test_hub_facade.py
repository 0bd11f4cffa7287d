"""The hub's protocol without file downloads: info, tree, paths, refs, commits, and refusals."""

import hashlib
from collections.abc import AsyncGenerator

import httpx
import pytest

from msp_registry.stores.store import StoreUnavailable
from support.hub_facade import COMMIT, HUB, OTHER_COMMIT, Facade, facade, publish
from support.registry_files import safetensors

FILES = {
    "README.md": b"# A model\n",
    "config.json": b"{}",
    "model.safetensors": safetensors(1000),
    "1_Pooling/config.json": b"{}",
    "onnx/deep/er/model.onnx": b"onnx",
}
WEIGHTS_SHA256 = hashlib.sha256(FILES["model.safetensors"]).hexdigest()
README_SHA1 = hashlib.sha1(b"blob 10\0# A model\n").hexdigest()


@pytest.fixture
async def hub() -> Facade:
    made = facade()
    await publish(made.parts, "org/tiny", FILES)
    await made.parts.catalogue.point("org/tiny", "refs/pr/7", COMMIT)
    await publish(made.parts, "gpt2", {"a.json": b"{}"}, commit=OTHER_COMMIT, ref="prod")
    return made


@pytest.fixture
async def http(hub: Facade) -> AsyncGenerator[httpx.AsyncClient, None]:
    transport = httpx.ASGITransport(hub.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "/api/models/org/tiny",
        "/api/models/org%2Ftiny",
        "/api/models/org/tiny/revision/main",
        "/api/models/org/tiny/revision/refs%2Fpr%2F7",
        f"/api/models/org/tiny/revision/{COMMIT}",
    ],
)
async def test_info_names_the_commit_and_every_file(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 200
    assert answer.headers["X-Repo-Commit"] == COMMIT
    body = answer.json()
    assert (body["id"], body["sha"], body["private"], body["disabled"]) == ("org/tiny", COMMIT, False, False)
    assert body["siblings"] == [{"rfilename": path} for path in FILES]
    assert body["lastModified"] == "2023-11-14T22:13:20.000Z"


async def test_blobs_adds_sizes_and_hashes_and_lfs_by_sha256(http: httpx.AsyncClient) -> None:
    body = (await http.get("/api/models/org/tiny", params={"blobs": "True"})).json()
    siblings = {sibling["rfilename"]: sibling for sibling in body["siblings"]}
    assert siblings["README.md"] == {"rfilename": "README.md", "size": 10, "blobId": README_SHA1}
    lfs = siblings["model.safetensors"]["lfs"]
    assert (lfs["sha256"], lfs["size"]) == (WEIGHTS_SHA256, len(FILES["model.safetensors"]))
    assert lfs["pointerSize"] == 129  # 43 + 76 + 10: the three lines that git-lfs writes


async def test_what_the_hub_said_at_mirroring_is_said_again(hub: Facade, http: httpx.AsyncClient) -> None:
    licence = {"id": "apache-2.0"}
    said = HUB.model_copy(update={"gated": "manual"})
    await publish(hub.parts, "org/said", FILES, source="https://huggingface.co", hub=said, licence=licence)
    body = (await http.get("/api/models/org/said")).json()
    assert body["pipeline_tag"] == "text-generation"
    assert body["library_name"] == "transformers"
    assert body["tags"] == ["safetensors", "en"]
    assert body["lastModified"] == "2026-03-04T05:06:07.000Z"
    assert (body["gated"], body["cardData"]) == ("manual", {"license": "apache-2.0"})


async def test_of_a_mirrored_model_the_hub_decides_what_is_lfs(hub: Facade, http: httpx.AsyncClient) -> None:
    await publish(hub.parts, "org/said", FILES, lfs=["README.md"], source="https://hub", hub=HUB)
    tree = await http.get("/api/models/org/said/tree/main")
    assert {e["path"] for e in tree.json() if "lfs" in e} == {"README.md"}
    assert (await http.head("/org/said/resolve/main/model.safetensors")).headers["ETag"].strip('"') != (
        WEIGHTS_SHA256
    )


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("2024-02-29T10:00:00+02:00", "2024-02-29T08:00:00.000Z"),
        ("2024-02-29", "2024-02-29T00:00:00.000Z"),
        ("last tuesday", "1970-01-01T00:00:00.000Z"),
        ("0001-01-01T00:00:00+05:00", "1970-01-01T00:00:00.000Z"),
        (None, "2023-11-14T22:13:20.000Z"),
    ],
)
async def test_dates_are_always_ones_that_clients_can_read(
    hub: Facade, http: httpx.AsyncClient, said: str | None, told: str
) -> None:
    await publish(hub.parts, "org/dated", FILES, hub=HUB.model_copy(update={"last_modified": said}))
    assert (await http.get("/api/models/org/dated")).json()["lastModified"] == told


async def test_a_tree_has_folders_and_files_with_lfs_oid_and_no_xet(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/models/org/tiny/tree/main")
    assert [(e["type"], e["path"]) for e in answer.json()] == [
        ("directory", "1_Pooling"),
        ("file", "README.md"),
        ("file", "config.json"),
        ("file", "model.safetensors"),
        ("directory", "onnx"),
    ]
    entries = {e["path"]: e for e in answer.json()}
    assert entries["README.md"] == {"type": "file", "oid": README_SHA1, "size": 10, "path": "README.md"}
    assert entries["model.safetensors"]["lfs"]["oid"] == WEIGHTS_SHA256
    assert "xet" not in answer.text.lower()
    assert "lastCommit" not in answer.text


async def test_folders_have_gits_own_ids(hub: Facade, http: httpx.AsyncClient) -> None:
    """Compared with `git mktree` over the same two files."""
    await publish(hub.parts, "org/git", {"d/a.txt": b"hello\n", "d/b/c.txt": b"", "d/b.txt": b"hello\n"})
    entries = (await http.get("/api/models/org/git/tree/main")).json()
    inner = hashlib.sha1(b"tree 33\x00100644 c.txt\0" + bytes.fromhex(EMPTY_BLOB)).digest()
    rows = [
        *(b"100644 a.txt\0", bytes.fromhex(HELLO_BLOB), b"100644 b.txt\0", bytes.fromhex(HELLO_BLOB)),
        *(b"40000 b\0", inner),
    ]
    data = b"".join(rows)
    assert entries[0]["oid"] == hashlib.sha1(b"tree %d\0" % len(data) + data).hexdigest()


HELLO_BLOB = "ce013625030ba8dba906f756967f9e9ca394464a"
EMPTY_BLOB = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"


@pytest.mark.parametrize(
    ("path", "paths"),
    [
        ("main?recursive=true", sorted([*FILES, "1_Pooling", "onnx", "onnx/deep", "onnx/deep/er"])),
        ("main/onnx", ["onnx/deep"]),
        ("main/onnx/", ["onnx/deep"]),
        ("main/onnx%2Fdeep", ["onnx/deep/er"]),
        ("main/onnx/deep?recursive=True", ["onnx/deep/er", "onnx/deep/er/model.onnx"]),
        ("refs%2Fpr%2F7/1_Pooling", ["1_Pooling/config.json"]),
        (f"{COMMIT}/1_Pooling", ["1_Pooling/config.json"]),
    ],
)
async def test_a_tree_may_be_deep_or_of_one_folder(
    http: httpx.AsyncClient, path: str, paths: list[str]
) -> None:
    answer = await http.get(f"/api/models/org/tiny/tree/{path}")
    assert [entry["path"] for entry in answer.json()] == paths
    assert "Link" not in answer.headers


async def test_an_expanded_tree_names_a_commit_in_every_entry(http: httpx.AsyncClient) -> None:
    entries = (await http.get("/api/models/org/tiny/tree/main?recursive=true&expand=true")).json()
    assert {entry["lastCommit"]["id"] for entry in entries} == {COMMIT}
    assert {entry["lastCommit"]["date"] for entry in entries} == {"2023-11-14T22:13:20.000Z"}


async def test_a_thousand_entries_are_one_page_and_more_are_linked(
    hub: Facade, http: httpx.AsyncClient
) -> None:
    """llama.cpp never asks for a second page."""
    await publish(hub.parts, "org/large", {f"{n:04}.json": b"" for n in range(1000)})
    answer = await http.get("/api/models/org/large/tree/main?recursive=true")
    assert (len(answer.json()), answer.headers.get("Link")) == (1000, None)

    await publish(hub.parts, "org/large", {f"s/{n:04}.json": b"" for n in range(2100)}, commit=OTHER_COMMIT)
    answer = await http.get("/api/models/org/large/tree/main/s?recursive=true&expand=false")
    sizes, seen = [len(answer.json())], {entry["path"] for entry in answer.json()}
    await hub.parts.catalogue.point("org/large", "main", COMMIT)
    while "next" in answer.links:
        assert answer.links["next"]["url"].startswith(
            f"http://registry/api/models/org/large/tree/{OTHER_COMMIT}"
        )
        answer = await http.get(answer.links["next"]["url"])
        sizes.append(len(answer.json()))
        seen |= {entry["path"] for entry in answer.json()}
    assert (sizes, len(seen)) == ([1000, 1000, 100], 2100)


@pytest.mark.parametrize("query", ["cursor=x", "cursor=-1", "limit=0", "limit=99999999999", "limit=%C2%B2"])
async def test_nonsense_for_a_page_is_a_whole_first_page(http: httpx.AsyncClient, query: str) -> None:
    answer = await http.get(f"/api/models/org/tiny/tree/main?{query}")
    assert (answer.status_code, len(answer.json())) == (200, 5)


@pytest.mark.parametrize(
    "sent",
    [
        {"data": {"paths": ["README.md", "onnx/deep/", "no"], "expand": "False"}},
        {"json": {"paths": ["README.md", "onnx/deep", "no", "", "/", "README.md"], "expand": False}},
    ],
)
async def test_paths_info_is_the_trees_entries_of_what_is_there(
    http: httpx.AsyncClient, sent: dict[str, object]
) -> None:
    answer = await http.post("/api/models/org/tiny/paths-info/main", **sent)  # type: ignore[arg-type]
    assert answer.status_code == 200
    tree = (await http.get("/api/models/org/tiny/tree/main?recursive=true")).json()
    by_path = {entry["path"]: entry for entry in tree}
    assert answer.json() == [by_path["README.md"], by_path["onnx/deep"]]


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"{", b'{"paths": [1]}', b"[]", b'{"paths": {}}', b"[" * 9999]
)
@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
async def test_paths_info_refuses_what_it_cannot_read(
    http: httpx.AsyncClient, body: bytes, kind: str
) -> None:
    url = "/api/models/org/tiny/paths-info/main"
    answer = await http.post(url, content=body, headers={"Content-Type": kind})
    assert answer.status_code == 400
    assert "paths" in answer.headers["X-Error-Message"]


async def test_refs_are_branches_and_on_request_pull_requests(http: httpx.AsyncClient) -> None:
    main = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
    pull = {"name": "7", "ref": "refs/pr/7", "targetCommit": COMMIT}
    assert (await http.get("/api/models/org/tiny/refs")).json() == {
        "branches": [main],
        "converts": [],
        "tags": [],
    }
    with_pulls = (await http.get("/api/models/org/tiny/refs?include_prs=1")).json()
    assert with_pulls["pullRequests"] == [pull]


async def test_commits_are_the_one_that_is_here(http: httpx.AsyncClient) -> None:
    commits = (await http.get("/api/models/org/tiny/commits/main")).json()
    assert [(c["id"], c["title"], c["authors"]) for c in commits] == [
        (COMMIT, "Snapshot from folder", [{"user": "registry"}])
    ]


async def test_a_model_without_main_answers_for_it_with_its_default_and_warns(
    http: httpx.AsyncClient,
) -> None:
    for path in ("/api/models/gpt2", "/api/models/gpt2/revision/main", "/gpt2/resolve/main/a.json"):
        answer = await http.get(path)
        assert answer.status_code == 200
        assert answer.headers["X-Repo-Commit"] == OTHER_COMMIT
        topic, _, text = answer.headers["X-HF-Warning"].partition(";")
        assert topic == "revision"
        assert "'prod'" in text
    assert "X-HF-Warning" not in (await http.get("/api/models/gpt2/revision/prod")).headers
    branches = (await http.get("/api/models/gpt2/refs")).json()["branches"]
    assert [branch["name"] for branch in branches] == ["main", "prod"]


async def test_a_ref_without_a_published_commit_is_not_listed(hub: Facade, http: httpx.AsyncClient) -> None:
    await hub.parts.catalogue.point("org/tiny", "gone", "9" * 40)
    branches = (await http.get("/api/models/org/tiny/refs")).json()["branches"]
    assert [branch["name"] for branch in branches] == ["main"]


LONG = "a" * 10_000


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/models/org/none", 404, "RepoNotFound"),
        ("GET", "/api/models/org-tiny", 404, "RepoNotFound"),
        ("GET", "/api/models/ORG/tiny", 404, "RepoNotFound"),
        ("GET", "/api/models/org/tiny/revision/none", 404, "RevisionNotFound"),
        ("GET", "/api/models/org/tiny/revision/" + "9" * 40, 404, "RevisionNotFound"),
        ("GET", "/api/models/org/tiny/revision/a%00b", 404, "RevisionNotFound"),
        ("GET", "/api/models/org/tiny/revision/..%2F..", 404, "RevisionNotFound"),
        ("GET", "/api/models/org/none/revision/none", 404, "RepoNotFound"),
        ("GET", "/api/models/org/tiny/tree/main/none", 404, "EntryNotFound"),
        ("GET", "/api/models/org/tiny/tree/main/config.json", 404, "EntryNotFound"),
        ("GET", "/api/models/org/tiny/tree/main/%2e%2e%2f", 404, "EntryNotFound"),
        ("GET", "/api/models/org/tiny/tree/none", 404, "RevisionNotFound"),
        ("GET", "/api/models/org/none/refs", 404, "RepoNotFound"),
        ("GET", "/api/models/org/tiny/commits/none", 404, "RevisionNotFound"),
        ("POST", "/api/models/org/tiny/paths-info/none", 404, "RevisionNotFound"),
        ("HEAD", "/org/tiny/resolve/main/none.json", 404, "EntryNotFound"),
        ("GET", "/org/tiny/resolve/main/none.json", 404, "EntryNotFound"),
        ("GET", "/org/tiny/resolve/main/%2e%2e/%2e%2e/etc/passwd", 404, "EntryNotFound"),
        ("GET", "/org/tiny/resolve/main/.registry/manifest.json", 404, "EntryNotFound"),
        ("GET", "/org/tiny/resolve/main/a%00b", 404, "EntryNotFound"),
        ("GET", "/org/tiny/resolve/main/a%0d%0ab%F0%9F%99%82", 404, "EntryNotFound"),
        ("HEAD", "/org/tiny/resolve/none/config.json", 404, "RevisionNotFound"),
        ("HEAD", "/org/none/resolve/main/config.json", 404, "RepoNotFound"),
        ("GET", "/%2e%2e/%2e%2e/resolve/main/config.json", 404, "RepoNotFound"),
        ("GET", f"/{LONG}/{LONG}/resolve/main/config.json", 404, "RepoNotFound"),
        ("GET", f"/api/models/{LONG}", 404, "RepoNotFound"),
        ("GET", "/api/models/a%00b", 404, "RepoNotFound"),
        ("GET", "/api/models/org/tiny%0d%0ax", 404, "RepoNotFound"),
        ("GET", "/api/models/org/" + "9" * 40, 404, "RepoNotFound"),
        ("GET", "/api/datasets/org/tiny", 404, "RepoNotFound"),
        ("GET", "/api/spaces/org/tiny", 404, "RepoNotFound"),
        ("GET", "/api/whoami-v2", 401, "Unauthorized"),
        ("GET", "/api/agent-harnesses", 404, None),
        ("HEAD", "/api/telemetry/x/y", 404, None),
        ("GET", "/api/models", 404, None),
        ("GET", "/api/models/org/tiny/discussions", 404, None),
        ("POST", "/api/repos/create", 404, None),
        ("DELETE", "/api/anything", 404, None),
    ],
)
async def test_refusals_have_the_code_and_message_that_clients_read(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str | None
) -> None:
    answer = await http.request(method, path, data={"paths": "x"} if method == "POST" else None)
    assert (answer.status_code, answer.headers.get("X-Error-Code")) == (status, code)
    message = answer.headers["X-Error-Message"]
    assert message.isascii()
    assert 10 < len(message) <= 500
    if method != "HEAD":
        assert answer.json()["error"][:10] == message[:10]
    assert (answer.headers.get("X-Repo-Commit") == COMMIT) == (code == "EntryNotFound")


@pytest.mark.parametrize("path", ["/api/models/org/tiny", "/org/tiny/resolve/main/config.json"])
async def test_a_store_that_is_down_is_said_to_be(hub: Facade, http: httpx.AsyncClient, path: str) -> None:
    hub.parts.store.down = True
    answer = await http.get(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json() == {"error": f"{StoreUnavailable('the store is down')}; try again."}


async def test_whoever_sends_a_token_is_somebody(http: httpx.AsyncClient) -> None:
    answer = await http.get("/api/whoami-v2", headers={"Authorization": "Bearer hf_x"})
    body = answer.json()
    assert (answer.status_code, body["name"], body["auth"]["accessToken"]["role"]) == (200, "local", "read")


async def test_methods_that_change_are_not_answered(http: httpx.AsyncClient) -> None:
    for path in ("/org/tiny/resolve/main/config.json", "/api/models/org/tiny"):
        assert (await http.put(path)).status_code in (404, 405)
