"""`msp status` against a gateway that really listens."""

import json

from support.cli_registry import Served

WORKER = {
    "name": "llm",
    "kind": "worker",
    "url": "http://llm:8000",
    "status": "loading",
    "progress": 0.5,
    "reason": "reading weights",
    "model": {"id": "acme/chat", "type": "llm"},
}


def test_status_tells_what_each_worker_is_doing(served: Served) -> None:
    served.fake.answers["GET", "/services"] = (200, {"services": [WORKER]})
    shown = served.msp("status")
    for part in ("llm", "loading 50%", "acme/chat", "reading weights"):
        assert part in shown
    assert json.loads(served.msp("status", "--json"))["services"][0]["status"] == "loading"


def test_a_gateway_that_is_away_has_its_own_exit_code(served: Served) -> None:
    assert "cannot be reached" in served.msp("status", "--gateway", "http://127.0.0.1:9", code=3)
