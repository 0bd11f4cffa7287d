"""Keys in the gateway's database."""

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Row, insert, select, update

from msp_common.contracts.keys import KeyLimits
from msp_gateway.keys.database import telling
from msp_gateway.keys.store import NameTaken, StoredKey, UnknownKey
from msp_gateway.keys.tables import API_KEYS, KEYS_REVISION


class KeyTable:
    """Every change counts the revision up in the same transaction, so that all gateways see it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def mark(self) -> Hashable:
        """The revision."""
        with telling(self._engine), self._engine.connect() as connection:
            revision: int = connection.execute(select(KEYS_REVISION.c.revision)).scalar_one()
            return revision

    def load(self) -> Sequence[StoredKey]:
        """All keys, the newest first."""
        with telling(self._engine), self._engine.connect() as connection:
            rows = connection.execute(select(API_KEYS).order_by(API_KEYS.c.created_at.desc()))
            return [_stored(row) for row in rows]

    def add(self, key: StoredKey) -> None:
        """Raises NameTaken."""
        with self._changing() as connection:
            _refuse_second(connection, key)
            connection.execute(insert(API_KEYS).values(_values(key)))

    def replace(self, key: StoredKey) -> None:
        """Raises UnknownKey and NameTaken."""
        with self._changing() as connection:
            if key.revoked_at is None:
                _refuse_second(connection, key)
            done = connection.execute(update(API_KEYS).where(API_KEYS.c.id == key.id).values(_values(key)))
            if not done.rowcount:
                raise UnknownKey(f"there is no key with the id {key.id!r}")

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        with telling(self._engine), self._engine.begin() as connection:
            # First of all: it makes changes wait for each other.
            connection.execute(update(KEYS_REVISION).values(revision=KEYS_REVISION.c.revision + 1))
            yield connection


def _refuse_second(connection: Connection, key: StoredKey) -> None:
    same = select(API_KEYS).where(
        API_KEYS.c.name == key.name, API_KEYS.c.id != key.id, API_KEYS.c.revoked_at.is_(None)
    )
    if row := connection.execute(same).first():
        raise NameTaken(f"the key {row.id} has the name {key.name!r} already; choose another, or revoke it")


def _values(key: StoredKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "sha256": key.sha256,
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        **key.limits.model_dump(),
    }


def _stored(row: Row[Any]) -> StoredKey:
    limits = KeyLimits.model_validate({name: getattr(row, name) for name in KeyLimits.model_fields})
    return StoredKey(row.id, row.name, row.sha256, row.created_at, row.expires_at, row.revoked_at, limits)
