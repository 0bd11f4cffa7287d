"""Bad input is a 4xx in OpenAI's envelope that names the parameter, and nobody else notices."""

import base64
from typing import Any

import httpx
import pytest

from support.platform_processes import Platform

CHAT = "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello!"}]


def with_picture(url: str) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    return {"model": "samples/vision", "messages": [{"role": "user", "content": content}]}


NO_PICTURE = "data:image/png;base64," + base64.b64encode(b"this is no picture").decode()
AUDIO = "/v1/audio/transcriptions"

CASES: list[tuple[str, str, dict[str, Any], int, str | None]] = [
    ("no JSON", CHAT, {"content": b"{not json"}, 400, None),
    ("an array", CHAT, {"content": b"[]"}, 400, None),
    ("no messages", CHAT, {"json": {"model": "samples/chat"}}, 400, "messages"),
    ("an unknown model", CHAT, {"json": {"model": "no/such", "messages": HELLO}}, 404, "model"),
    (
        "an embedding model that shall chat",
        CHAT,
        {"json": {"model": "samples/embedding", "messages": HELLO}},
        400,
        "model",
    ),
    (
        "a picture that is none",
        CHAT,
        {"json": with_picture(NO_PICTURE)},
        400,
        "messages.0.content.0.image_url",
    ),
    (
        "a picture elsewhere",
        CHAT,
        {"json": with_picture("http://192.0.2.1/x.png")},
        400,
        "messages.0.content.0.image_url",
    ),
    (
        "a picture on the server",
        CHAT,
        {"json": with_picture("/etc/hostname")},
        400,
        "messages.0.content.0.image_url",
    ),
    (
        "an empty audio file",
        AUDIO,
        {"data": {"model": "samples/whisper"}, "files": {"file": ("a.wav", b"")}},
        400,
        "file",
    ),
    (
        "no audio",
        AUDIO,
        {"data": {"model": "samples/whisper"}, "files": {"file": ("a.wav", b"RIFF nonsense")}},
        400,
        "file",
    ),
    ("an empty text", "/v1/embeddings", {"json": {"model": "samples/embedding", "input": ""}}, 400, "input"),
    ("50 MB", CHAT, {"content": b"x" * 50_000_000}, 413, "body"),
    ("an unknown route", "/v1/nothing", {"json": {}}, 404, None),
]


@pytest.mark.parametrize(
    ("what", "path", "request_parts", "status", "param"), CASES, ids=[c[0] for c in CASES]
)
def test_bad_input_is_refused_by_name(
    platform: Platform, what: str, path: str, request_parts: dict[str, Any], status: int, param: str | None
) -> None:
    headers = {"Content-Type": "application/json"} if "content" in request_parts else {}
    answer = httpx.post(f"{platform.url(8080)}{path}", headers=headers, timeout=60, **request_parts)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["param"] == param
    assert answer.headers["x-request-id"]
    good = httpx.post(f"{platform.url(8080)}{CHAT}", json={"messages": HELLO}, timeout=60)
    assert good.status_code == 200
