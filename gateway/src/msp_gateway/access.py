"""Who may ask, and when: the parts of authentication, admission and accounting of usage, put together."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from msp_common.contracts.workers import Worker
from msp_gateway.admission.fair_queue import Room
from msp_gateway.admission.gate import Gate, QueueBounds
from msp_gateway.admission.queue_metrics import QueueMetrics
from msp_gateway.admission.rate_limits import RateLimits
from msp_gateway.keys.admin_routes import build_admin_router
from msp_gateway.keys.authenticator import KeyAuthenticator
from msp_gateway.keys.file_store import FileKeyStore
from msp_gateway.keys.keyring import Keyring
from msp_gateway.keys.no_store import NoKeyStore
from msp_gateway.keys.store import KeyStore
from msp_gateway.settings import GatewaySettings
from msp_gateway.usage.book import MemoryUsage, UsageBook, UsageStore
from msp_gateway.usage.collector import UsageCollector, UsageSource
from msp_gateway.usage.ledger import UsageLedger


@dataclass(frozen=True)
class Stores:
    """Where keys and usage are kept."""

    keys: KeyStore = field(default_factory=NoKeyStore)
    usage: UsageStore = field(default_factory=MemoryUsage)


@dataclass(frozen=True)
class Access:
    """What the gateway's application is built with."""

    keyring: Keyring
    authenticator: KeyAuthenticator
    admission: Gate
    ledger: UsageLedger
    admin_routes: APIRouter
    background: Mapping[str, Callable[[], Awaitable[None]]]


def open_stores(settings: GatewaySettings) -> Stores:
    """As the settings say: a file or the database for the keys, the database or memory for usage.

    A store that was named and cannot be opened is an error, never an open gateway. Raises StoreAway.
    """
    stores = Stores()
    if settings.database_url is not None:
        # A second of imports, which a gateway without a database need not wait for.
        from msp_gateway.keys.database import open_database
        from msp_gateway.keys.key_table import KeyTable
        from msp_gateway.keys.usage_table import UsageTable

        engine = open_database(settings.database_url.get_secret_value())
        stores = Stores(KeyTable(engine), UsageTable(engine))
    if settings.keys_file is not None:
        keys = FileKeyStore(settings.keys_file)
        keys.load()
        stores = replace(stores, keys=keys)
    return stores


def build_access(
    settings: GatewaySettings,
    stores: Stores,
    *,
    metrics: CollectorRegistry,
    workers: Callable[[], Sequence[Worker]],
    replicas_of: Callable[[str], Sequence[Worker]],
    usage_source: UsageSource | None,
    clock: Callable[[], float],
) -> Access:
    """The parts, over these stores. Without `usage_source` no worker is asked what requests used."""
    keyring = Keyring(stores.keys)
    limits, book = RateLimits(clock), UsageBook(stores.usage)
    ledger = UsageLedger(limits, book, metrics, clock)
    room = Room(settings.queue_max, settings.queue_max_per_key, settings.queue_max_bytes)
    bounds = QueueBounds(room, settings.queue_deadline_s, settings.queue_ahead)
    gate = Gate(bounds, limits, ledger, replicas_of, clock, QueueMetrics(metrics))
    background = {"keys": keyring.run, "queue": gate.run, "usage": book.run}
    if usage_source is not None:
        background["usage-collector"] = UsageCollector(usage_source, workers, ledger).run
    return Access(
        keyring=keyring,
        authenticator=KeyAuthenticator(keyring, settings.auth),
        admission=gate,
        ledger=ledger,
        admin_routes=build_admin_router(keyring, book, settings.admin_token),
        background=background,
    )
