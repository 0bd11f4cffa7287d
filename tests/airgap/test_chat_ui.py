"""Web interfaces behind the air gap: their requests are answered by what was imported."""

import httpx
import pytest

from support.airgap_site import AirgapSite
from support.chat_ui_talk import Site, chat_ui_talk
from support.interface_material import material
from support.open_webui_talk import open_webui_talk

pytestmark = pytest.mark.stack


def test_chat_ui_is_answered_in_both_of_its_generations(site: AirgapSite) -> None:
    with httpx.Client(timeout=120, trust_env=False) as client:
        said = chat_ui_talk(client, Site(site.base_url), material())
    assert "Paris" in said["0.8.4 chat"]
    assert "Paris" in said["current chat"]
    assert said["0.8.4 picture"].lower() == said["current picture"].lower() == "a red circle."
    assert said["current models"].split() == sorted(site.models)
    assert said["current microphone"].split() == ["three", "one", "four"]


def test_open_webui_is_answered(site: AirgapSite) -> None:
    with httpx.Client(timeout=120, trust_env=False) as client:
        said = open_webui_talk(client, Site(site.base_url), material())
    assert "Paris" in said["chat"]
    assert said["transcription"].split() == ["three", "one", "four"]
