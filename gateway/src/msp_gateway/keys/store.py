"""What keeps API keys. Everything here may block: it is called in threads, never while a request waits.

StoreError
├── StoreAway      the file or the database cannot be read or written now
├── UnknownKey     there is no key with this id
├── NameTaken      a key that was not revoked has this name already
└── ReadOnly       keys cannot be changed here
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from msp_common.contracts.keys import NO_LIMITS, ApiKey, KeyLimits


class StoreError(Exception):
    """The text is for the operator."""


class StoreAway(StoreError):
    """The file or the database cannot be read or written now."""


class UnknownKey(StoreError):
    """There is no key with this id."""


class NameTaken(StoreError):
    """A key that was not revoked has this name already."""


class ReadOnly(StoreError):
    """Keys cannot be changed here."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """All that is kept of a key."""

    id: str
    name: str
    sha256: str = field(repr=False)
    created_at: float = 0.0
    expires_at: float | None = None
    revoked_at: float | None = None
    limits: KeyLimits = NO_LIMITS

    def works(self, now: float) -> bool:
        """Whether it is neither revoked nor expired; `now` in seconds since the epoch."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def shown(self) -> ApiKey:
        """What may be told of it."""
        return ApiKey(
            id=self.id,
            name=self.name,
            created_at=self.created_at,
            expires_at=self.expires_at,
            revoked_at=self.revoked_at,
            limits=self.limits,
        )


class KeyStore(Protocol):
    """Keys at rest. Every method raises StoreAway."""

    def mark(self) -> Hashable:
        """Something that differs whenever the keys may have changed. Cheap: it is asked every second."""

    def load(self) -> Sequence[StoredKey]:
        """All keys, those that no longer work too."""

    def add(self, key: StoredKey) -> None:
        """Raises NameTaken and ReadOnly."""

    def replace(self, key: StoredKey) -> None:
        """Write the key with this id anew. Raises UnknownKey, NameTaken and ReadOnly."""
