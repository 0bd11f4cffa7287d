"""What Chat UI sends to a gateway, request by request: version 0.8.4, and the line that lists models.

The shapes were measured against the real programs. Answers are read as strictly as those programs need them.
"""

import base64
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from support.streamed_answers import NotUnderstood, StreamedAnswer, read_stream

KEY = "none"
_SDK_HEADERS = {
    "accept": "application/json",
    "authorization": f"Bearer {KEY}",
    "x-stainless-lang": "js",
    "x-stainless-os": "Linux",
    "x-stainless-arch": "x64",
    "x-stainless-runtime": "node",
    "x-stainless-retry-count": "0",
    "accept-encoding": "gzip,deflate",
}
_TITLE_RULE = "Summarise what the user asks for in four words or fewer, and begin with an emoji."
_TITLE_EXAMPLES = (
    ("Which river is the longest of Africa?", "🌍 Longest African river"),
    ("what is 3 + 4?", "🔢 Simple sum"),
    ("Who wrote Faust?", "📖 Author of Faust"),
    ("How do I bake bread without yeast?", "🍞 Bread without yeast"),
    ("Tell me today's news", "📰 News of today"),
    ("Speak like a pirate from now on", "🏴 Talk of pirates"),
    ("Explain gravity in one sentence", "🍎 Gravity explained"),
)


@dataclass(frozen=True)
class Site:
    """What is served there, as the site's settings name it."""

    url: str
    """The gateway, without `/v1`."""
    chat: str = "samples/chat"
    vision: str = "samples/vision"
    embedding: str = "samples/embedding"
    transcription: str = "samples/whisper"

    @property
    def models(self) -> set[str]:
        """All four."""
        return {self.chat, self.vision, self.embedding, self.transcription}


@dataclass(frozen=True)
class Material:
    """What people hand to the interfaces."""

    picture: Path
    """An image of any format."""
    recording: Path
    """A recording as WAV."""
    spoken: bytes
    """The same as a browser's microphone gives it: WebM with Opus."""


class ChatUi084:
    """The version that takes its models from `MODELS` and never lists them."""

    def __init__(self, client: httpx.Client, site: Site) -> None:
        self._client, self._site = client, site

    def says(self, words: str, *, preprompt: str = "") -> StreamedAnswer:
        """A chat. The system message is always there, empty where no preprompt is set."""
        return self._ask(self._site.chat, [*_system(preprompt), _user(words)])

    def says_with_penalty(self, words: str) -> StreamedAnswer:
        """With a `repetition_penalty` in `MODELS`, which it sends on as a frequency penalty."""
        return self._ask(self._site.chat, [*_system(""), _user(words)], frequency_penalty=1.2)

    def makes_a_title(self, words: str) -> StreamedAnswer:
        """The second request of each new conversation; without a limit, and worthless unless it stops."""
        examples = [m for asked, title in _TITLE_EXAMPLES for m in (_user(asked), _assistant(title))]
        body = [*_system(_TITLE_RULE), *examples, _user(words)]
        title = _stream(
            self._client, self._site, {"model": self._site.chat, "messages": body, "stream": True}
        )
        if title.finish_reason != "stop":
            raise NotUnderstood(f"0.8.4 shows no text that ends with {title.finish_reason}")
        return title

    def shows(self, picture: Path, words: str) -> StreamedAnswer:
        """A picture for a `"multimodal": true` model: markdown within the text, with its slip at the end."""
        markdown = f"![](data:image/jpeg;base64,{_jpeg(picture)})}})"
        return self._ask(self._site.vision, [*_system(""), _user(f"{words}{markdown}")])

    def says_to_the_vision_model(self, *turns: str) -> StreamedAnswer:
        """A conversation without pictures: every message, answers included, carries a white placeholder."""
        messages = [
            (_user if n % 2 == 0 else _assistant)(turn + _placeholder()) for n, turn in enumerate(turns)
        ]
        return self._ask(self._site.vision, [*_system(""), *messages])

    def _ask(self, model: str, messages: list[dict[str, Any]], **more: Any) -> StreamedAnswer:
        # Near 0, so that answers can be compared.
        body = {"model": model, "messages": messages, "stream": True, "max_tokens": 1024, "stop": []}
        return _stream(self._client, self._site, {**body, "temperature": 0.01, "top_p": 0.95, **more})


