"""What `msp` asks of the gateway's admin routes."""

from datetime import date
from typing import Any
from urllib.parse import quote

import httpx

from msp_cli.registry_api import asked, bearer, parsed
from msp_common.contracts.keys import ApiKey, ApiKeys, CreatedApiKey, KeyChange, NewApiKey, UsageLines


class GatewayAdminApi:
    """Every method raises ServiceAnsweredBadly."""

    def __init__(self, client: httpx.AsyncClient, url: str, admin_token: str | None) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._headers = bearer(admin_token)

    async def keys(self) -> ApiKeys:
        """All keys."""
        return parsed(ApiKeys, await self._ask("GET", "/keys"))

    async def create(self, wanted: NewApiKey) -> CreatedApiKey:
        """A new key, with its secret."""
        return parsed(CreatedApiKey, await self._ask("POST", "/keys", json=wanted.model_dump(mode="json")))

    async def change(self, key_id: str, change: KeyChange) -> ApiKey:
        """Change the fields that are set."""
        body = change.model_dump(mode="json", exclude_unset=True)
        return parsed(ApiKey, await self._ask("PATCH", _key(key_id), json=body))

    async def revoke(self, key_id: str) -> ApiKey:
        """The key works no more."""
        return parsed(ApiKey, await self._ask("DELETE", _key(key_id)))

    async def usage(self, since: date | None, until: date | None, key_id: str | None) -> UsageLines:
        """What was used, by day, key and model."""
        wanted = {"since": since, "until": until, "key_id": key_id}
        params = {name: str(value) for name, value in wanted.items() if value is not None}
        return parsed(UsageLines, await self._ask("GET", "/usage", params=params))

    async def _ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        return await asked(self._client, method, f"{self._url}/admin{path}", headers=self._headers, **request)


def _key(key_id: str) -> str:
    return f"/keys/{quote(key_id, safe='')}"
