"""The web interfaces' own requests, on the real platform: every answer is one that they can read."""

from collections.abc import Iterator

import httpx
import pytest

from support.chat_ui_talk import Material, Site, chat_ui_talk
from support.interface_material import material
from support.open_webui_talk import open_webui_talk
from support.platform_processes import Platform

MODELS = "samples/chat samples/embedding samples/vision samples/whisper"


@pytest.fixture
def browserless() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=120, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def handed_over() -> Material:
    return material()


def test_chat_ui_is_answered_in_both_of_its_generations(
    platform: Platform, browserless: httpx.Client, handed_over: Material
) -> None:
    site = Site(platform.url(8080))
    said = chat_ui_talk(browserless, site, handed_over)
    assert "Paris" in said["0.8.4 chat"]
    assert "Paris" in said["0.8.4 preprompt"]
    assert "Paris" in said["current chat"]
    assert said["0.8.4 picture"].lower() == said["current picture"].lower() == "a red circle."
    assert said["current models"] == MODELS
    assert said["current tool"] == 'get_weather {"city": "Lyon"}'
    assert said["current microphone"].split() == ["three", "one", "four"]


def test_open_webui_is_answered(platform: Platform, browserless: httpx.Client, handed_over: Material) -> None:
    said = open_webui_talk(browserless, Site(platform.url(8080)), handed_over)
    assert "Paris" in said["chat"]
    assert said["models"] == MODELS
    assert said["title"] == said["tags"] == said["follow-ups"] == said["search query"] == "samples/chat"
    assert said["embeddings"] == "2"
    assert said["transcription"].split() == ["three", "one", "four"]
