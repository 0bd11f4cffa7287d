"""The card of a worker before an external server: what it minds itself, and that all else is passed on."""

import json
from pathlib import Path
from typing import Any

import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.conformance.responding import STATEFUL
from msp_model_service.conformance.tables import TABLES
from support.audio_files import wav
from support.chat_fakes import image_part, user
from support.conformance_cases import CASES
from support.external_servers import Serving, say, serving
from support.fake_openai_server import THEIR_NAME

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
MINDED = {"model", "messages", "stream", "stream_options"}


async def card_of(worker: Serving) -> dict[str, Any]:
    answer = await worker.http.get("/v1/models")
    card: dict[str, Any] = answer.json()["data"][0]["conformance"]
    return card


@pytest.mark.parametrize("type", ModelType)
async def test_a_card_names_what_is_minded_here_and_passes_all_else_on(
    tmp_path: Path, type: ModelType
) -> None:
    async with serving(tmp_path, type=type) as worker:
        card = await card_of(worker)
        paths = worker.engine.capabilities().paths
    assert (card["engine"], card["other_fields"]) == ("openai", "passed_on")
    assert list(card["paths"]) == paths
    for entries in card["paths"].values():
        assert {"field": "model", "standing": "honoured"}.items() <= entries[0].items()


async def test_all_other_fields_of_a_chat_reach_the_server_as_they_were_sent(tmp_path: Path) -> None:
    fields = [field for field in TABLES[CHAT] if "." not in field.name and field.name not in MINDED]
    sent: dict[str, Any] = {}
    for field in fields:
        sent |= {**CASES[CHAT][field.name, field.value].sent}
    async with serving(tmp_path) as worker:
        answer = await worker.http.post(CHAT, json={**say("hello"), **sent})
        assert answer.status_code == 200
        [seen] = worker.asked()
    body = json.loads(seen["body"])
    assert body.pop("model") == THEIR_NAME
    assert body.pop("messages") == [user("hello")]
    assert body == sent


async def test_what_the_card_says_is_minded_here_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as worker:
        [entry] = [one for one in (await card_of(worker))["paths"][CHAT] if one["field"] == "messages"]
        away = {"messages": [user([image_part("http://127.0.0.1/x.png")])]}
        refused = await worker.http.post(CHAT, json=away)
        assert refused.status_code == 400
        assert (refused.json()["error"]["code"], entry["standing"]) == (entry["code"], "refused")
        assert refused.json()["error"]["param"].startswith("messages.")
        assert worker.asked() == []
        await worker.http.post(CHAT, json=say("hello", stream=True))
        [seen] = worker.asked()
    assert json.loads(seen["body"])["stream_options"] == {"include_usage": True}


async def test_of_responses_what_needs_a_memory_is_refused_and_all_else_passed_on(tmp_path: Path) -> None:
    stateful = [CASES[RESPONSES][field.name, field.value].sent for field in STATEFUL]
    names = {field.name for field in TABLES[RESPONSES]} - {field.name for field in STATEFUL}
    whole = [one for one in TABLES[RESPONSES] if one.name in names - MINDED and "." not in one.name]
    sent: dict[str, Any] = {}
    for field in whole:
        sent |= {**CASES[RESPONSES][field.name, field.value].sent}
    async with serving(tmp_path, "--responses") as worker:
        entries = (await card_of(worker))["paths"][RESPONSES]
        told = {(one["field"], one.get("value", "")) for one in entries if one["standing"] == "refused"}
        assert told >= {(field.name, field.value) for field in STATEFUL}
        before = len(worker.asked())
        for one in stateful:
            answer = await worker.http.post(RESPONSES, json={"input": "hello", **one})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unsupported_value"), one
        assert len(worker.asked()) == before
        assert (await worker.http.post(RESPONSES, json={"input": "hello", **sent})).status_code == 200
        body = json.loads(worker.asked()[-1]["body"])
    assert body == {"input": "hello", "model": THEIR_NAME, **sent}


async def test_a_recording_is_passed_on_without_its_name(tmp_path: Path) -> None:
    path = "/v1/audio/transcriptions"
    async with serving(tmp_path, type=ModelType.TRANSCRIPTION) as worker:
        [entry] = [one for one in (await card_of(worker))["paths"][path] if one["field"] == "file"]
        assert entry["standing"] == "passed_on"
        await worker.http.post(path, files={"file": ("my-secret.wav", wav())})
        [seen] = worker.asked()
    assert "my-secret" not in seen["body"]
    assert 'filename="file.wav"' in seen["body"]
