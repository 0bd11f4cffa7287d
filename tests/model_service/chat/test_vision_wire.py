"""Images in conversations: decoded by us, from data URIs, and nothing else is ever opened."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.chat.images import ImageLimits
from support.chat_fakes import chat_app, data_uri, fake_engine, image_bytes, image_part, user
from support.servers import run_server

Make = Any
PLACEHOLDER = data_uri(image_bytes((16, 16), "white", "JPEG"))


@pytest.fixture(scope="module")
def sees(client_for: Make) -> openai.OpenAI:
    client: openai.OpenAI = client_for(type=ModelType.MULTIMODAL)
    return client


def post(client: openai.OpenAI, *messages: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{client.base_url}chat/completions", json={"messages": list(messages)})


def said(client: openai.OpenAI, *messages: dict[str, Any]) -> str:
    answer = post(client, *messages)
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def text_part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_an_image_reaches_the_engine_whatever_its_label(sees: openai.OpenAI, form: str) -> None:
    url = data_uri(image_bytes(form=form), "image/bmp")
    assert said(sees, user([text_part("what?"), image_part(url)])) == "You said: what? I see 20 x 10 pixels."


def test_the_url_may_be_given_as_a_plain_string(sees: openai.OpenAI) -> None:
    part = {"type": "image_url", "image_url": data_uri()}
    assert said(sees, user([part])) == "You said:  I see 20 x 10 pixels."


def test_several_images_keep_their_order(sees: openai.OpenAI) -> None:
    parts = [image_part(data_uri(image_bytes((n, 1)))) for n in (2, 3)]
    assert said(sees, user(parts)).endswith("I see 2 x 1 pixels. I see 3 x 1 pixels.")


def test_images_in_markdown_are_lifted_and_placeholders_dropped(sees: openai.OpenAI) -> None:
    shown = user(f"what? ![]({data_uri()})}})")
    earlier = {"role": "assistant", "content": f"hm ![]({PLACEHOLDER})}})"}
    assert said(sees, earlier, shown) == "You said: what? I see 20 x 10 pixels."
    assert said(sees, user(f"and now? ![]({PLACEHOLDER})}})")) == "You said: and now?"


def test_a_text_model_refuses_images_and_strips_those_in_markdown(client: openai.OpenAI) -> None:
    answer = post(client, user([text_part("a"), image_part(data_uri())]))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages.0.content.1.image_url")
    assert said(client, user(f"hi ![]({PLACEHOLDER})}})")) == "You said: hi"


def test_a_damaged_image_is_refused_by_its_place(sees: openai.OpenAI) -> None:
    answer = post(sees, user("a"), user([text_part("b"), image_part(data_uri(image_bytes()[:30]))]))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages.1.content.1.image_url")
    in_words = post(sees, user("![](data:image/png;base64,AAAA)"))
    assert in_words.status_code == 400


def test_too_many_images_are_refused(sees: openai.OpenAI) -> None:
    answer = post(sees, user([image_part(data_uri())] * 17))
    assert answer.json()["error"]["code"] == "too_many_images"


def test_all_images_of_a_request_have_a_limit_together() -> None:
    limits = ImageLimits(pixels_all=500)
    with run_server(chat_app(fake_engine(ModelType.MULTIMODAL), ModelType.MULTIMODAL, limits=limits)) as url:

        def answered(count: int) -> httpx.Response:
            body = {"messages": [user([image_part(data_uri())] * count)]}
            return httpx.post(f"{url}/v1/chat/completions", json=body)

        assert answered(2).status_code == 200
        error = answered(3).json()["error"]
        assert (error["code"], error["param"]) == ("image_too_large", "messages.0.content.2.image_url")


def test_only_users_show_images(sees: openai.OpenAI) -> None:
    answer = post(sees, {"role": "assistant", "content": [image_part(data_uri())]}, user("a"))
    assert answer.json()["error"]["param"] == "messages.0.content.0.image_url"


@pytest.fixture
def tripwire() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that must never be asked, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()


def test_no_address_and_no_file_is_ever_opened(
    sees: openai.OpenAI, tripwire: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = tripwire
    canary = tmp_path / "canary.png"
    canary.write_bytes(image_bytes((7, 7)))
    names = [f"{address}/a.png", f"file://{canary}", str(canary), canary.as_uri(), f"{address}/b.png#data:"]
    for name in names:
        answer = post(sees, user([image_part(name)]))
        assert answer.status_code == 400, name
        assert answer.json()["error"]["param"] == "messages.0.content.0.image_url"
        words = said(sees, user(f"![]({name})"), user("and?"))
        assert "pixels" not in words
        hidden = {"type": "text", "text": "x", "image": name, "url": name, "path": name}
        assert "pixels" not in said(sees, user([hidden]))
    assert asked == []
