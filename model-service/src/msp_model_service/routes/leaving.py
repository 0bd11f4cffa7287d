"""Clients that leave before their answer: the work for them is cancelled, not finished for nobody."""

from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import anyio
from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

CLIENT_LEFT = 499
"""Status for answers that nobody reads any more, as nginx writes it into its logs."""


async def unless_client_leaves(request: Request, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client hangs up; then raises ClientDisconnect.

    The request's body must have been read: what arrives after it can only be the hang-up.
    """
    outcome: list[T] = []
    failure: list[Exception] = []

    async def do(scope: anyio.CancelScope) -> None:
        try:
            outcome.append(await work)
        except Exception as error:  # noqa: BLE001 - carried out of the task group, which would wrap it
            failure.append(error)
        scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(do, tasks.cancel_scope)
        while (await request.receive())["type"] != "http.disconnect":
            pass
        tasks.cancel_scope.cancel()
    if failure:
        raise failure[0]
    if not outcome:
        raise ClientDisconnect
    return outcome[0]


class ClosingStream(StreamingResponse):
    """A streamed answer that frees what it needs however it ends, even if it never begins.

    Starlette leaves the generator suspended when the client hangs up while a chunk is being sent.
    """

    def __init__(
        self, content: AsyncGenerator[bytes, None], resources: AsyncExitStack, **options: Any
    ) -> None:
        super().__init__(content, **options)
        self._generator = content
        self._resources = resources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._generator.aclose()
                await self._resources.aclose()
