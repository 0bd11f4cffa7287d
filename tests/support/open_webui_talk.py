"""What Open WebUI 0.12 sends to a gateway, request by request, as was measured."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from support.chat_ui_talk import KEY, Material, Site
from support.streamed_answers import NotUnderstood, StreamedAnswer, read_stream

_HEADERS = {"authorization": f"Bearer {KEY}", "user-agent": "Python/3.11 aiohttp/3.13.2"}
_BACKGROUND = {
    "title": 'Answer with JSON: {"title": "a title of this chat in three to five words"}',
    "tags": 'Answer with JSON: {"tags": ["one to three words that sort this chat"]}',
    "follow-ups": 'Answer with JSON: {"follow_ups": ["what the user may ask next"]}',
    "search query": 'Answer with JSON: {"queries": ["what to look up"]}',
}


class OpenWebUi:
    """Its requests, with the settings of docker-compose.chatui.yml."""

    def __init__(self, client: httpx.Client, site: Site) -> None:
        self._client, self._site = client, site

    def lists_models(self) -> list[str]:
        """The ids; it shows all of them."""
        answer = self._succeeded(self._client.get(f"{self._site.url}/v1/models", headers=_HEADERS))
        return [str(model["id"]) for model in answer.json()["data"]]

    def chats(self, words: str) -> StreamedAnswer:
        """One turn in a browser, which wants the tokens counted."""
        body = {
            "model": self._site.chat,
            "messages": [{"role": "user", "content": words}],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.01,
        }
        url = f"{self._site.url}/v1/chat/completions"
        with self._client.stream("POST", url, json=body, headers=_HEADERS) as response:
            answer = read_stream(response)
        if not answer.usage or not answer.usage["total_tokens"]:
            raise NotUnderstood(f"no tokens were counted: {answer}")
        return answer

    def asks_in_the_background(self, task: str, words: str) -> dict[str, Any]:
        """What it wants to know about a chat after each turn: not streamed, to the same model."""
        body = {
            "model": self._site.chat,
            "messages": [{"role": "user", "content": f"{_BACKGROUND[task]}\n\nUser: {words}"}],
            "stream": False,
            "max_tokens": 1000,
        }
        url = f"{self._site.url}/v1/chat/completions"
        answer: dict[str, Any] = self._succeeded(self._client.post(url, json=body, headers=_HEADERS)).json()
        content = answer["choices"][0]["message"]["content"]
        if not isinstance(content, str) or answer["choices"][0]["finish_reason"] not in ("stop", "length"):
            raise NotUnderstood(f"no text in the answer: {answer}")
        return answer

    def embeds(self, *texts: str) -> list[list[float]]:
        """Pieces of a document. It names no encoding, and cannot read base64."""
        body = {"input": list(texts), "model": self._site.embedding}
        url = f"{self._site.url}/v1/embeddings"
        data = self._succeeded(self._client.post(url, json=body, headers=_HEADERS)).json()["data"]
        if [item["index"] for item in data] != list(range(len(texts))):
            raise NotUnderstood("the vectors are not in the order of the texts")
        if not all(isinstance(number, float) for item in data for number in item["embedding"]):
            raise NotUnderstood("a vector is not made of plain numbers")
        return [item["embedding"] for item in data]

    def hears(self, recording: Path) -> str:
        """An upload without a length, whose file says nothing of its kind."""
        edge = "----openwebui7d1f"
        answer = self._client.post(
            f"{self._site.url}/v1/audio/transcriptions",
            content=_form(edge, {"model": self._site.transcription}, recording.name, recording.read_bytes()),
            headers={**_HEADERS, "content-type": f"multipart/form-data; boundary={edge}"},
        )
        return str(self._succeeded(answer).json()["text"])

    @staticmethod
    def _succeeded(answer: httpx.Response) -> httpx.Response:
        if answer.status_code != 200:
            raise NotUnderstood(f"{answer.request.url}: {answer.status_code} {answer.text[:500]}")
        return answer


def open_webui_talk(client: httpx.Client, site: Site, material: Material) -> dict[str, str]:
    """All of it once; what each request brought. Raises NotUnderstood."""
    webui, question = OpenWebUi(client, site), "What is the capital of France?"
    steps: dict[str, Callable[[], str]] = {
        "models": lambda: " ".join(sorted(webui.lists_models())),
        "chat": lambda: webui.chats(question).text,
        **{
            task: lambda task=task: str(webui.asks_in_the_background(task, question)["model"])  # type: ignore[misc]
            for task in _BACKGROUND
        },
        "embeddings": lambda: str(len(webui.embeds("The striker scored a late goal.", "Stir the soup."))),
        "transcription": lambda: webui.hears(material.recording),
    }
    return {name: step() for name, step in steps.items()}


def _form(edge: str, fields: dict[str, str], name: str, file: bytes) -> Iterator[bytes]:
    for field, value in fields.items():
        yield f'--{edge}\r\ncontent-disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
    yield (
        f'--{edge}\r\ncontent-disposition: form-data; name="file"; filename="{name}"\r\n'
        "content-type: application/octet-stream\r\n\r\n"
    ).encode()
    for start in range(0, len(file), 65536):
        yield file[start : start + 65536]
    yield f"\r\n--{edge}--\r\n".encode()
