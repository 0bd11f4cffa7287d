"""`/admin/keys` and `/admin/usage`: what `msp keys` works with. Under the gateway's admin token."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, Query
from pydantic import SecretStr

from msp_common.contracts.keys import (
    ApiKey,
    ApiKeys,
    CreatedApiKey,
    KeyChange,
    NewApiKey,
    UsageLine,
    UsageLines,
)
from msp_common.errors import Conflict, NotFound, Unavailable
from msp_gateway.admin_token import AdminToken
from msp_gateway.keys.keyring import Keyring
from msp_gateway.keys.store import NameTaken, ReadOnly, StoreAway, UnknownKey

SHOWN_DAYS = 30
log = logging.getLogger(__name__)


class Usage(Protocol):
    """What was used."""

    async def lines(self, since: date, until: date) -> Sequence[UsageLine]:
        """Those of these days, both included. Raises StoreAway."""


def build_admin_router(keyring: Keyring, usage: Usage, token: SecretStr | None) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/admin", tags=["admin"], dependencies=[Depends(AdminToken(token))])

    @router.get("/keys", summary="All API keys, without their secrets")
    async def list_keys() -> ApiKeys:
        keys = sorted(keyring.keys(), key=lambda key: -key.created_at)
        return ApiKeys(keys=[key.shown() for key in keys])

    @router.post("/keys", status_code=201, summary="Make an API key; its secret is shown this once")
    async def create_key(wanted: NewApiKey) -> CreatedApiKey:
        with _told():
            key, secret = await keyring.create(wanted)
        log.info("API key created", extra={"key_id": key.id, "key_name": key.name})
        return CreatedApiKey(secret=secret, **dict(key.shown()))

    @router.patch("/keys/{key_id}", summary="Change a key's limits; only what is sent changes")
    async def change_key(key_id: str, change: KeyChange) -> ApiKey:
        with _told():
            key = await keyring.set(key_id, change)
        log.info("API key changed", extra={"key_id": key.id, "key_name": key.name})
        return key.shown()

    @router.delete("/keys/{key_id}", summary="Revoke a key: it works no more, and stays listed")
    async def revoke_key(key_id: str) -> ApiKey:
        with _told():
            key = await keyring.revoke(key_id)
        log.info("API key revoked", extra={"key_id": key.id, "key_name": key.name})
        return key.shown()

    @router.get("/usage", summary="What keys used, by day and model")
    async def get_usage(
        since: Annotated[date | None, Query(description="First day, in UTC; else 30 days ago")] = None,
        until: Annotated[date | None, Query(description="Last day; else today")] = None,
        key_id: Annotated[str | None, Query(description="Only this key's")] = None,
    ) -> UsageLines:
        last = until or datetime.now(UTC).date()
        with _told():
            lines = await usage.lines(since or last - timedelta(days=SHOWN_DAYS), last)
        return UsageLines(lines=_named(lines, key_id, keyring.name_of))

    return router


def _named(
    lines: Sequence[UsageLine], key_id: str | None, name_of: Callable[[str], str | None]
) -> list[UsageLine]:
    return [
        line.model_copy(update={"key_name": name_of(line.key_id)})
        for line in lines
        if key_id is None or line.key_id == key_id
    ]


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except UnknownKey as error:
        raise NotFound(f"{error}.") from None
    except NameTaken as error:
        raise Conflict(f"{error}.", param="name", code="name_taken") from None
    except ReadOnly as error:
        raise Conflict(f"{error}.", code="keys_read_only") from None
    except StoreAway as error:
        log.error("the keys cannot be read or written: %s", error)
        raise Unavailable("The keys cannot be read or written now; the gateway's log says why.") from None
