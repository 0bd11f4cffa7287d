"""All workers are restarted one after the other while clients go on asking: nothing is lost."""

import re
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import pytest

from support.chaos_cluster import CHAT, ChaosCluster, chaos_cluster

CLIENTS = 4
WORDS = " ".join(f"w{number}" for number in range(40))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ChaosCluster]:
    with chaos_cluster(tmp_path, GATEWAY_SLOW_START_S="1") as cluster:
        yield cluster


@dataclass
class Load:
    """Clients that ask again and again, half of them for streams, and never repeat what failed."""

    url: str
    answers: int = 0
    failures: list[str] = field(default_factory=list)
    enough: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def ask_on(self, number: int) -> None:
        with openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=60) as client:
            while not self.enough.is_set():
                try:
                    said = self._stream(client) if number % 2 else self._whole(client)
                except openai.APIError as error:
                    said = f"{type(error).__name__}: {error}"
                with self.lock:
                    self.answers += 1
                    if said != f"You said: {WORDS}":
                        self.failures.append(said)

    @staticmethod
    def _whole(client: openai.OpenAI) -> str:
        answer = client.chat.completions.create(model=CHAT, messages=[{"role": "user", "content": WORDS}])
        return answer.choices[0].message.content or ""

    @staticmethod
    def _stream(client: openai.OpenAI) -> str:
        chunks = client.chat.completions.create(
            model=CHAT, messages=[{"role": "user", "content": WORDS}], stream=True
        )
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def test_a_rolling_restart_of_all_workers_under_load_loses_nothing(cluster: ChaosCluster) -> None:
    load = Load(cluster.gateway.url)
    clients = [threading.Thread(target=load.ask_on, args=(number,)) for number in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        for worker in cluster.workers[CHAT]:
            worker.end(signal.SIGTERM)
            worker.start()
            cluster.wait_ready()
    finally:
        load.enough.set()
        for client in clients:
            client.join()
    assert load.failures == []
    assert load.answers > 10 * CLIENTS
    assert tries_that_were_faults(cluster) == []


def tries_that_were_faults(cluster: ChaosCluster) -> list[str]:
    """Whoever left had said so, and is not to blame; being asked by one who did not know yet is no fault."""
    lines = httpx.get(f"{cluster.gateway.url}/metrics", trust_env=False).text.splitlines()
    tries = [line for line in lines if line.startswith("msp_gateway_failed_tries_total")]
    return [line for line in tries if not re.search('what="(leaving|back_pressure)"', line)]
