"""Asking a hub: what its refusals mean, what is tried again, and what never leaves the process."""

from collections.abc import AsyncGenerator, Callable

import httpx
import pytest

from msp_registry.failures import (
    GatedNotAccepted,
    GatedNoToken,
    HubMisbehaved,
    HubUnreachable,
    JobFailure,
    NoSuchRepo,
    NoSuchRevision,
    RepoDisabled,
    TokenRefused,
    WrongBytes,
)
from msp_registry.hub.client import HubClient
from msp_registry.hub.refusals import Asked, refusal
from msp_registry.hub.requests import MAX_ANSWER_BYTES, TRIES
from msp_registry.hub.selection import RemoteFile
from support.registry_mirroring import ToldClock

HUB = "https://hub.example"
COMMIT = "c0ffee" * 6 + "abcd"
FILE = RemoteFile("a.bin", 10, git_sha1=None, sha256="0" * 64)


class Answers(httpx.AsyncBaseTransport):
    """A transport that answers in turn, with a memory."""

    def __init__(self, *answers: Callable[[], httpx.Response]) -> None:
        self.left = list(answers)
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self.left.pop(0)()


class Body(httpx.AsyncByteStream):
    """A body that may break."""

    def __init__(self, chunks: list[bytes], *, breaks: bool = False) -> None:
        self.chunks = chunks
        self.breaks = breaks

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        for chunk in self.chunks:
            yield chunk
        if self.breaks:
            raise httpx.ReadError("reset")


def hub(transport: Answers, token: str | None = None) -> tuple[HubClient, ToldClock]:
    clock = ToldClock()
    client = httpx.AsyncClient(transport=transport)
    return HubClient(HUB, token, client, clock.sleep, clock=clock), clock


def resolved() -> httpx.Response:
    return httpx.Response(200, json={"sha": COMMIT})


@pytest.mark.parametrize(
    ("status", "headers", "token", "failure", "hint"),
    [
        (401, {"X-Error-Code": "GatedRepo"}, False, GatedNoToken, "set HF_TOKEN"),
        (403, {"X-Error-Code": "GatedRepo"}, True, GatedNotAccepted, "accept its licence"),
        (401, {"X-Error-Code": "RepoNotFound"}, False, NoSuchRepo, "if it is private, set HF_TOKEN"),
        (404, {"X-Error-Code": "RepoNotFound"}, True, NoSuchRepo, "no model org/tiny"),
        (404, {}, False, NoSuchRepo, "no model org/tiny"),
        (401, {}, False, NoSuchRepo, "set HF_TOKEN"),
        (404, {"X-Error-Code": "RevisionNotFound"}, False, NoSuchRevision, "'main'"),
        (401, {}, True, TokenRefused, "does not accept HF_TOKEN"),
        (403, {"X-Error-Message": "gated repositories are not enabled"}, True, TokenRefused, "not enabled"),
        (403, {"X-Error-Message": "Access to this resource is disabled."}, True, RepoDisabled, "disabled"),
        (403, {}, False, HubMisbehaved, "HTTP 403"),
        (404, {"X-Error-Code": "EntryNotFound"}, False, HubMisbehaved, "EntryNotFound"),
        (416, {"Content-Range": "bytes */7"}, False, WrongBytes, "says 10 bytes, its file has 7 bytes"),
        (416, {"Content-Range": "bytes */10"}, False, HubMisbehaved, "HTTP 416"),
        (418, {}, False, HubMisbehaved, "HTTP 418"),
    ],
)
def test_what_a_refusal_means(
    status: int, headers: dict[str, str], token: bool, failure: type[JobFailure], hint: str
) -> None:
    response = httpx.Response(status, headers=headers, request=httpx.Request("GET", f"{HUB}/org/tiny"))
    found = refusal(response, Asked(HUB, token, "org/tiny", "main", FILE))
    assert type(found) is failure
    assert hint in str(found)


