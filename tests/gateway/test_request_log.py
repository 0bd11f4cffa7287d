"""The line for each request: the platform's format, no secrets, no forged lines."""

import asyncio
import json
from typing import Any

from msp_gateway.request_log import RequestLog

NOW = 1_700_000_000.25
FIELDS: dict[str, Any] = {"path": "/v1/chat/completions", "status": 200, "requested_model": "org/chat"}


async def written(log_format: Any, request_id: str = "req_1", **fields: Any) -> str:
    """What one request's line looks like."""
    texts: list[str] = []
    log = RequestLog(log_format, write=texts.append, now=lambda: NOW)
    log(request_id, {**FIELDS, **fields})
    log.flush()
    return "".join(texts)


async def test_a_console_line_is_like_all_others() -> None:
    assert await written("console") == (
        "2023-11-14T22:13:20.250Z info    gateway [req_1] request"
        " path=/v1/chat/completions status=200 requested_model=org/chat\n"
    )


async def test_a_json_line_is_one_object() -> None:
    line = json.loads(await written("json", worker=None))
    assert line == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "info",
        "service": "gateway",
        "logger": "msp_gateway.request_log",
        "request_id": "req_1",
        "message": "request",
        **FIELDS,
        "worker": None,
    }


async def test_what_clients_wrote_is_redacted() -> None:
    for log_format in ("console", "json"):
        line = await written(log_format, request_id="sk-12345678901", requested_model="Bearer sk-abcdefghij")
        assert "sk-1" not in line
        assert "sk-a" not in line


async def test_no_client_can_begin_a_line() -> None:
    for log_format in ("console", "json"):
        assert (await written(log_format, requested_model="x\n2023-11-14 forged")).count("\n") == 1


async def test_lines_of_a_moment_are_written_together_without_being_told() -> None:
    texts: list[str] = []
    done = asyncio.Event()

    def write(text: str) -> None:
        texts.append(text)
        done.set()

    log = RequestLog("console", write=write, now=lambda: NOW)
    for _ in range(3):
        log("req_1", FIELDS)
    assert texts == []
    await asyncio.wait_for(done.wait(), 5)
    assert [text.count("\n") for text in texts] == [3]
