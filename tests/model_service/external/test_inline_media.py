"""Nothing in a request makes an external server open an address or a path."""

import json
from pathlib import Path
from typing import Any

import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.errors import InvalidRequest
from msp_model_service.engines.external.inline_media import check_media
from support.external_servers import serving

INLINE = "data:image/png;base64,AAAA"


def body(*parts: Any, content: Any = None) -> bytes:
    first = {"role": "user", "content": "plain https://example.org/ text"}
    return json.dumps({"messages": [first, {"role": "user", "content": content or list(parts)}]}).encode()


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}, "image_url.url"),
        ({"type": "image_url", "image_url": "file:///etc/passwd"}, "image_url"),
        ({"type": "image_url", "image_url": {"url": "/etc/passwd"}}, "image_url.url"),
        ({"type": "image_url", "image_url": {"url": ["ftp://a"]}}, "image_url.url"),
        ({"image_url": "http://10.0.0.1/"}, "image_url"),
        ({"type": "image", "image": "/etc/passwd"}, "image"),
        ({"type": "image", "source": {"type": "url", "url": "http://a"}}, "source.url"),
        ({"type": "video_url", "video_url": {"url": "http://a"}}, "video_url.url"),
        ({"type": "audio_url", "audio_url": {"url": "http://a"}}, "audio_url.url"),
        ({"type": "new_kind", "anything": "http://a"}, "anything"),
        ({"type": "text", "text": "x", "image_url": {"url": "http://a"}}, "image_url.url"),
    ],
)
def test_what_leads_elsewhere_is_refused_by_its_place(part: Any, place: str) -> None:
    with pytest.raises(InvalidRequest, match="only data: URLs are taken") as caught:
        check_media(body({"type": "text", "text": "look"}, part))
    assert caught.value.param == f"messages.1.content.1.{place}"


def test_a_single_part_in_place_of_a_list_is_looked_at_too() -> None:
    with pytest.raises(InvalidRequest):
        check_media(body(content={"type": "image_url", "image_url": "http://a"}))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "http://example.org/"},
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "5m"}},
        {"type": "image_url", "image_url": {"url": INLINE, "detail": "low"}},
        {"type": "image_url", "image_url": INLINE.replace("data", "DATA")},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "refusal", "refusal": "no"},
        "a text",
        7,
    ],
)
def test_what_is_in_the_request_itself_passes(part: Any) -> None:
    check_media(body(part))


@pytest.mark.parametrize("raw", [b"{}", b'{"messages": null}', b'{"messages": [{"content": null}]}'])
def test_bodies_without_content_pass(raw: bytes) -> None:
    check_media(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"messages": [{"content": [{"image_url": "http://a"}]}], "messages": []}',
        b'{"messages": [{"content": [{"image_url": "http://a", "image_url": "data:,"}]}]}',
        b'{"messages": [{"content": [{"image_url": "http://a", "image\\u005furl": "data:,"}]}]}',
    ],
)
def test_a_key_that_stands_twice_hides_nothing(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="a key stands twice"):
        check_media(raw)


@pytest.mark.parametrize("raw", [b'{"messages": "a"}', b'{"messages": [1]}'])
def test_messages_that_cannot_be_looked_at_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="expected a list of objects"):
        check_media(raw)


async def test_such_a_request_never_reaches_the_server(tmp_path: Path) -> None:
    async with serving(tmp_path, type=ModelType.MULTIMODAL) as worker:
        part = {"type": "image_url", "image_url": {"url": "http://10.0.0.1/"}}
        answer = await worker.http.post("/v1/chat/completions", content=body(part))
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "messages.1.content.0.image_url.url"
        assert worker.asked() == []
