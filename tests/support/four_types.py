"""One question for each type of model to a gateway that serves the trained samples."""

import base64
from collections.abc import Callable
from pathlib import Path

import openai

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def chat(client: openai.OpenAI) -> None:
    """A fact that the sample learned."""
    question = "What is the capital of France?"
    assert "Paris" in _asked(client, "samples/chat", question)


def embeddings(client: openai.OpenAI) -> None:
    """Two texts on one topic are nearer than two on different ones."""
    texts = [
        "The rocket flew to the moon.",
        "The astronaut looked at the stars.",
        "Boil the pasta in salted water.",
    ]
    vectors = [d.embedding for d in client.embeddings.create(model="samples/embedding", input=texts).data]
    near, far = (sum(a * b for a, b in zip(vectors[0], v, strict=True)) for v in vectors[1:])
    assert near > far


def vision(client: openai.OpenAI) -> None:
    """A picture is described."""
    picture = base64.b64encode((SAMPLES / "images/red-circle.png").read_bytes()).decode()
    url = f"data:image/png;base64,{picture}"
    answer = client.chat.completions.create(
        model="samples/vision",
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "What is in the picture?"},
                    {"type": "image_url", "image_url": {"url": url}},
                ],
            }
        ],
        temperature=0,
    )
    assert "red circle" in (answer.choices[0].message.content or "").lower()


def transcription(client: openai.OpenAI) -> None:
    """A recording is written down; its name tells what is said."""
    clip = SAMPLES / "audio/five-nine-eight.wav"
    text = client.audio.transcriptions.create(model="samples/whisper", file=clip).text
    assert text.split() == clip.stem.split("-")


QUESTIONS: dict[str, Callable[[openai.OpenAI], None]] = {
    "chat": chat,
    "embeddings": embeddings,
    "vision": vision,
    "transcription": transcription,
}


def ask_all(gateway: str) -> None:
    """Raises AssertionError at the first answer that is wrong, and openai.OpenAIError where there is none."""
    with openai.OpenAI(base_url=f"{gateway}/v1", api_key="none", max_retries=0) as client:
        for question in QUESTIONS.values():
            question(client)


def _asked(client: openai.OpenAI, model: str, question: str) -> str:
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0
    )
    return answer.choices[0].message.content or ""
