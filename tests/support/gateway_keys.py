"""Stores of API keys for tests: on disk, in memory, and away."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Engine

from msp_common.api_keys import new_key
from msp_common.contracts.keys import KeyLimits
from msp_gateway.access import Stores
from msp_gateway.keys.database import open_database
from msp_gateway.keys.key_table import KeyTable
from msp_gateway.keys.store import StoreAway, StoredKey, UnknownKey
from msp_gateway.keys.usage_table import UsageTable

ADMIN_TOKEN = "admin-secret"


def stored_key(name: str = "someone", *, created_at: float = 1.0, **limits: object) -> tuple[StoredKey, str]:
    """A key, and its secret."""
    made = new_key()
    own = KeyLimits.model_validate(limits)
    return StoredKey(made.id, name, made.sha256, created_at, limits=own), made.secret


def database_stores(path: Path) -> tuple[Stores, Engine]:
    """Keys and usage in an SQLite database in this folder."""
    engine = open_database(f"sqlite:///{path / 'gateway.db'}")
    return Stores(KeyTable(engine), UsageTable(engine)), engine


@dataclass
class MemoryKeys:
    """A key store that remembers how often it was read, and that can be away."""

    kept: dict[str, StoredKey] = field(default_factory=dict)
    revision: int = 0
    loads: int = 0
    is_away: bool = False

    def mark(self) -> Hashable:
        if self.is_away:
            raise StoreAway("the disk is gone")
        return self.revision

    def load(self) -> Sequence[StoredKey]:
        self.mark()
        self.loads += 1
        return list(self.kept.values())

    def add(self, key: StoredKey) -> None:
        self.mark()
        self.revision += 1
        self.kept[key.id] = replace(key)

    def replace(self, key: StoredKey) -> None:
        if key.id not in self.kept:
            raise UnknownKey(key.id)
        self.add(key)
