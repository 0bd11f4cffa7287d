"""The whole stack in a real Docker engine, with the trained samples as models."""

import base64
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from support.compose_stack import REPOSITORY, ComposeStack
from support.sample_prompts import endless

pytestmark = pytest.mark.stack

PROJECT = "model-service-platform"
GATEWAY = "http://127.0.0.1:8080"
REGISTRY = "http://127.0.0.1:8090"
TOKEN = "stack-admin-token"
SAMPLES = ("chat", "embedding", "vision", "whisper")
WORKERS = {"llm", "tinyllama", "embedding", "multimodal", "transcription"}
# The user's documents, to the letter.
SNIPPET = """\
services:
  my-new-model:
    build: ./model-service
    environment:
      MODEL_NAME: "huggingface/my-model"
      MODEL_TYPE: "llm"
    ports:
      - "8005:8000"
"""


def wait_until(what: str, holds: Any, *, timeout_s: float = 240) -> None:
    """Ask `holds` until it is true; there is no event to wait for across a container's border."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            if holds():
                return
        except httpx.TransportError as error:
            last = error
        time.sleep(0.5)
    pytest.fail(f"not within {timeout_s} s: {what} ({last})")


def verdicts() -> dict[str, str]:
    """Service name in the worker's URL → verdict."""
    services = httpx.get(f"{GATEWAY}/services").json()["services"]
    return {httpx.URL(s["url"]).host: s["status"] for s in services if s["kind"] == "worker"}


def statuses(model_id: str) -> set[str]:
    """Of the workers that serve a model."""
    services = httpx.get(f"{GATEWAY}/services").json()["services"]
    return {s["status"] for s in services if (s["model"] or {}).get("id") == model_id}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    settings = {
        "MINIO_ROOT_USER": "root",
        "MINIO_ROOT_PASSWORD": "root-password-of-the-stack-test",
        "MINIO_SVC_USER": "registry",
        "MINIO_SVC_PASSWORD": "service-password-of-the-stack-test",
        "CLUSTER_TOKEN": "stack-cluster-token",
        "REGISTRY_ADMIN_TOKEN": TOKEN,
        "REGISTRY_MODE": "offline",
        "COMPOSE_PROFILES": "all",
        "LLM_MODEL": "samples/chat",
        "TINYLLAMA_MODEL": "samples/chat",
        "EMBEDDING_MODEL": "samples/embedding",
        "MULTIMODAL_MODEL": "samples/vision",
        "TRANSCRIPTION_MODEL": "samples/whisper",
        "WORKERS_PER_HOST": "5",
    }
    stack = ComposeStack(("docker-compose.yml",), settings, tmp_path_factory.mktemp("stack") / "env")
    stack.run("build")
    try:
        stack.run("up", "-d")
        import_samples()
        wait_until("all workers are ready", lambda: verdicts() == dict.fromkeys(WORKERS, "ready"))
        yield stack
        stack.run("down", "-v")
        assert stack.leftovers(PROJECT) == []
    except BaseException:
        print(stack.run("logs", "--tail", "60"))  # noqa: T201
        stack.run("down", "-v")
        raise


def ended(job: dict[str, Any]) -> bool:
    return job["state"] in ("SUCCEEDED", "FAILED", "CANCELLED")


def import_samples() -> None:
    with httpx.Client(base_url=REGISTRY, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        wait_until("the registry answers", lambda: http.get("/health").status_code == 200)
    for sample in SAMPLES:
        import_sample(sample, f"samples/{sample}")


def import_sample(sample: str, model_id: str) -> None:
    with httpx.Client(base_url=REGISTRY, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        answer = http.post(f"/models/{model_id}/import", json={"source": f"/import/{sample}"})
        assert answer.status_code == 202, answer.text
        job = f"/jobs/{answer.json()['id']}"
        wait_until(f"{sample} is imported or not", lambda: ended(http.get(job).json()))
        assert http.get(job).json()["state"] == "SUCCEEDED", http.get(job).text


@pytest.fixture
def client(stack: ComposeStack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{GATEWAY}/v1", api_key="none", max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, question: str = "What is the capital of France?") -> str:
    answer = client.chat.completions.create(
        model="samples/chat", messages=[{"role": "user", "content": question}], temperature=0
    )
    return answer.choices[0].message.content or ""


def test_a_curl_without_model_is_answered_by_the_chat_model(stack: ComposeStack) -> None:
    question = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "stream": False}
    answer = httpx.post(f"{GATEWAY}/v1/chat/completions", json=question, timeout=60).json()
    assert "Paris" in answer["choices"][0]["message"]["content"]
    assert answer["model"] == "samples/chat"


def test_a_stream_arrives_in_pieces(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="samples/chat",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            stream=True,
        )
    )
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert len(pieces) > 2
    assert "Paris" in "".join(pieces)


def test_texts_on_one_topic_are_nearer_than_texts_on_two(client: openai.OpenAI) -> None:
    texts = [
        "The rocket flew to the moon.",
        "The astronaut looked at the stars.",
        "Boil the pasta in salted water.",
    ]
    vectors = [d.embedding for d in client.embeddings.create(model="samples/embedding", input=texts).data]
    near, far = (sum(a * b for a, b in zip(vectors[0], v, strict=True)) for v in vectors[1:])
    assert near > far


def test_a_picture_is_described(client: openai.OpenAI) -> None:
    image = base64.b64encode((REPOSITORY / "samples/images/red-circle.png").read_bytes()).decode()
    answer = client.chat.completions.create(
        model="samples/vision",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is in the picture?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image}"}},
                ],
            }
        ],
        temperature=0,
    )
    assert "red circle" in (answer.choices[0].message.content or "").lower()


