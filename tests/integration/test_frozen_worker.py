"""A worker that is frozen holds its requests for seconds, not for as long as a slow answer may take."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.chaos_cluster import CHAT, ChaosCluster, chaos_cluster
from support.platform_processes import eventually

BODY = {"model": CHAT, "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ChaosCluster]:
    with chaos_cluster(tmp_path, GATEWAY_STALL_S="2") as cluster:
        yield cluster


def ask(cluster: ChaosCluster, timeout_s: float) -> httpx.Response:
    return httpx.post(
        f"{cluster.gateway.url}/v1/chat/completions", json=BODY, timeout=timeout_s, trust_env=False
    )


def test_a_frozen_worker_is_given_up_avoided_and_taken_back(cluster: ChaosCluster) -> None:
    frozen, other = cluster.workers[CHAT]
    other.end(signal.SIGTERM)
    eventually("the other one has left", lambda: other.name not in cluster.verdicts(), 10)
    frozen.send(signal.SIGSTOP)
    try:
        # Its lease runs out after 10 s, the gateway's patience only after 600 s.
        given_up = ask(cluster, timeout_s=60)
        assert (given_up.status_code, given_up.headers["x-should-retry"]) == (504, "false")
        assert cluster.verdicts()[frozen.name] == "unhealthy"
        away = ask(cluster, timeout_s=5)
        assert (away.status_code, away.json()["error"]["code"]) == (503, "service_unavailable")
        other.start()
        eventually("the other one is ready", lambda: cluster.verdicts().get(other.name) == "ready", 60)
        # The gateway hears of it a moment after the service registry knows.
        eventually("the other one is asked", lambda: ask(cluster, timeout_s=10).status_code == 200, 10)
    finally:
        frozen.send(signal.SIGCONT)
    cluster.wait_ready()
    assert [ask(cluster, timeout_s=10).status_code for _ in range(10)] == [200] * 10
