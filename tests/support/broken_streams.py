"""Streams of a worker, cut after every block and gone on with, and what a client makes of both parts."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from msp_gateway.head import JsonRequest
from msp_gateway.resume.continuation import Continuation, lacks_its_end_only
from msp_gateway.resume.delivered import read_delivered

DONE = b"data: [DONE]\n\n"


@dataclass
class Heard:
    """What a client of a stream has heard."""

    heads: set[tuple[str, int]] = field(default_factory=set)
    roles: int = 0
    content: str = ""
    thinking: str = ""
    finishes: list[str] = field(default_factory=list)
    usages: list[dict[str, Any]] = field(default_factory=list)
    dones: int = 0
    token_ids: list[int] = field(default_factory=list)
    errors: list[Any] = field(default_factory=list)


def heard(raw: bytes) -> Heard:
    """By a reader of its own, so that the gateway's is not checked by itself."""
    found = Heard()
    for line in raw.decode().split("\n"):
        if line.startswith(": t "):
            found.token_ids += map(int, line[4:].split(","))
        elif line == "data: [DONE]":
            found.dones += 1
        elif line.startswith("data: "):
            _add(found, json.loads(line[6:]))
    return found


def _add(found: Heard, event: dict[str, Any]) -> None:
    if "error" in event:
        found.errors.append(event["error"])
        return
    found.heads.add((event["id"], event["created"]))
    if event.get("usage"):
        found.usages.append(event["usage"])
    for choice in event["choices"]:
        delta = choice.get("delta", {})
        found.roles += "role" in delta
        found.content += (delta.get("content") or "") + choice.get("text", "")
        found.thinking += delta.get("reasoning_content", "")
        found.finishes += [choice["finish_reason"]] if choice["finish_reason"] else []


def asked(url: str, path: str, body: bytes) -> bytes:
    """A worker's whole stream with token ids in it."""
    answer = httpx.post(
        f"{url}{path}", content=body, headers={"x-msp-resumable": "1", "content-type": "application/json"}
    )
    assert answer.status_code == 200, answer.text
    assert (answer.headers.get("x-msp-continues") == "1") == (b'"continue"' in body)
    return answer.content


def after_every_cut(url: str, path: str, body: dict[str, Any]) -> Iterator[tuple[bytes, bytes, bytes]]:
    """The undisturbed stream, then for each of its blocks what was sent before and what is sent after it.

    The gateway's own functions read the first part and ask for the second.
    """
    request = JsonRequest([json.dumps({"stream": True, **body}).encode()])
    whole = asked(url, path, b"".join(request.body_for("").chunks()))
    blocks = [block + b"\n\n" for block in whole.split(b"\n\n")[:-1]]
    for count in range(len(blocks)):
        passed = b"".join(blocks[:count])
        delivered = read_delivered(passed)
        if lacks_its_end_only(request, delivered):
            yield whole, passed, DONE
            continue
        rest = asked(url, path, b"".join(Continuation(request, delivered).body_for("").chunks()))
        # Who begins anew forgets what was told before the first event.
        yield whole, passed if delivered.id else b"", rest


def check_every_cut(url: str, path: str, body: dict[str, Any]) -> Heard:
    """Each time both parts together are the undisturbed stream; what is heard in that."""
    right, cuts = Heard(), 0
    for whole, passed, rest in after_every_cut(url, path, body):
        right, cuts = heard(whole), cuts + 1
        together = heard(passed + rest)
        assert len(together.heads) == 1
        together.heads = right.heads  # of another request
        assert together == right, passed[-200:]
    assert cuts > 3
    assert right.dones == 1
    assert right.token_ids
    return right
