"""A gateway whose short way is watched: how many requests took it, and how many were handed over from it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from fastapi import FastAPI

from msp_common.contracts.workers import Worker
from msp_gateway.direct.exchange import Exchange
from msp_gateway.direct.ordinary import Ordinary
from msp_gateway.direct.protocol import direct_protocol
from msp_gateway.direct.way import ShortWay
from msp_gateway.settings import GatewaySettings
from support.gateway_clients import CHAT, post
from support.gateway_cluster import Cluster, FakeDirectory
from support.servers import run_server


class WatchedWay:
    """Stands before the real one."""

    def __init__(self, way: ShortWay) -> None:
        self._way = way
        self.taken = 0
        """Requests that were sent to a worker without a task."""
        self.handed_over = 0
        """Those of them that the ordinary way went on with."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._way, name)

    @property
    def open(self) -> int:
        """How many are on it now."""
        return len(self._way._exchanges)

    def begin(self, *request: Any) -> Exchange | None:
        """The last of these is what the request is handed over to."""
        *before, go_ordinary = request
        taken = False

        def go(ordinary: Ordinary) -> None:
            self.handed_over += taken
            go_ordinary(ordinary)

        begin: Any = self._way.begin
        exchange: Exchange | None = begin(*before, go)
        taken = exchange is not None
        self.taken += taken
        return exchange


@dataclass
class ShortCluster(Cluster):
    """A cluster whose gateway is served as in production."""

    ways: list[WatchedWay] = field(default_factory=list)

    @property
    def taken(self) -> tuple[int, int]:
        """How many requests took the short way, and how many of those were handed over."""
        return self.ways[0].taken, self.ways[0].handed_over


@contextmanager
def served(cluster: ShortCluster, app: FastAPI, **settings: Any) -> Iterator[ShortCluster]:
    """This gateway on a real port; its short way is watched."""
    way = WatchedWay(app.state.short_way)
    cluster.ways.append(way)
    cluster.clock.now += 60
    limits = GatewaySettings(**settings).connection_limits
    with run_server(app, http=direct_protocol(cast(ShortWay, way), limits)) as url:
        cluster.url = url
        yield cluster


@contextmanager
def short_gateway(
    *workers: Worker,
    parts: Mapping[str, Any] | None = None,
    cluster: ShortCluster | None = None,
    **settings: Any,
) -> Iterator[ShortCluster]:
    """A gateway over these workers; `parts` are as `Cluster.app` takes them."""
    cluster = cluster or ShortCluster()
    cluster.directory = FakeDirectory(list(workers))
    with served(cluster, cluster.app(**(parts or {}), **settings), **settings) as serving:
        yield serving


async def warm(gateway: ShortCluster) -> None:
    """One request that is not counted: from now on a connection to its worker is kept."""
    before = gateway.taken
    assert (await post(gateway, CHAT)).status_code == 200
    way = gateway.ways[0]
    way.taken, way.handed_over = before