class ChatUiCurrent:
    """The version that lists what `OPENAI_BASE_URL` has."""

    def __init__(self, client: httpx.Client, site: Site) -> None:
        self._client, self._site = client, site

    def lists_models(self) -> list[dict[str, Any]]:
        """Once in its life; what it cannot read here makes every page an error until it is started anew."""
        answer = self._client.get(f"{self._site.url}/v1/models", headers={"authorization": f"Bearer {KEY}"})
        _succeeded(answer)
        listed: list[dict[str, Any]] = answer.json()["data"]
        for model in listed:
            _need(isinstance(model.get("id"), str), "a model without an id", model)
            # Its schema takes a string or nothing, and no null.
            _need(isinstance(model.get("description", ""), str), "a description that is no text", model)
            modalities = model.get("architecture", {}).get("input_modalities", [])
            _need(isinstance(modalities, list), "modalities that are no list", model)
        _need(bool(listed), "no model at all", listed)
        _need(listed[0]["id"] == self._site.chat, "the first model is the default, and cannot chat", listed)
        return listed

    def begins_a_conversation(self, words: str) -> tuple[StreamedAnswer, StreamedAnswer]:
        """The answer and the title, which it asks for at the same time."""
        title = [*_system(_TITLE_RULE), _user(f"User message: {words}")]
        with ThreadPoolExecutor(2) as pool:
            named = pool.submit(self._ask, self._site.chat, title)
            answered = pool.submit(self._ask, self._site.chat, [_user(words)])
            return answered.result(), named.result()

    def shows(self, picture: Path, words: str) -> StreamedAnswer:
        """A picture as a part of its own, made smaller, as PNG."""
        url = f"data:image/png;base64,{base64.b64encode(_encoded(picture, 'PNG')).decode()}"
        image = {"type": "image_url", "image_url": {"url": url, "detail": "auto"}}
        parts = [{"type": "text", "text": words}, image]
        return self._ask(self._site.vision, [{"role": "user", "content": parts}])

    def uses_a_tool(self, words: str) -> StreamedAnswer:
        """With servers of tools set up: the tools, and the choice left to the model."""
        parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        weather = {
            "name": "get_weather",
            "description": "Get the weather for a city",
            "parameters": parameters,
        }
        return self._ask(
            self._site.chat,
            [_user(words)],
            tools=[{"type": "function", "function": weather}],
            tool_choice="auto",
        )

    def hears(self, spoken: bytes) -> str:
        """The microphone: the recording alone, as Hugging Face's own interface takes it."""
        answer = self._client.post(
            f"{self._site.url}/hf-inference/models/{self._site.transcription}",
            content=spoken,
            headers={"authorization": f"Bearer {KEY}", "content-type": "audio/webm;codecs=opus"},
        )
        _succeeded(answer)
        return str(answer.json()["text"])

    def _ask(self, model: str, messages: list[dict[str, Any]], **more: Any) -> StreamedAnswer:
        headers = {"chatui-conversation-id": "66a1b2c3d4e5f60718293a4b", "x-use-cache": "false"}
        body = {"model": model, "messages": messages, "stream": True, "temperature": 0.01, **more}
        return _stream(self._client, self._site, body, headers)


def chat_ui_talk(client: httpx.Client, site: Site, material: Material) -> dict[str, str]:
    """All of it once; what each request brought. Raises NotUnderstood."""
    old, new = ChatUi084(client, site), ChatUiCurrent(client, site)
    answer, title = new.begins_a_conversation("What is the capital of France?")
    steps: dict[str, Callable[[], str]] = {
        "0.8.4 chat": lambda: old.says("What is the capital of France?").text,
        "0.8.4 preprompt": lambda: (
            old.says("What is the capital of France?", preprompt="You are a helpful assistant.").text
        ),
        "0.8.4 penalty": lambda: old.says_with_penalty("What is the capital of France?").text,
        "0.8.4 title": lambda: old.makes_a_title("What is the capital of France?").text,
        "0.8.4 picture": lambda: old.shows(material.picture, "What is in the picture?").text,
        "0.8.4 no picture": lambda: old.says_to_the_vision_model("Hello!", "Hello.", "Who are you?").text,
        "current models": lambda: " ".join(sorted(model["id"] for model in new.lists_models())),
        "current chat": lambda: answer.text,
        "current title": lambda: title.text,
        "current picture": lambda: new.shows(material.picture, "What is in the picture?").text,
        "current tool": lambda: "{name} {arguments}".format(
            **new.uses_a_tool("What is the weather in Lyon?").calls[0]
        ),
        "current microphone": lambda: new.hears(material.spoken),
    }
    return {name: step() for name, step in steps.items()}


def _stream(
    client: httpx.Client, site: Site, body: dict[str, Any], headers: dict[str, str] | None = None
) -> StreamedAnswer:
    headers = {**_SDK_HEADERS, "user-agent": "OpenAI/JS 4.104.0", **(headers or {})}
    with client.stream("POST", f"{site.url}/v1/chat/completions", json=body, headers=headers) as response:
        answer = read_stream(response)
    _need(answer.model == body["model"], "another model answered", answer)
    return answer


def _succeeded(answer: httpx.Response) -> None:
    _need(answer.status_code == 200, f"{answer.request.url}: {answer.status_code}", answer.text)
    kind = answer.headers.get("content-type", "")
    _need(kind.startswith("application/json"), f"the content type is {kind}", answer.text)


def _need(holds: bool, what: str, seen: object) -> None:
    if not holds:
        raise NotUnderstood(f"{what}: {str(seen)[:500]}")


def _system(words: str) -> list[dict[str, Any]]:
    return [{"role": "system", "content": words}]


def _user(words: str) -> dict[str, Any]:
    return {"role": "user", "content": words}


def _assistant(words: str) -> dict[str, Any]:
    return {"role": "assistant", "content": words}


def _encoded(picture: Path, kind: str) -> bytes:
    file = io.BytesIO()
    with Image.open(picture) as image:
        image.convert("RGB").save(file, kind)
    return file.getvalue()


def _jpeg(picture: Path) -> str:
    return base64.b64encode(_encoded(picture, "JPEG")).decode()


def _placeholder() -> str:
    """A white square of 16 by 16: labelled PNG, but a JPEG."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "white").save(file, "JPEG")
    return f"![](data:image/png;base64,{base64.b64encode(file.getvalue()).decode()})"
