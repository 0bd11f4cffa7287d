"""A worker with a trained model is killed in the middle of a stream, and another one goes on with it."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx

from support.broken_streams import Heard, heard
from support.chaos_cluster import CHAT, PATIENCE_S, ChaosCluster, Program, chaos_cluster
from support.sample_prompts import endless

SAMPLE = Path(__file__).parents[2] / "samples/chat"
BODY: dict[str, Any] = {
    "model": CHAT,
    "messages": [{"role": "user", "content": "How do you say hello in Japanese?"}],
    "temperature": 0,
    "max_tokens": 300,
    "logit_bias": endless("chat"),
    "stream": True,
    "stream_options": {"include_usage": True},
}

SAME_WORKER = {"x-session-id": "a conversation"}
"""The gateway sends a conversation to the same worker each time: no time is lost in asking who answers."""
KILL_AFTER = 20
"""Events."""
ATTEMPTS = 5


def in_full_precision() -> dict[str, bytes]:
    """The sample's files. In bfloat16 another batch could mean another likeliest token."""
    files = {path.name: path.read_bytes() for path in SAMPLE.iterdir() if path.is_file()}
    config = json.loads(files["config.json"])
    return {**files, "config.json": json.dumps({**config, "dtype": "float32"}).encode()}


def streamed(cluster: ChaosCluster, *, kill: Program | None = None) -> tuple[Heard, Program]:
    """What a client hears, and the worker that answered first; `kill` is killed in the middle of it."""
    raw, answered = b"", ""
    url = f"{cluster.gateway.url}/v1/chat/completions"
    with httpx.stream(
        "POST", url, json=BODY, headers=SAME_WORKER, timeout=PATIENCE_S, trust_env=False
    ) as answer:
        for part in answer.iter_raw():
            raw += part
            if kill is not None and kill.process is not None and raw.count(b"data:") > KILL_AFTER:
                kill.end(signal.SIGKILL)
        answered = answer.headers["x-request-id"]
    about = httpx.get(
        f"{cluster.gateway.url}/requests/{answered}", timeout=PATIENCE_S, trust_env=False
    ).json()
    first = about["tries"][0]["worker"]
    return heard(raw), next(one for one in cluster.workers[CHAT] if one.name == first)


def disturbed_stream(cluster: ChaosCluster, worker: Program) -> Heard:
    """A stream whose worker was killed before it had said all.

    On a busy machine the worker may have said all before its client has heard the first events; such a
    stream proves nothing, and another one is asked for.
    """
    for _ in range(ATTEMPTS):
        said, answered = streamed(cluster, kill=worker)
        assert answered is worker
        if cluster.gateway.metric("msp_gateway_resumes_total"):
            return said
        worker.start()
        cluster.wait_ready()
    raise AssertionError(f"{ATTEMPTS} streams were over before their worker was killed")


def test_a_client_does_not_notice_that_its_worker_was_killed(tmp_path: Path) -> None:
    with chaos_cluster(
        tmp_path,
        models={CHAT: "llm"},
        engine="slot",
        files=in_full_precision(),
        GATEWAY_RESUME_STREAMS="true",
    ) as cluster:
        right, worker = streamed(cluster)
        disturbed = disturbed_stream(cluster, worker)
        assert cluster.gateway.metric("msp_gateway_resumes_total") == 1
    assert len(right.heads) == len(disturbed.heads) == 1
    right.heads = disturbed.heads
    assert right.usages[0]["completion_tokens"] == len(right.token_ids) == BODY["max_tokens"]
    assert disturbed == right
