"""The answer to an embeddings request."""

import base64
import json
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["float", "base64"]


def body(vectors: NDArray[np.float32], encoding: Encoding, *, model: str, tokens: int) -> bytes:
    """OpenAI's list of embeddings as JSON, in the order of the rows. base64 is of little-endian float32."""
    return json.dumps(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _encoded(row, encoding)}
                for index, row in enumerate(vectors)
            ],
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        },
        separators=(",", ":"),
        allow_nan=False,
    ).encode()


def _encoded(row: NDArray[np.float32], encoding: Encoding) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(row.astype("<f4").tobytes()).decode("ascii")
    values: list[float] = row.tolist()
    return values
