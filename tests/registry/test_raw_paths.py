"""Undecoded paths, and what routes get to see of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from msp_registry.routes.raw_paths import one_segment_ids

C = "0123456789" * 4
LONG = "a" * 10_000


@pytest.mark.parametrize(
    ("method", "raw", "routed"),
    [
        ("POST", "/models/a/b/verify", "/models/a%2Fb/verify"),
        ("GET", "/models/a/b/verify", "/models/a%2Fb%2Fverify"),
        ("PUT", "/models/a/b/archive", "/models/a%2Fb/archive"),
        ("GET", "/models/a%2Fb/archive", "/models/a%2Fb/archive"),
        ("HEAD", "/models/a/archive", "/models/a/archive"),
        ("DELETE", "/models/a/archive", "/models/a%2Farchive"),
        ("GET", "/models/a%2Farchive", "/models/a%2Farchive"),
        ("GET", "/models/archive", "/models/archive"),
        ("GET", "/models/a/b/refs", "/models/a%2Fb/refs"),
        ("POST", "/models/a/b/refs", "/models/a%2Fb%2Frefs"),
        ("PUT", "/models/a/b/refs/prod", "/models/a%2Fb/refs/prod"),
        ("PUT", "/models/a/refs/prod", "/models/a/refs/prod"),
        ("DELETE", "/models/a%2Fb/refs/refs%2Fpr%2F1", "/models/a%2Fb/refs/refs%2Fpr%2F1"),
        ("GET", "/models/a/b/refs/feature/x", "/models/a%2Fb/refs/feature%2Fx"),
        ("GET", "/models/a/b/refs/", "/models/a%2Fb%2Frefs%2F"),
        ("DELETE", "/models/a%2Fb/refs/refs/pr/1", "/models/a%2Fb/refs/refs%2Fpr%2F1"),
        ("PUT", "/models/a%2fb/refs/refs/x", "/models/a%2Fb/refs/refs%2Fx"),
        ("PUT", "/models/a/b/refs/archive", "/models/a%2Fb/refs/archive"),
        ("GET", "/v1/models/a/b", "/v1/models/a%2Fb"),
        ("GET", "/v1/models/a%2Fb", "/v1/models/a%2Fb"),
        ("GET", "/v1/models", None),
        ("GET", "/v1/chat/completions", None),
    ],
)
def test_the_registrys_own_routes_get_one_segment_for_an_id_and_one_for_a_ref(
    method: str, raw: str, routed: str | None
) -> None:
    assert one_segment_ids(method, raw) == routed


@pytest.mark.parametrize(
    ("raw", "routed"),
    [
        ("/api/models/a/b", "/api/models/a%2Fb"),
        ("/api/models/a%2Fb", "/api/models/a%2Fb"),
        ("/api/models/gpt2", "/api/models/gpt2"),
        ("/api/models/a/b/revision/main", "/api/models/a%2Fb/revision/main"),
        ("/api/models/a/b/revision/refs%2Fpr%2F1", "/api/models/a%2Fb/revision/refs%2Fpr%2F1"),
        ("/api/models/a/b/revision/refs/pr/1", "/api/models/a%2Fb/revision/refs%2Fpr%2F1"),
        ("/api/models/a/b/revision/main/more", None),
        ("/api/models/a%2Fb/tree/tree/x", "/api/models/a%2Fb/tree/tree/x"),
        ("/a%2Fb/resolve/resolve/x/y", "/a%2Fb/resolve/resolve/x%2Fy"),
        ("/api/models/gpt2/tree/main", "/api/models/gpt2/tree/main"),
        ("/api/models/a/b/tree/main/x%2Fy%20z", "/api/models/a%2Fb/tree/main/x%2Fy%20z"),
        ("/api/models/a/b/tree/main/x/y", "/api/models/a%2Fb/tree/main/x%2Fy"),
        ("/api/models/a/b/tree/main/", "/api/models/a%2Fb/tree/main"),
        ("/api/models/a/b/tree/main/x/", "/api/models/a%2Fb/tree/main/x"),
        ("/api/models/a/b/tree", None),
        ("/api/models/a/tree", "/api/models/a%2Ftree"),
        ("/api/models/a/tree/main", "/api/models/a/tree/main"),
        ("/api/models/a/tree/tree/main", "/api/models/a%2Ftree/tree/main"),
        ("/api/models/a/b/paths-info/main", "/api/models/a%2Fb/paths-info/main"),
        ("/api/models/a/b/refs", "/api/models/a%2Fb/refs"),
        ("/api/models/a/refs", "/api/models/a/refs"),
        ("/api/models/a/b/commits/main", "/api/models/a%2Fb/commits/main"),
        ("/api/models/a/b/discussions", None),
        ("/api/models", None),
        ("/api/datasets/a/b", None),
        ("/api/whoami-v2", None),
        ("/a/b/resolve/main/x/y.json", "/a%2Fb/resolve/main/x%2Fy.json"),
        ("/a%2Fb/resolve/main/y.json", "/a%2Fb/resolve/main/y.json"),
        ("/gpt2/resolve/main/resolve/y.json", "/gpt2/resolve/main/resolve%2Fy.json"),
        ("/a/resolve/resolve/main/y.json", "/a%2Fresolve/resolve/main/y.json"),
        ("/gpt2/resolve/resolve/y.json", "/gpt2/resolve/resolve/y.json"),
        ("/a/b/resolve/refs%2Fpr%2F1/y.json", "/a%2Fb/resolve/refs%2Fpr%2F1/y.json"),
        ("/a/b/resolve/refs/pr/1/y.json", "/a%2Fb/resolve/refs%2Fpr%2F1/y.json"),
        ("/a/b/resolve/main", None),
        ("/a/b/resolve/main/", None),
        ("/a/b/blob/main/y.json", None),
        ("/datasets/a/b/resolve/main/y.json", None),
        ("/jobs/a/resolve/main/y.json", None),
        ("/models/a/resolve/main/y.json", "/models/a%2Fresolve%2Fmain%2Fy.json"),
        ("http://elsewhere/a/b/resolve/main/y.json", None),
    ],
)
def test_the_hubs_routes_get_one_segment_for_each_id_revision_and_path(raw: str, routed: str | None) -> None:
    assert one_segment_ids("GET", raw) == routed


@pytest.mark.parametrize(
    ("raw", "routed"),
    [
        ("/a/b/resolve/main/%2e%2e/%2e%2e/etc", "/a%2Fb/resolve/main/..%2F..%2Fetc"),
        ("/a/b/resolve/main/x%00y", "/a%2Fb/resolve/main/x%00y"),
        ("/a/b/resolve/main/x%0ay", "/a%2Fb/resolve/main/x%0Ay"),
        ("/a/b/resolve/main/%ff", "/a%2Fb/resolve/main/%EF%BF%BD"),
        ("/api/models/%2e%2e%2fx/tree/main", "/api/models/..%2Fx/tree/main"),
        (f"/api/models/{LONG}/{LONG}", f"/api/models/{LONG}%2F{LONG}"),
        (f"/files/a/{C}/%2e%2e/x", f"/files/a/{C}/../x"),
    ],
)
def test_hostile_names_stay_within_their_segment(raw: str, routed: str) -> None:
    assert one_segment_ids("GET", raw) == routed


@given(st.text(alphabet="ab/%2Fe.\x00resolvtm", max_size=60))
def test_whatever_is_sent_the_answer_is_a_path_or_nothing(tail: str) -> None:
    for start in ("/", "/models/", "/api/models/", "/files/", "/v1/models/"):
        for method in ("GET", "PUT", "POST"):
            routed = one_segment_ids(method, start + tail)
            assert routed is None or routed.startswith("/")
