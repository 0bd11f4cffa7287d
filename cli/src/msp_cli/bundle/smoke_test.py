"""The first question to a platform that was just started."""

from collections.abc import Iterator
from typing import Any

import httpx

_TEXT_LENGTH = 60


class SmokeFailed(Exception):
    """What was asked, and what came back instead of an answer."""


def run(client: httpx.Client, gateway: str, key: str | None) -> Iterator[str]:
    """A line for each thing that was asked and answered. Raises SmokeFailed.

    A gateway that wants a key which nobody gave has answered: that is told, and no failure.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    models = _send(client, "GET", f"{gateway}/v1/models", headers)
    if models is None:
        yield "the gateway answers and wants an API key; set MSP_API_KEY to ask a model too"
        return
    known = [str(model.get("id")) for model in models.get("data", [])]
    yield f"models: {', '.join(known) or 'none'}"
    services = _send(client, "GET", f"{gateway}/services", headers) or {}
    ready: dict[str, str] = {}
    for line in services.get("services", []):
        model = line.get("model") or {}
        if line.get("status") == "ready":
            ready.setdefault(str(model.get("type")), str(model.get("id")))
    if not ready:
        raise SmokeFailed("no worker is ready; `compose logs` of the worker says why")
    for model_type, model_id in sorted(ready.items()):
        yield _ask(client, gateway, headers, model_type, model_id)


def _ask(client: httpx.Client, gateway: str, headers: dict[str, str], model_type: str, model_id: str) -> str:
    if model_type == "embedding":
        body: dict[str, Any] = {"model": model_id, "input": "hello"}
        answer = _send(client, "POST", f"{gateway}/v1/embeddings", headers, body) or {}
        try:
            return f"{model_id}: a vector of {len(answer['data'][0]['embedding'])} numbers"
        except (KeyError, IndexError, TypeError):
            raise SmokeFailed(f"{model_id} gave no vector: {answer}") from None
    if model_type == "transcription":
        return f"{model_id}: ready, and not asked, since a question would be a recording"
    body = {"model": model_id, "max_tokens": 16, "messages": [{"role": "user", "content": "Say hello."}]}
    answer = _send(client, "POST", f"{gateway}/v1/chat/completions", headers, body) or {}
    try:
        return f"{model_id}: {str(answer['choices'][0]['message']['content'])[:_TEXT_LENGTH]!r}"
    except (KeyError, IndexError, TypeError):
        raise SmokeFailed(f"{model_id} gave no answer: {answer}") from None


def _send(
    client: httpx.Client, method: str, url: str, headers: dict[str, str], body: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """The answer, or None where the gateway wants a key."""
    try:
        answer = client.request(method, url, headers=headers, json=body)
        if answer.status_code == 401 and not headers:
            return None
        if answer.is_error:
            raise SmokeFailed(f"{method} {url} was answered with {answer.status_code}: {answer.text[:300]}")
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise SmokeFailed(f"{method} {url}: {error}") from None
    return found
