"""Which web pages may call the gateway from a browser."""

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

READABLE = (
    "retry-after",
    "x-msp-queue-expected-wait-ms",
    "x-msp-queue-position",
    "x-msp-queue-wait-ms",
    "x-ratelimit-limit-requests",
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-request-id",
    "x-should-retry",
)
"""Header fields of answers that pages may read beside the few that they always may."""


def allow_origins(app: FastAPI, origins: Sequence[str]) -> None:
    """Let pages of these origins call every route, the relayed paths too. Add it last: it goes outermost.

    No cookies: keys travel in a header field that pages set themselves. Without origins nothing is added.
    """
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=list(READABLE),
            max_age=600,
        )
