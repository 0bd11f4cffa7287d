"""Small files that a model could be made of."""

import json
import struct
from pathlib import Path

CARD = b"---\nlicense: apache-2.0\n---\n# A tiny model\n"


def safetensors(numbers: int = 4, *, cut: int = 0) -> bytes:
    """One float32 tensor; `cut` takes bytes off the end."""
    tensor = {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}
    header = json.dumps({"w": tensor}).encode()
    body = (bytes(range(256)) * (numbers // 64 + 1))[: 4 * numbers]
    data = struct.pack("<Q", len(header)) + header + body
    return data[: len(data) - cut]


def tiny_model(numbers: int = 4) -> dict[str, bytes]:
    """Path → bytes of a whole, valid model."""
    return {
        "README.md": CARD,
        "config.json": b'{"model_type": "tiny"}',
        "model.safetensors": safetensors(numbers),
        "1_Pooling/config.json": b"{}",
        "empty.txt": b"",
    }


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write the files below `folder`, which is given back."""
    for path, data in files.items():
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return folder
