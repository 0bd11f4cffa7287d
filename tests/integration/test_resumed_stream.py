"""A worker with a trained model is killed in the middle of a stream, and another one goes on with it."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx

from support.broken_streams import Heard, heard
from support.chaos_cluster import CHAT, ChaosCluster, Program, chaos_cluster
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


def in_full_precision() -> dict[str, bytes]:
    """The sample's files. In bfloat16 another batch could mean another likeliest token."""
    files = {path.name: path.read_bytes() for path in SAMPLE.iterdir() if path.is_file()}
    config = json.loads(files["config.json"])
    return {**files, "config.json": json.dumps({**config, "dtype": "float32"}).encode()}


def streamed(cluster: ChaosCluster, *, kill_after: int | None = None) -> Heard:
    """What a client hears; after so many events the worker that answers is killed."""
    raw, killed = b"", False
    url = f"{cluster.gateway.url}/v1/chat/completions"
    with httpx.stream("POST", url, json=BODY, timeout=60, trust_env=False) as answer:
        for part in answer.iter_raw():
            raw += part
            if kill_after is not None and not killed and raw.count(b"data:") > kill_after:
                who_answers(cluster).end(signal.SIGKILL)
                killed = True
    assert killed or kill_after is None
    return heard(raw)


def who_answers(cluster: ChaosCluster) -> Program:
    [busy] = [one for one in cluster.workers[CHAT] if one.metric("msp_worker_in_flight")]
    return busy


def test_a_client_does_not_notice_that_its_worker_was_killed(tmp_path: Path) -> None:
    with chaos_cluster(
        tmp_path,
        models={CHAT: "llm"},
        engine="slot",
        files=in_full_precision(),
        patience_s=180,
        GATEWAY_RESUME_STREAMS="true",
    ) as cluster:
        right = streamed(cluster)
        disturbed = streamed(cluster, kill_after=20)
        assert cluster.gateway.metric("msp_gateway_resumes_total") == 1
    assert len(right.heads) == len(disturbed.heads) == 1
    right.heads = disturbed.heads
    assert right.usages[0]["completion_tokens"] == len(right.token_ids) == BODY["max_tokens"]
    assert disturbed == right
