"""What a local folder in the Hub's form tells of a model: its headers and its configuration."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from msp_cli.plan.facts import FactsMissing, ModelFacts
from msp_cli.plan.model_config import read_config

MAX_HEADER_BYTES = 25_000_000
"""The Hub's own limit for a header that it parses."""

_PICKLED = (".bin", ".pt", ".pth")


def folder_facts(model_id: str, folder: Path) -> ModelFacts:
    """The facts. Raises FactsMissing."""
    if not folder.is_dir():
        raise FactsMissing(f"{model_id}: there is no folder {folder}")
    # Some repositories hold the weights a second time, in another program's cut.
    files = [p for p in sorted(folder.rglob("*.safetensors")) if not p.name.startswith("consolidated")]
    counted: Counter[str] = Counter()
    for file in files:
        counted += header_counts(file)
    kind = "safetensors"
    if not files:
        files = [p for p in sorted(folder.rglob("*")) if p.suffix == ".gguf"]
        kind = "gguf" if files else "pickle"
        files = files or [p for p in sorted(folder.rglob("*")) if p.suffix in _PICKLED]
    return ModelFacts(
        id=model_id,
        revision="main",
        format=kind if files else "other",
        parameters=sum(counted.values()) or None,
        weight_file_bytes=sum(file.stat().st_size for file in files),
        stored_dtype=counted.most_common(1)[0][0] if counted else None,
        config=read_config(_config(folder), sentence_transformer=(folder / "modules.json").exists()),
    )


def header_counts(file: Path) -> Counter[str]:
    """How many numbers of each type a safetensors file holds, by its header alone. Raises FactsMissing."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > MAX_HEADER_BYTES:
                raise FactsMissing(
                    f"{file} announces a header of {length:,} bytes; it is no safetensors file"
                )
            entries = json.loads(opened.read(length))
        return Counter(
            {
                dtype: sum(math.prod(e["shape"]) for n, e in _tensors(entries) if e["dtype"] == dtype)
                for dtype in {e["dtype"] for _, e in _tensors(entries)}
            }
        )
    except OSError as error:
        raise FactsMissing(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise FactsMissing(f"{file}: its header is no safetensors header") from None


def _tensors(entries: Any) -> list[tuple[str, Any]]:
    return [(name, entry) for name, entry in entries.items() if name != "__metadata__"]


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise FactsMissing(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise FactsMissing(f"{path}: is no JSON: {error}") from None
    return config if isinstance(config, dict) else {}
