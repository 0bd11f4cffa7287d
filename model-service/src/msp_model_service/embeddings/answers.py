"""The answer to an embeddings request."""

import base64
import json
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Encoding = Literal["float", "base64"]


def body(vectors: NDArray[np.float32], encoding: Encoding, *, model: str, tokens: int) -> bytes:
    """OpenAI's list of embeddings as JSON, in the order of the rows, all finite.

    base64 is of little-endian float32. Written piece by piece: json.dumps would print each number as the
    nearest float64, twice as long and three times as slow.
    """
    encoded = _base64(vectors) if encoding == "base64" else _floats(vectors)
    items = ",".join(
        f'{{"object":"embedding","index":{index},"embedding":{each}}}' for index, each in enumerate(encoded)
    )
    return (
        f'{{"object":"list","data":[{items}],"model":{json.dumps(model)},'
        f'"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}'
    ).encode()


def _base64(vectors: NDArray[np.float32]) -> list[str]:
    return [
        f'"{base64.b64encode(row.tobytes()).decode("ascii")}"' for row in vectors.astype("<f4", copy=False)
    ]


def _floats(vectors: NDArray[np.float32]) -> list[str]:
    # Nine digits tell every float32 from its neighbours.
    row_format = f"[{','.join(['%.9g'] * vectors.shape[1])}]"
    return [row_format % tuple(row.tolist()) for row in vectors]
