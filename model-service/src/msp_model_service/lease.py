"""The worker's lease with the service registry, kept alive by heartbeats."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

import httpx
from pydantic import SecretStr, ValidationError

from msp_common.contracts.workers import HEARTBEAT_S, LeaseGranted, WorkerLease

_TIMEOUT_S = 2.0
log = logging.getLogger(__name__)


class LeaseRefused(Exception):
    """The heartbeat did not get through; the message says why."""


class LeaseOffice(Protocol):
    """Where leases are given: the service registry."""

    async def renew(self, worker_id: str, lease: WorkerLease) -> LeaseGranted:
        """Give or renew the lease. Raises LeaseRefused."""

    async def release(self, worker_id: str) -> None:
        """End the lease. Raises LeaseRefused."""

    async def close(self) -> None:
        """Close connections."""


class HttpLeaseOffice:
    """The service registry over HTTP."""

    def __init__(self, base_url: str, token: SecretStr | None) -> None:
        headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
        # Proxies of the environment are for the way out, never for the way to a neighbour.
        self._http = httpx.AsyncClient(
            base_url=base_url, headers=headers, timeout=_TIMEOUT_S, trust_env=False
        )
        self._base_url = base_url

    async def renew(self, worker_id: str, lease: WorkerLease) -> LeaseGranted:
        """See LeaseOffice."""
        answer = await self._ask("PUT", worker_id, lease.model_dump_json())
        try:
            return LeaseGranted.model_validate_json(answer.content)
        except ValidationError:
            raise LeaseRefused(f"{self._base_url} answered {answer.text[:80]!r}, which is no lease") from None

    async def release(self, worker_id: str) -> None:
        """See LeaseOffice. A lease that is gone already is as good as released."""
        await self._ask("DELETE", worker_id)

    async def close(self) -> None:
        """See LeaseOffice."""
        await self._http.aclose()

    async def _ask(self, method: str, worker_id: str, body: str | None = None) -> httpx.Response:
        try:
            answer = await self._http.request(
                method,
                f"/workers/{worker_id}",
                content=body,
                headers={"Content-Type": "application/json"} if body else {},
            )
        except httpx.HTTPError as error:
            raise LeaseRefused(
                f"{self._base_url} cannot be reached: {str(error) or type(error).__name__}"
            ) from error
        if answer.status_code in (401, 403):
            raise LeaseRefused(f"{self._base_url} answered {answer.status_code}: check CLUSTER_TOKEN")
        if answer.is_error and not (method == "DELETE" and answer.status_code == 404):
            raise LeaseRefused(f"{self._base_url} answered {answer.status_code}: {answer.text[:200]}")
        return answer


class LeaseKeeper:
    """Renews the lease at every heartbeat and at once after `changed`.

    The service registry's absence changes nothing for the worker: it goes on serving and goes on trying.
    One line is logged when the lease is lost and one when it is back.
    """

    def __init__(
        self,
        office: LeaseOffice,
        worker_id: str,
        describe: Callable[[], WorkerLease],
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._office = office
        self._worker_id = worker_id
        self._describe = describe
        self._heartbeat_s = heartbeat_s
        self._changed = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._held = False
        self.problem: str | None = "not registered yet"
        """Why there is no lease; null while there is one."""

    def start(self) -> None:
        """Register, then go on renewing until `stop`."""
        self._task = asyncio.create_task(self._run(), name="lease")

    def changed(self) -> None:
        """Something changed that others should know now and not at the next heartbeat."""
        self._changed.set()

    async def beat(self) -> None:
        """Send one heartbeat now; a failure is kept in `problem`."""
        async with self._one_at_a_time:
            try:
                await self._office.renew(self._worker_id, self._describe())
            except LeaseRefused as error:
                self._lost(str(error), None)
                return
            except Exception as error:  # noqa: BLE001  (an engine's figures, say: heartbeats must go on)
                self._lost(f"{type(error).__name__}: {error}", error)
                return
            if not self._held:
                log.info("registered as %s", self._worker_id)
            self.problem, self._held = None, True

    def _lost(self, problem: str, bug: Exception | None) -> None:
        if problem != self.problem:
            log.warning("no lease from the service registry: %s; trying on", problem, exc_info=bug)
        self.problem, self._held = problem, False

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            await self.beat()
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def stop(self, *, release: bool) -> None:
        """Stop renewing, release the lease if told, and close. Nothing here keeps a worker from ending."""
        if self._task is not None:
            async with self._one_at_a_time:  # a heartbeat cut short could arrive after the release
                self._task.cancel()
            await asyncio.wait([self._task])
        if release:
            try:
                await self._office.release(self._worker_id)
            except LeaseRefused as error:
                log.warning("the lease was not released and will run out by itself: %s", error)
        await self._office.close()
