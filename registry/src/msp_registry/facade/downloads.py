"""Headers of the hub's file downloads. Pure."""

import re

HTTP_LIMIT_BYTES = 50_000_000_000
"""Above this size huggingface_hub refuses to fetch over plain HTTP, if it is told the size beforehand."""

_HUB_VERSION = re.compile(r"\bhf_hub/(\d+)")


def shared_headers(etag: str, *, pinned: bool) -> dict[str, str]:
    """What every answer about a file has. `etag` comes quoted; `pinned` is a request by commit.

    There is nothing of Xet in them: a client that is told of it leaves HTTP and looks for a server that an
    air gap does not have. Nobody on the way may compress: the length would be lost, and ranges with it.
    """
    age = "max-age=31536000, immutable" if pinned else "no-cache"
    return {
        "ETag": etag,
        "X-Linked-Etag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": f"{age}, no-transform",
    }


def head_headers(size_bytes: int, user_agent: str) -> dict[str, str]:
    """The size, unless the client would then refuse the file.

    Old clients take a missing length for an error and a length of 0 at its word, so that it must be right for
    them. From 2.0 on, one that is not told the size takes it from the answer to its GET.
    """
    size = {"Content-Length": str(size_bytes), "X-Linked-Size": str(size_bytes)}
    version = _HUB_VERSION.search(user_agent)
    if version is None or size_bytes <= HTTP_LIMIT_BYTES:
        return size
    if len(version[1]) > 1 or version[1] >= "2":
        return {}
    text = "size; this client fetches no file above 50 GB over HTTP; use huggingface_hub 2 or later, or curl"
    return {**size, "X-HF-Warning": text}


def is_named(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has the file already (RFC 9110, 13.1.2: weak comparison, a list, or `*`)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or tags == ["*"]


def same_as(if_range: str | None, etag: str) -> bool:
    """Whether a range may be given (RFC 9110, 13.1.5): dates and weak tags never match."""
    return if_range is None or if_range.strip() == etag
