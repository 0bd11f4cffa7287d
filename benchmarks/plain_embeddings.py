"""What one writes in ten minutes: `SentenceTransformer.encode` behind a FastAPI route.

Run as `python plain_embeddings.py MODEL_FOLDER PORT`.
"""

import sys
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Body(BaseModel):
    """The part of OpenAI's request that is needed."""

    input: str | list[str]


def app(folder: str) -> FastAPI:
    """The application. Its route is no coroutine, so FastAPI runs it in a pool of threads."""
    torch.set_num_threads(1)
    model = SentenceTransformer(folder, device="cpu")
    served = FastAPI()

    @served.post("/v1/embeddings")
    def embeddings(body: Body) -> dict[str, Any]:
        texts = [body.input] if isinstance(body.input, str) else body.input
        vectors = model.encode(texts, show_progress_bar=False).tolist()
        data = [{"object": "embedding", "index": i, "embedding": vector} for i, vector in enumerate(vectors)]
        return {"object": "list", "data": data, "model": "plain"}

    return served


if __name__ == "__main__":
    uvicorn.run(app(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
