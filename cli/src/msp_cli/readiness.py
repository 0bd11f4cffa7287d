"""What a service says of itself while it starts."""

import json
from dataclasses import dataclass
from typing import Any

import httpx

ANSWER_WITHIN_S = 5.0


@dataclass(frozen=True)
class Readiness:
    """Whether a service is healthy, and what it is doing if not."""

    healthy: bool
    doing: str
    progress: float | None = None


NOT_LISTENING = Readiness(False, "starting")


async def ask(client: httpx.AsyncClient, health_url: str) -> Readiness:
    """Ask a service's health; 200 is healthy. Never raises for what a network or a service can do."""
    try:
        answer = await client.get(health_url, timeout=ANSWER_WITHIN_S)
    except httpx.HTTPError:
        return NOT_LISTENING
    return _understood(answer)


def _understood(answer: httpx.Response) -> Readiness:
    try:
        body: Any = answer.json()
    except json.JSONDecodeError:
        body = None
    said = body if isinstance(body, dict) else {}
    progress = said.get("progress")
    fallback = str(said.get("state") or said.get("status") or f"answers {answer.status_code}")
    return Readiness(
        healthy=answer.status_code == 200,
        doing=str(said.get("reason") or fallback),
        progress=float(progress) if isinstance(progress, int | float) else None,
    )
