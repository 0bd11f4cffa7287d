"""The imported platform, from its import to a day's work, never tries to leave."""

import json
import os
import sys
from pathlib import Path

import httpx
import pytest

from support.airgap_site import AirgapSite
from support.chat_ui_talk import Site, chat_ui_talk
from support.egress_sink import Attempt, EgressSink, names_within
from support.hub_clients import AIRGAP
from support.interface_material import material
from support.open_webui_talk import open_webui_talk

pytestmark = pytest.mark.stack

PLANTED = "planted-offender"
REGISTRY_PORT = 8090
DOWNLOAD = (
    "import sys, huggingface_hub as hub; print(hub.snapshot_download(sys.argv[1], local_dir=sys.argv[2]))"
)
PHONE_HOME = "import urllib.request; urllib.request.urlopen('https://huggingface.co/api/models', timeout=5)"


def talk_as_web_interfaces(site: AirgapSite) -> None:
    """Chats, pictures, embeddings, recordings: all four types of model."""
    with httpx.Client(timeout=120, trust_env=False) as client:
        said = chat_ui_talk(client, Site(site.base_url), material())
        said |= open_webui_talk(client, Site(site.base_url), material())
    assert all(said.values()), said


def download_with_a_stock_client(site: AirgapSite, place: Path) -> None:
    """From the registry, within the site, with the settings that we tell users."""
    told = {**AIRGAP, "HF_ENDPOINT": f"http://127.0.0.1:{REGISTRY_PORT}", "HF_HOME": str(place / "hf")}
    settings = [f"{name}={value}" for name, value in told.items()]
    command = ["env", "-i", f"HOME={place}", f"PATH={os.defpath}", *settings, sys.executable, "-c", DOWNLOAD]
    site.engine.run_inside([*command, site.models[0], str(place / "model")])
    assert (place / "model/config.json").is_file()


def ask_the_registry(site: AirgapSite) -> None:
    """Its list, each model, its metrics, its page of documentation."""
    with (
        site.engine.forwarded_port(REGISTRY_PORT) as port,
        httpx.Client(trust_env=False, timeout=30) as client,
    ):
        url = f"http://127.0.0.1:{port}"
        listed = client.get(f"{url}/models").json()["models"]
        assert sorted(model["id"] for model in listed) == sorted(site.models)
        for path in ("metrics", "docs", *(f"models/{model}" for model in site.models)):
            assert client.get(f"{url}/{path}").status_code == 200, path


def operate(site: AirgapSite) -> None:
    """What an operator does in the morning."""
    program = str(site.home / "current/scripts/msp")
    for command in (["status"], ["models", "list"]):
        site.engine.run_inside(["bash", program, *command], timeout_s=300)
    # It may find something to tell, such as that the clock is not kept; that ends it with 1.
    site.engine.run_inside(["bash", program, "doctor"], check=False, timeout_s=300)


def of_the_platform(sink: EgressSink, site: AirgapSite) -> list[Attempt]:
    """The record without what this file plants."""
    return [one for one in sink.attempts(names_within(site.engine)) if not one.who.startswith(PLANTED)]


def test_from_the_import_to_a_days_work_nobody_tries_to_leave(
    site_after_delta: AirgapSite, sink: EgressSink, tmp_path: Path
) -> None:
    site = site_after_delta
    talk_as_web_interfaces(site)
    download_with_a_stock_client(site, tmp_path)
    ask_the_registry(site)
    operate(site)
    attempts = of_the_platform(sink, site)
    assert attempts == [], "\n".join(map(str, attempts))


def test_nobody_leaves_although_ports_are_published(site: AirgapSite, sink: EgressSink) -> None:
    """Both at once: the ports of `default` and `operators` answer, and the networks lead nowhere."""
    assert httpx.get(f"{site.base_url}/health", trust_env=False).status_code == 200
    with site.engine.forwarded_port(REGISTRY_PORT) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/health", trust_env=False).status_code == 200
    networks = [f"{site.project}_{name}" for name in ("default", "operators", "control", "storage")]
    told = {one["Name"]: one for one in json.loads(site.engine.docker("network", "inspect", *networks))}
    masquerading = "com.docker.network.bridge.enable_ip_masquerade"
    for name in networks[:2]:
        assert told[name]["Options"][masquerading] == "false", name
    for name in networks[2:]:
        assert told[name]["Internal"] is True, name
    assert of_the_platform(sink, site) == []


@pytest.mark.parametrize("network", ["default", "control"])
def test_an_offender_among_them_would_be_caught(site: AirgapSite, sink: EgressSink, network: str) -> None:
    """Or else the empty record would prove nothing: with our own image, on the stack's own networks."""
    who = f"{PLANTED}-{network}"
    image = site.engine.docker("inspect", "--format", "{{.Config.Image}}", "model-gateway").strip()
    command = ["run", "--rm", "--pull", "never", "--name", who, "--network", f"{site.project}_{network}"]
    site.engine.docker(*command, image, "python", "-c", PHONE_HOME, check=False)
    asked, sent = [one for one in sink.attempts() if one.who == who]
    assert asked == Attempt(who, "name", "huggingface.co")
    assert (sent.how, sent.host) == ("tcp", "huggingface.co")
