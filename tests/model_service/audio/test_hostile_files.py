"""Files that are broken or ill-meant: each is refused or read as far as it goes, and nothing else happens."""

import io
import itertools
import os
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from msp_common.contracts.model_type import ModelType
from msp_common.errors import InvalidRequest
from msp_model_service.audio.decoding import decode
from msp_model_service.engines.fake_transcriber import FakeTranscriber
from msp_model_service.engines.lifecycle import EngineOptions
from msp_model_service.engines.transcriber import Transcriber
from msp_model_service.routes.context import RouteContext
from msp_model_service.routes.transcriptions import router
from support import audio_files
from support.one_route_app import app_with, context_for
from support.tripwire import tripwire

PATHS = ("/v1/audio/transcriptions", "/v1/audio/translations")


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    context: RouteContext[Transcriber] = context_for(
        FakeTranscriber(EngineOptions()), ModelType.TRANSCRIPTION
    )
    transport = httpx.ASGITransport(app_with(router(context)))
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        yield client


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Cut, with wrong bytes, with a part missing or twice: what lines and disks do."""
    broken = bytearray(data)
    match rng.randrange(4):
        case 0:
            return bytes(broken[: rng.randrange(1, len(broken))])
        case 1:
            for _ in range(rng.randrange(1, 40)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
        case 2:
            start = rng.randrange(len(broken))
            del broken[start : start + rng.randrange(1, 2000)]
        case _:
            start = rng.randrange(min(400, len(broken)))
            broken[start : start + 4] = rng.randbytes(4)
    return bytes(broken)


def outcome(data: bytes) -> str:
    """What a client would be told."""
    try:
        audio = decode(io.BytesIO(data), 60)
    except InvalidRequest as refused:
        return f"refused: {refused.param}"
    return "read" if audio.size and np.isfinite(audio).all() else "nonsense"


@pytest.mark.parametrize("name", audio_files.CONTAINERS)
def test_a_damaged_file_of_each_kind_is_refused_or_read_as_far_as_it_goes(name: str) -> None:
    rng = random.Random(name)
    whole = audio_files.encode(audio_files.tone(0.5, audio_files.CONTAINERS[name][2]), name)
    outcomes = {outcome(damaged(whole, rng)) for _ in range(60)}
    # In containers with checksums, any damage may be too much for so short a file.
    assert "refused: file" in outcomes
    assert outcomes <= {"refused: file", "read"}
    assert decode(io.BytesIO(whole), 60).size > 0


@pytest.mark.parametrize("name", audio_files.CONTAINERS)
async def test_a_worker_that_was_sent_half_a_header_still_answers(http: httpx.AsyncClient, name: str) -> None:
    whole = audio_files.encode(audio_files.tone(1, audio_files.CONTAINERS[name][2]), name)
    response = await http.post(PATHS[0], files={"file": (f"a.{name}", whole[:20])})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "file"
    assert (await http.post(PATHS[0], files={"file": ("a", whole)})).status_code == 200


@pytest.mark.parametrize("rate", [0, 1, 100, 900_000, 2**31 - 1, 2**32 - 1])
def test_a_sample_rate_that_no_sound_has_is_refused_at_once(rate: int) -> None:
    samples = bytes(200_000)
    header = b"RIFF" + struct.pack("<I", len(samples) + 36) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 1, rate, rate * 2 % 2**32, 2, 16)
    with pytest.raises(InvalidRequest):
        decode(io.BytesIO(header + b"data" + struct.pack("<I", len(samples)) + samples), 1e9)


@pytest.mark.parametrize("channels", [0, 3, 255, 65_535])
def test_any_number_of_channels_is_mixed_or_refused(channels: int) -> None:
    samples = bytes(min(2 * channels * 1000, 300_000))
    header = b"RIFF" + struct.pack("<I", len(samples) + 36) + b"WAVEfmt "
    header += struct.pack(
        "<IHHIIHH", 16, 1, channels, 16_000, 32_000 * channels % 2**32, 2 * channels % 2**16, 16
    )
    assert outcome(header + b"data" + struct.pack("<I", len(samples)) + samples) in ("read", "refused: file")


def hostile_requests(target: str) -> list[dict[str, Any]]:
    """Every place of a request where somebody might hope that an address is followed."""
    recording = audio_files.wav(1)
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n".encode()
    return [
        {"data": {"file": target}, "files": {"other": ("a", b"x")}},
        {"data": {"file": target, "url": target}, "files": {"file": (target, recording)}},
        {"files": {"file": (target, b"")}},
        {"files": {"file": ("a.m3u8", playlist)}},
        {"files": {"file": ("a.txt", f"ffconcat version 1.0\nfile '{target}'\n".encode())}},
        {"files": {"file": ("a.wav", target.encode())}},
        {"data": {"prompt": target, "language": target}, "files": {"file": ("a.wav", recording)}},
        {"data": {"model": target}, "files": {"file": ("a.wav", recording)}},
        {"json": {"file": target, "url": target}},
    ]


@pytest.mark.parametrize("path", PATHS)
async def test_no_address_and_no_path_of_a_request_is_ever_opened(
    http: httpx.AsyncClient, tmp_path: Path, path: str
) -> None:
    canary = tmp_path / "canary.wav"
    canary.write_bytes(audio_files.wav(3))
    # Older than its last change: file systems that note reading only sometimes note this one.
    os.utime(canary, (1, 2))
    with tripwire() as wire:
        url = f"http://127.0.0.1:{wire.port}/a.wav"
        targets = (url, f"tcp://127.0.0.1:{wire.port}", str(canary), f"file:{canary}", f"subfile:{canary}")
        answers = [
            await http.post(path, **request)
            for request in itertools.chain.from_iterable(hostile_requests(target) for target in targets)
        ]
        assert not wire.touched.is_set()
    assert canary.stat().st_atime == 1
    # The canary holds three seconds: none of them is in any answer.
    assert all("second 2" not in answer.text for answer in answers)
    assert {answer.status_code for answer in answers} == {200, 400, 404}
