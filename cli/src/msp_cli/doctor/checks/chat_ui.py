"""The Chat UI: which models it shows, and whether it finds them."""

import re
from urllib.parse import urlsplit

from msp_cli.doctor.facts import ChatUi, Facts
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown
from msp_cli.doctor.site import Unknown

LAST_WITH_MODELS = (0, 9, 5)
"""Later ones ignore MODELS, and list what OPENAI_BASE_URL has: by default the Hub's router, with over 110."""

_URL = re.compile(r"[\"']?(?:baseURL|endpoint|url)[\"']?\s*:\s*[\"'](https?://[^\"']+)[\"']")
_VERSION = re.compile(r":v?(\d+)\.(\d+)\.(\d+)")


def check(facts: Facts) -> list[Finding]:
    """Both matters, for each Chat UI that there is."""
    both = (Code.FOREIGN_MODELS, Code.CHAT_UI_CANNOT_CONNECT)
    if isinstance(facts.chat_uis, Unknown):
        return [unknown(code, f"chatui.env: {facts.chat_uis.why}") for code in both]
    if not facts.chat_uis:
        return [ok(code, "no Chat UI is set up here") for code in both]
    return [finding for ui in facts.chat_uis for finding in (_models(ui), *_connection(ui))]


def _models(ui: ChatUi) -> Finding:
    base, models = ui.env.get("OPENAI_BASE_URL"), ui.env.get("MODELS")
    reads_models = _reads_models(ui)
    if reads_models is None:
        return unknown(
            Code.FOREIGN_MODELS,
            f"whether {ui.name} reads MODELS; the version of its image is not known ({ui.image})",
            "versions up to 0.9.5 do; later ones want OPENAI_BASE_URL=http://gateway:8080/v1",
        )
    if reads_models and not models:
        return _foreign(ui, "MODELS is not set")
    if reads_models and ui.env.get("ENABLE_COMMUNITY_MODELS", "").lower() == "true":
        return _foreign(ui, "ENABLE_COMMUNITY_MODELS is true")
    if not reads_models and not base:
        return _foreign(
            ui, f"{ui.image} takes its list from OPENAI_BASE_URL, not MODELS, and that is not set"
        )
    if not reads_models and "huggingface.co" in (base or ""):
        return _foreign(ui, f"OPENAI_BASE_URL is {base}")
    return ok(Code.FOREIGN_MODELS, f"{ui.name} lists the models of {'MODELS' if reads_models else base}")


def _foreign(ui: ChatUi, why: str) -> Finding:
    return problem(
        Code.FOREIGN_MODELS,
        f"{ui.name} shows models that are not yours: {why}",
        "chat-ui 0.8.4: MODELS and ENABLE_COMMUNITY_MODELS=false in chatui.env, and the image pinned; "
        "newer ones: OPENAI_BASE_URL=http://gateway:8080/v1; then docker compose up -d with "
        "docker-compose.chatui.yml",
    )


def _connection(ui: ChatUi) -> list[Finding]:
    urls = [*_URL.findall(ui.env.get("MODELS", ""))]
    if base := ui.env.get("OPENAI_BASE_URL"):
        urls.append(base)
    urls = list(dict.fromkeys(urls))
    findings = [finding for url in urls if (finding := _address(ui, url))]
    if findings:
        return findings
    if not urls:
        return [unknown(Code.CHAT_UI_CANNOT_CONNECT, f"the settings of {ui.name} name no address of a model")]
    return [ok(Code.CHAT_UI_CANNOT_CONNECT, f"{ui.name} asks {', '.join(urls)}")]


def _address(ui: ChatUi, url: str) -> Finding | None:
    host = urlsplit(url).hostname or ""
    if host in ("localhost", "0.0.0.0", "::1") or host.startswith("127."):
        return problem(
            Code.CHAT_UI_CANNOT_CONNECT,
            f"{ui.name} is told {url}: inside its container that is the container itself",
            "use the service's name, such as http://gateway:8080/v1 or http://llm:8000/v1",
        )
    if not urlsplit(url).path.rstrip("/").endswith("/v1"):
        return problem(
            Code.CHAT_UI_CANNOT_CONNECT,
            f"{ui.name} is told {url}, without /v1 at its end",
            "add it: the Chat UI appends /chat/completions to what stands there",
        )
    return None


def _reads_models(ui: ChatUi) -> bool | None:
    """By the image's version; None where that is not known."""
    match = _VERSION.search(ui.image)
    if not match:
        return None
    return tuple(int(part) for part in match.groups()) <= LAST_WITH_MODELS
