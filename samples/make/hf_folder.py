"""The older files of a Hugging Face folder.

Real checkpoints were written by earlier releases of transformers and still carry these files; the current
release reads them, but writes fewer. The samples carry them too, so that what loads a sample loads those.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_tokenizer_parts(tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """added_tokens.json and special_tokens_map.json, from the tokenizer.json already in `out`."""
    written = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))
    in_model = written["model"]["vocab"]
    added = {
        token["content"]: token["id"] for token in written["added_tokens"] if token["content"] not in in_model
    }
    write_json(out / "added_tokens.json", added)
    write_json(out / "special_tokens_map.json", dict(tokenizer.special_tokens_map))


def write_bpe_parts(out: Path) -> None:
    """vocab.json and merges.txt, from the tokenizer.json already in `out`."""
    model = json.loads((out / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    write_json(out / "vocab.json", model["vocab"])
    merges = [" ".join(pair) for pair in model["merges"]]
    (out / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")


def take_from(path: Path, key: str, beside: str) -> None:
    """Move one entry of a JSON file into a file of its own, named `beside`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    write_json(path.with_name(beside), content.pop(key))
    write_json(path, content)
