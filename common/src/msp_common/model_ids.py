"""Model ids: `org/name` (or a bare `name`), as the Hub allows them, and the ways they arrive in URLs."""

import re
from urllib.parse import unquote

MAX_LENGTH = 96
"""The Hub's own limit for a repository id's name; ours for the whole id's segments."""

_SEGMENT = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?|[A-Za-z0-9]")


class InvalidModelId(ValueError):
    """Not `org/name` nor `name` in the Hub's alphabet."""


def parse_model_id(raw: str) -> str:
    """The id with `%2F` decoded. Raises InvalidModelId for anything that is no safe one- or two-part id.

    `..`, absolute paths, empty parts, NUL and ids that are too long are refused here, before they become
    part of a path or an object key.
    """
    model_id = unquote(raw)
    segments = model_id.split("/")
    fine = len(segments) in (1, 2) and all(
        len(s) <= MAX_LENGTH and _SEGMENT.fullmatch(s) and ".." not in s and "--" not in s for s in segments
    )
    if not fine:
        raise InvalidModelId(
            f"{raw[:120]!r} is no model id; expected org/name, for example Qwen/Qwen2.5-0.5B"
        )
    return model_id


def hyphenated(model_id: str) -> str:
    """The form with `/` written as `-`, which some clients use; two ids may share it."""
    return model_id.replace("/", "-")
