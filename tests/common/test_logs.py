"""Logs have one form, carry the request id, and hold no secret."""

import json
import logging

import pytest

from msp_common import logs


def one_line(message: str, *args: object, **extra: object) -> logging.LogRecord:
    return logging.makeLogRecord({"msg": message, "args": args, "levelname": "INFO", "name": "t", **extra})


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefgh",
        "token hf_abcdefghijkl",
        "key sk-1234567890",
        "http://user:hunter22@minio:9000/x",
        "http://minio/x?X-Amz-Signature=abcdef&y=1",
    ],
)
def test_secrets_are_replaced(text: str) -> None:
    cleaned = logs.redact(text)
    assert "***" in cleaned
    for secret in ("abcdefgh", "hf_abc", "1234567890", "hunter22", "abcdef&"):
        assert secret not in cleaned


def test_a_json_line_carries_request_id_and_extra_fields() -> None:
    token = logs.REQUEST_ID.set("req_1")
    try:
        text = logs.formatter("gateway", "json").format(one_line("hello %s", "you", worker="w1"))
    finally:
        logs.REQUEST_ID.reset(token)
    line = json.loads(text)
    assert (line["message"], line["request_id"], line["worker"], line["service"]) == (
        "hello you",
        "req_1",
        "w1",
        "gateway",
    )


def test_a_console_line_is_one_line_with_the_same_facts() -> None:
    text = logs.formatter("gateway", "console").format(one_line("hello", request_id="req_2", tries=2))
    assert "\n" not in text
    assert "gateway [req_2] hello tries=2" in text
