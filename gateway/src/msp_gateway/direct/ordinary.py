"""How the short way lets the ordinary one do the rest of a request."""

from collections.abc import Awaitable, Callable

from starlette.types import Receive, Scope, Send

from msp_gateway.dispatch import answering_bugs
from msp_gateway.pipeline import Passage, Pipeline, Work

Ordinary = Callable[[Scope, Receive, Send], Awaitable[None]]

GoOrdinary = Callable[[Ordinary], None]
"""Starts a task that does it."""


def rest_of(pipeline: Pipeline, passage: Passage, work: Work) -> Ordinary:
    """The passage goes on with this work, which is told the client when it fails."""

    async def ordinary(scope: Scope, receive: Receive, send: Send) -> None:
        await pipeline.see_through(passage, work, scope, receive, send)

    return answering_bugs(ordinary)


def failing(error: Exception) -> Ordinary:
    """A request of which not even a passage came about."""

    async def ordinary(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return answering_bugs(ordinary)


def raising(error: Exception) -> Work:
    """Work that fails with this."""

    async def work(passage: Passage, receive: Receive, out: Send) -> None:
        raise error

    return work
