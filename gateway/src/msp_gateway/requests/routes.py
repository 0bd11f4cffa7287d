"""`GET /requests`: what happened to the newest requests."""

from collections.abc import Callable
from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from msp_common.contracts.base import Contract
from msp_common.errors import NotFound
from msp_gateway.requests.explanation import RequestExplained, explain
from msp_gateway.requests.recent import RecentRequests

MayRead = Callable[[Request], str | None]
"""Tells whose requests the asker may read: a key's name, or None for all. Raises Unauthenticated."""


class RequestsExplained(Contract):
    """Answer of `GET /requests`."""

    requests: list[RequestExplained]


def build_router(recent: RecentRequests, may_read: MayRead) -> APIRouter:
    """The routes over these records."""
    router = APIRouter(tags=["requests"])

    async def reader(request: Request) -> str | None:
        return may_read(request)

    Reader = Annotated[str | None, Depends(reader)]

    @router.get("/requests", summary="The newest requests, those under way among them")
    async def get_requests(
        reader: Reader,
        model: str | None = None,
        key: str | None = None,
        worker: str | None = None,
        status: Annotated[int | None, Query(ge=100, le=599)] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    ) -> RequestsExplained:
        wanted = (
            record
            for record in recent.newest()
            if reader in (None, record.identity)
            and model in (None, record.model, record.requested_model)
            and key in (None, record.identity)
            and worker in (None, record.worker)
            and status in (None, record.status)
        )
        return RequestsExplained(requests=[explain(record) for record in islice(wanted, limit)])

    @router.get("/requests/{request_id}", summary="What happened to one request, and why")
    async def get_request(request_id: str, reader: Reader) -> RequestExplained:
        record = recent.find(request_id)
        if record is None or reader not in (None, record.identity):
            raise NotFound(
                f"No request {request_id[:200]!r} is remembered; only the newest ones are.",
                param="request_id",
            )
        return explain(record)

    return router
