"""Makes two tiny models, waits until the registry has them, and loads them by name: one process, because the
imports take most of the time. Prints what the loaded ones compute beside what the made ones do.
"""

import json
import sys
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForCausalLM, AutoTokenizer

from support import tiny_embedding_model, tiny_models

TEXT = "the quick brown fox"

folder = Path(sys.argv[1])
language = tiny_models.qwen2(folder / "language")
embedding = tiny_embedding_model.make(folder / "embedding")
sys.stdout.write("made\n")
sys.stdout.flush()
sys.stdin.readline()


def next_token(place: str) -> list[float]:
    """Scores after a prompt."""
    tokens = AutoTokenizer.from_pretrained(place)(TEXT, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(place)
    with torch.no_grad():
        return [round(score, 4) for score in model(**tokens).logits[0, -1, :8].tolist()]


def vector(place: str) -> list[float]:
    """A sentence's embedding."""
    return [round(float(x), 4) for x in SentenceTransformer(place, device="cpu").encode(TEXT)[:8]]


answer = {
    "language": [next_token("org/language"), next_token(str(language))],
    "embedding": [vector("org/embedding"), vector(str(embedding))],
}
sys.stdout.write(json.dumps(answer) + "\n")
