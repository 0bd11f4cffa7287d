"""Requests to the trained samples."""

import json

from support.platform_processes import REPOSITORY


def endless(sample: str) -> dict[str, int]:
    """A logit bias that keeps the sample from ever ending by itself."""
    config = json.loads((REPOSITORY / "samples" / sample / "generation_config.json").read_text())
    ends = config["eos_token_id"]
    return {str(end): -100 for end in (ends if isinstance(ends, list) else [ends])}
