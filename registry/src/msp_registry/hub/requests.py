"""Requests to a hub: tried again after faults, slowed down as it asks, its token sent nowhere else."""

import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import httpx

from msp_registry.failures import HubMisbehaved, RateLimited
from msp_registry.hub.rate_limits import exhausted_for_s, wait_asked_s
from msp_registry.hub.refusals import Asked, origin, refusal, unreachable, untrusted

TRIES = 5
"""How often in a row a request may fail without a new byte before it is given up."""

MAX_WAIT_S = 600.0
"""A hub that asks for a longer wait is not waited for: the job fails and says so."""

MAX_ANSWER_BYTES = 64 << 20
"""Of one API answer; a page of a list of files has less than 1 MiB."""

_MAX_BACKOFF_S = 60.0
_CONNECT_TIMEOUT_S = 10.0
_BUSY = (408, 429, 500, 502, 503, 504)

Sleep = Callable[[float], Awaitable[None]]
Clock = Callable[[], float]
Kind = Literal["api", "files"]
"""The Hub counts both apart."""

log = logging.getLogger(__name__)


class HubRequests:
    """GETs with a patience. The token goes to the endpoint's own origin and nowhere else."""

    def __init__(
        self,
        endpoint: str,
        token: str | None,
        client: httpx.AsyncClient,
        *,
        sleep: Sleep,
        clock: Clock,
        stall_timeout_s: float,
    ) -> None:
        """Adds a hook to `client` that guards the token, redirects included. `clock` tells Unix time."""
        self._token = token
        self._origin = origin(httpx.URL(endpoint))
        self._client = client
        self._sleep = sleep
        self._clock = clock
        self._timeout = httpx.Timeout(stall_timeout_s, connect=min(stall_timeout_s, _CONNECT_TIMEOUT_S))
        self._quiet_until: dict[Kind, float] = {}
        client.event_hooks["request"].append(self._authorize)

    @asynccontextmanager
    async def open(
        self, url: str, asked: Asked, kind: Kind, headers: dict[str, str] | None = None
    ) -> AsyncGenerator[httpx.Response, None]:
        """A successful answer with its body unread, redirects followed. Raises JobFailure."""
        for attempt in range(1, TRIES + 1):
            await self._wait_for_quiet(kind)
            wait_s: float | None = backoff_s(attempt)
            try:
                response = await self._send(url, headers)
            except (httpx.TransportError, httpx.TooManyRedirects) as error:
                reason = f"{type(error).__name__}: {error}"
                if untrusted(reason):
                    raise unreachable(url, reason, attempt) from None
            else:
                try:
                    self._note_limits(response, kind)
                    if response.status_code in (200, 206):
                        yield response
                        return
                    if response.status_code not in _BUSY:
                        raise refusal(response, asked)
                    reason = f"HTTP {response.status_code}"
                    wait_s = self._wait_after(response, kind, attempt)
                finally:
                    await response.aclose()
            if attempt < TRIES and wait_s is not None:
                log.warning("%s: %s; trying again in %.0f s", url, reason, wait_s)
                await self._sleep(wait_s)
        raise unreachable(url, reason, TRIES)

    @asynccontextmanager
    async def open_once(
        self, url: str, headers: dict[str, str] | None = None
    ) -> AsyncGenerator[httpx.Response | None, None]:
        """As `open`, but None for whatever is not a success: the caller has another address to ask."""
        try:
            response = await self._send(url, headers)
        except (httpx.TransportError, httpx.TooManyRedirects) as error:
            log.info("%s: %s: %s", httpx.URL(url).host, type(error).__name__, error)
            yield None
            return
        try:
            yield response if response.status_code in (200, 206) else None
        finally:
            await response.aclose()

    async def answer(self, url: str, asked: Asked) -> tuple[Any, httpx.Response]:
        """The JSON that the API answers, and the answer itself. Raises JobFailure."""
        for attempt in range(1, TRIES + 1):
            try:
                async with self.open(url, asked, "api") as response:
                    body = await _small_body(response, url)
                break
            except (httpx.TransportError, httpx.DecodingError) as error:
                reason = f"{type(error).__name__}: {error}"
                if attempt == TRIES:
                    raise unreachable(url, reason, TRIES) from None
                log.warning("%s broke off (%s); asking again", url, reason)
                await self.pause(attempt)
        try:
            return json.loads(body), response
        except (ValueError, RecursionError):
            raise HubMisbehaved(f"{url} did not answer with JSON; is this a hub?") from None

    async def pause(self, failures: int) -> None:
        """After a body that broke off, so many times in a row."""
        await self._sleep(backoff_s(failures))

    async def _send(self, url: str, headers: dict[str, str] | None) -> httpx.Response:
        request = self._client.build_request("GET", url, headers=headers, timeout=self._timeout)
        return await self._client.send(request, stream=True, follow_redirects=True)

    def _wait_after(self, response: httpx.Response, kind: Kind, attempt: int) -> float | None:
        """How long to wait after a busy answer; None where the wait holds for all requests of this kind."""
        asked_s = wait_asked_s(response.headers, self._clock())
        if not asked_s:
            # Nor does "at once" help: all tries would be over before the hub has drawn breath.
            return backoff_s(attempt)
        if asked_s > MAX_WAIT_S:
            raise RateLimited(
                f"{response.url.host} answers HTTP {response.status_code} and asks to wait {asked_s:.0f} s, "
                f"more than the {MAX_WAIT_S:.0f} s a job waits; ask for the model again after that time"
                + ("" if self._token else ", or set HF_TOKEN for a higher limit")
            )
        if origin(response.url) != self._origin:
            return asked_s
        self._be_quiet(kind, asked_s)
        return None

    def _note_limits(self, response: httpx.Response, kind: Kind) -> None:
        """Slows down before the hub refuses: the last request that it allows says so."""
        for answer in (*response.history, response):
            wait_s = exhausted_for_s(answer.headers)
            if wait_s is not None and origin(answer.url) == self._origin:
                self._be_quiet(kind, min(wait_s, MAX_WAIT_S))

    def _be_quiet(self, kind: Kind, seconds: float) -> None:
        self._quiet_until[kind] = max(self._quiet_until.get(kind, 0.0), self._clock() + seconds)

    async def _wait_for_quiet(self, kind: Kind) -> None:
        left_s = min(self._quiet_until.get(kind, 0.0) - self._clock(), MAX_WAIT_S)
        if left_s > 0:
            log.warning("the hub allows no further request of kind %r for %.0f s; waiting", kind, left_s)
            await self._sleep(left_s)

    async def _authorize(self, request: httpx.Request) -> None:
        """Runs before every request, redirects included."""
        if self._token is not None and origin(request.url) == self._origin:
            request.headers["Authorization"] = f"Bearer {self._token}"
        else:
            request.headers.pop("Authorization", None)


def backoff_s(failures: int) -> float:
    """How long to wait after so many failures in a row."""
    return min(_MAX_BACKOFF_S, 0.5 * 2.0 ** (failures - 1))


async def _small_body(response: httpx.Response, url: str) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise HubMisbehaved(f"{url} answers with more than {MAX_ANSWER_BYTES} bytes; is this a hub?")
    return bytes(body)
