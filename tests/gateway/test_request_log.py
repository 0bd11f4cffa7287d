"""The line for each request: the platform's format, no secrets, no forged lines."""

import asyncio
import json
from typing import Any

from msp_gateway.failures import FailedTry, Happened
from msp_gateway.record import Record
from msp_gateway.request_log import RequestLog

NOW = 1_700_000_000.25


def record(request_id: str = "req_1", **known: Any) -> Record:
    """One that began at 10 s of the clock."""
    made = Record(request_id, "/v1/chat/completions", 10.0, requested_model="org/chat", model="org/chat")
    for name, value in known.items():
        setattr(made, name, value)
    return made


async def written(log_format: Any, request_id: str = "req_1", **known: Any) -> str:
    """What one request's line looks like."""
    texts: list[str] = []
    log = RequestLog(log_format, write=texts.append, now=lambda: NOW)
    log.add(record(request_id, **known), 200, 1.25)
    log.flush()
    return "".join(texts)


async def test_a_console_line_is_like_all_others() -> None:
    failed = [FailedTry(Happened.RESET, "w1", "org/chat")]
    assert await written("console", first_byte=10.5, waited_s=0.0, failed=failed) == (
        "2023-11-14T22:13:20.250Z info    gateway [req_1] request"
        " path=/v1/chat/completions status=200 error=None complete=False stream=False identity=None"
        " requested_model=org/chat model=org/chat worker=None resumed=None failed_tries=['w1:reset']"
        " waited_s=0 first_byte_s=0.5 duration_s=1.25\n"
    )


async def test_a_json_line_is_one_object_and_says_the_same() -> None:
    line = json.loads(await written("json", worker="w1"))
    assert line == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "service": "gateway",
        "logger": "msp_gateway.request_log",
        "request_id": "req_1",
        "message": "request",
        "path": "/v1/chat/completions",
        "status": 200,
        "error": None,
        "complete": False,
        "stream": False,
        "identity": None,
        "requested_model": "org/chat",
        "model": "org/chat",
        "worker": "w1",
        "resumed": None,
        "failed_tries": [],
        "waited_s": None,
        "first_byte_s": None,
        "duration_s": 1.25,
    }
    console = await written("console", worker="w1")
    assert [part.partition("=")[0] for part in console.split()[5:]] == list(line)[6:]


async def test_what_clients_wrote_is_redacted() -> None:
    for log_format in ("console", "json"):
        line = await written(log_format, request_id="sk-12345678901", requested_model="Bearer sk-abcdefghij")
        assert "sk-1" not in line
        assert "sk-a" not in line


async def test_no_client_can_begin_a_line() -> None:
    for log_format in ("console", "json"):
        line = await written(log_format, requested_model="x\n2023-11-14 forged \x1b[2J ü")
        assert line.count("\n") == 1
        assert line[:-1].isprintable()
    assert "model=modèle " in await written("console", model="modèle")


async def test_lines_of_a_moment_are_written_together_without_being_told() -> None:
    texts: list[str] = []
    done = asyncio.Event()

    def write(text: str) -> None:
        texts.append(text)
        done.set()

    log = RequestLog("console", write=write, now=lambda: NOW)
    for _ in range(3):
        log.add(record(), 200, 0.1)
    assert texts == []
    await asyncio.wait_for(done.wait(), 5)
    assert [text.count("\n") for text in texts] == [3]
