"""Setup, bundle, import where there is nothing, answers; and again from a delta. With the real images."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from support.airgap_site import AirgapSite
from support.four_types import QUESTIONS
from support.sample_hub import SAMPLES, first_commit, later_commit

pytestmark = pytest.mark.stack


@pytest.fixture
def client(site: AirgapSite) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{site.base_url}/v1", api_key="none", max_retries=0) as client:
        yield client


def test_the_whole_bundle_is_served(site: AirgapSite) -> None:
    whole = site.carried[0]
    assert whole.page["base"] is None
    assert whole.commits == {model: first_commit(model) for model in SAMPLES}


def test_no_model_can_be_fetched_here(site: AirgapSite) -> None:
    token = site.setting("REGISTRY_ADMIN_TOKEN")
    with site.engine.forwarded_port(8090) as port:
        answer = httpx.post(
            f"http://127.0.0.1:{port}/models/samples/other/download",
            headers={"Authorization": f"Bearer {token}"},
        )
    assert answer.status_code == 409, answer.text


def test_a_delta_brings_nothing_but_what_is_new(site_after_delta: AirgapSite) -> None:
    whole, delta = site_after_delta.carried
    assert delta.page["base"] == whole.page["id"]
    assert delta.page["image_bytes"] == 0
    assert 0 < delta.page["model_bytes"] < whole.page["model_bytes"] / 2
    assert "loading" not in delta.imported.said()


def test_only_workers_of_a_moved_model_are_started_again(site_after_delta: AirgapSite) -> None:
    whole, delta = site_after_delta.carried
    assert delta.commits == {**whole.commits, "samples/chat": later_commit("samples/chat")}
    again = {service for service, time in delta.started.items() if whole.started[service] != time}
    assert again == {"llm"}


@pytest.mark.parametrize("kind", QUESTIONS)
def test_each_type_answers_after_the_delta(
    kind: str, site_after_delta: AirgapSite, client: openai.OpenAI
) -> None:
    QUESTIONS[kind](client)


def doctor(site: AirgapSite, *options: str) -> list[dict[str, Any]]:
    """What doctor finds on this side."""
    script = site.home / "current/scripts/msp"
    done = subprocess.run(
        site.engine.inside([str(script), "doctor", "--json", *options]),
        env=site.engine.environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.startswith("{"), done.stdout + done.stderr
    findings: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    return findings


def test_doctor_proves_the_isolation_and_finds_no_problem(unwatched_site: AirgapSite) -> None:
    findings = doctor(unwatched_site, "--airgap")
    assert [finding for finding in findings if finding["level"] == "problem"] == []
    places = [finding["level"] for finding in findings if finding["code"] == "egress"]
    # The host, and every container.
    assert places == ["ok"] * (1 + len(unwatched_site.started()))