def test_the_refusal_of_another_host_is_not_taken_for_the_hubs_and_its_address_stays_secret() -> None:
    request = httpx.Request("GET", "https://cdn.example/file?signature=secret")
    found = refusal(httpx.Response(404, request=request), Asked(HUB, True, "org/tiny", "main", FILE))
    assert type(found) is HubUnreachable
    assert "cdn.example" in str(found)
    assert "secret" not in str(found)


async def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    transport = Answers(lambda: httpx.Response(200, stream=Body([b'{"sha"'], breaks=True)), resolved)
    client, clock = hub(transport)
    assert (await client.resolve("org/tiny", "main")).commit == COMMIT
    assert clock.waits == [0.5]


async def test_an_answer_that_is_damaged_on_the_way_is_asked_for_again() -> None:
    damaged = {"Content-Encoding": "gzip"}
    transport = Answers(lambda: httpx.Response(200, headers=damaged, stream=Body([b"no gzip"])), resolved)
    client, clock = hub(transport)
    assert (await client.resolve("org/tiny", "main")).commit == COMMIT
    assert clock.waits == [0.5]


async def test_an_answer_that_always_breaks_off_is_given_up() -> None:
    transport = Answers(*[lambda: httpx.Response(200, stream=Body([b"{"], breaks=True))] * TRIES)
    with pytest.raises(HubUnreachable, match="ReadError: reset; tried 5 times"):
        await hub(transport)[0].resolve("org/tiny", "main")


async def test_an_answer_without_end_is_refused() -> None:
    chunk = bytes(1 << 20)
    transport = Answers(
        lambda: httpx.Response(200, stream=Body([chunk] * (MAX_ANSWER_BYTES // len(chunk) + 1)))
    )
    with pytest.raises(HubMisbehaved, match=f"more than {MAX_ANSWER_BYTES} bytes"):
        await hub(transport)[0].resolve("org/tiny", "main")


@pytest.mark.parametrize("body", [b"<html>", b"[" * 100_000, b"\xff", b"[]", b"null"])
async def test_an_answer_that_no_hub_gives_is_refused(body: bytes) -> None:
    with pytest.raises(HubMisbehaved, match="hub"):
        await hub(Answers(lambda: httpx.Response(200, content=body)))[0].resolve("org/tiny", "main")


async def test_another_commit_than_the_one_asked_for_is_refused() -> None:
    with pytest.raises(HubMisbehaved, match=f"names {COMMIT} when it is asked for commit {'1' * 40}"):
        await hub(Answers(resolved))[0].resolve("org/tiny", "1" * 40)


async def test_a_revision_is_quoted_whole() -> None:
    transport = Answers(resolved)
    await hub(transport)[0].resolve("org/tiny", "refs/pr/1")
    assert transport.asked[0].url.raw_path == b"/api/models/org/tiny/revision/refs%2Fpr%2F1"


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        (f"{HUB}/elsewhere", True),
        ("/elsewhere", True),
        ("http://hub.example/elsewhere", False),
        ("https://hub.example:8443/elsewhere", False),
        ("https://hub.example.evil/elsewhere", False),
    ],
)
async def test_a_redirect_is_shown_the_token_only_at_the_hubs_own_origin(place: str, shown: bool) -> None:
    transport = Answers(lambda: httpx.Response(307, headers={"Location": place}), resolved)
    await hub(transport, "hf_secret")[0].resolve("org/tiny", "main")
    assert ["authorization" in request.headers for request in transport.asked] == [True, shown]


async def test_redirects_in_a_circle_are_given_up() -> None:
    circle = [lambda: httpx.Response(307, headers={"Location": "/api/models/org/tiny/revision/main"})]
    with pytest.raises(HubUnreachable, match="TooManyRedirects"):
        await hub(Answers(*circle * 200))[0].resolve("org/tiny", "main")


async def test_a_list_of_files_that_repeats_a_page_is_refused() -> None:
    def page() -> httpx.Response:
        return httpx.Response(200, json=[], headers={"Link": f'<{HUB}/x?cursor=1>; rel="next"'})

    with pytest.raises(HubMisbehaved, match="repeats the same page"):
        await hub(Answers(page, page, page))[0].tree("org/tiny", COMMIT)