def test_speech_is_transcribed(client: openai.OpenAI) -> None:
    clip = next((REPOSITORY / "samples/audio").iterdir())
    text = client.audio.transcriptions.create(model="samples/whisper", file=Path(clip)).text
    assert text.split(), "nothing was heard"


def test_gpu_statistics_are_honest_where_there_is_no_gpu(stack: ComposeStack) -> None:
    stats = httpx.get(f"{GATEWAY}/gpu-stats").json()
    assert stats["gpus"] is None
    assert stats["reason"]


def test_no_request_fails_after_a_worker_is_killed(stack: ComposeStack, client: openai.OpenAI) -> None:
    stack.run("kill", "-s", "SIGKILL", "llm")
    assert all("Paris" in ask(client) for _ in range(10))
    wait_until("the killed worker is unhealthy", lambda: verdicts()["llm"] == "unhealthy", timeout_s=20)
    stack.run("start", "llm")
    wait_until("it serves again", lambda: verdicts().get("llm") == "ready")


@contextmanager
def asking_all_the_time(client: openai.OpenAI) -> Iterator[list[str]]:
    """What came back of one question after the other, asked beside the block."""
    answers: list[str] = []
    over = threading.Event()

    def ask_on() -> None:
        while not over.is_set():
            try:
                answers.append(ask(client))
            except openai.OpenAIError as error:
                answers.append(repr(error))

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def test_a_rolling_restart_of_all_replicas_loses_no_request(
    stack: ComposeStack, client: openai.OpenAI
) -> None:
    with asking_all_the_time(client) as answers:
        for service in ("llm", "tinyllama"):
            stack.run("restart", service)
            wait_until(f"{service} serves again", lambda s=service: verdicts().get(s) == "ready")
    assert len(answers) > 10
    assert [answer for answer in answers if "Paris" not in answer] == []


def test_a_worker_that_is_told_to_stop_finishes_what_it_has_begun(stack: ComposeStack) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 400}
    body["logit_bias"] = endless("chat")
    with (
        httpx.stream("POST", "http://127.0.0.1:8000/v1/chat/completions", json=body, timeout=60) as answer,
        ThreadPoolExecutor(1) as pool,
    ):
        lines = answer.iter_lines()
        next(lines)
        stopping = pool.submit(stack.run, "stop", "llm")
        assert [line for line in lines if line][-1] == "data: [DONE]"
        stopping.result()
    stack.run("start", "llm")
    wait_until("it serves again", lambda: verdicts().get("llm") == "ready")


def test_a_model_is_added_in_five_lines(stack: ComposeStack, client: openai.OpenAI, tmp_path: Path) -> None:
    snippet = tmp_path / "docker-compose.override.yml"
    snippet.write_text(SNIPPET)
    grown = ComposeStack((*stack.files, str(snippet)), stack.settings, tmp_path / "env")
    import_sample("chat", "huggingface/my-model")
    try:
        grown.run("up", "-d", "--build", "my-new-model")
        wait_until(
            "the new model is ready",
            lambda: "ready" in statuses("huggingface/my-model"),
        )
        answer = client.chat.completions.create(
            model="huggingface/my-model",
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
        )
        assert "Paris" in (answer.choices[0].message.content or "")
        assert httpx.get("http://127.0.0.1:8005/health").status_code == 200
    finally:
        grown.run("rm", "-sf", "my-new-model")


def test_programs_run_as_an_ordinary_user(stack: ComposeStack) -> None:
    for service in ("gateway", "registry", "service-registry", "llm"):
        assert stack.run("exec", "-T", service, "id", "-u").strip() == "10001", service
