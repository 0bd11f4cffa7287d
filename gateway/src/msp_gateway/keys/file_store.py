"""Keys in a file that the operator writes: YAML, of which JSON is a part. The gateway only reads it."""

from collections.abc import Hashable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from msp_common.contracts.keys import KeyLimits
from msp_common.strict_yaml import Strict, Unreadable, mistake, read_yaml
from msp_gateway.keys.store import ReadOnly, StoreAway, StoredKey


class _Entry(Strict):
    """One key; `msp keys generate` writes such entries."""

    id: str = Field(pattern=r"^[A-Za-z0-9]{1,64}$")
    name: str = Field(min_length=1, max_length=100)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    expires_at: datetime | float | None = None
    revoked: bool = False
    limits: KeyLimits = KeyLimits()


class _Keys(Strict):
    keys: Annotated[list[_Entry], Field(default_factory=list)]


class FileKeyStore:
    """Read anew whenever the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def mark(self) -> Hashable:
        """When it was written, its size, and which file it is: editors put a new one in its place."""
        try:
            about = self._path.stat()
        except OSError as error:
            raise StoreAway(f"GATEWAY_KEYS_FILE {self._path} cannot be read: {error.strerror}") from None
        return about.st_mtime_ns, about.st_size, about.st_ino

    def load(self) -> Sequence[StoredKey]:
        """Raises StoreAway also for a file with a mistake in it, naming its place."""
        try:
            keys = _Keys.model_validate(read_yaml(self._path) or {}).keys
        except Unreadable as error:
            raise StoreAway(f"GATEWAY_KEYS_FILE {error}") from None
        except ValidationError as error:
            text = "; ".join(mistake(e) for e in error.errors(include_url=False))
            raise StoreAway(f"GATEWAY_KEYS_FILE {self._path}: {text}") from None
        ids = [key.id for key in keys]
        if twice := sorted({i for i in ids if ids.count(i) > 1}):
            raise StoreAway(f"GATEWAY_KEYS_FILE {self._path}: these ids are there twice: {', '.join(twice)}")
        return [_stored(key) for key in keys]

    def add(self, key: StoredKey) -> None:
        """Raises ReadOnly."""
        raise ReadOnly(self._why())

    def replace(self, key: StoredKey) -> None:
        """Raises ReadOnly."""
        raise ReadOnly(self._why())

    def _why(self) -> str:
        return (
            f"the keys are those of the file {self._path} (GATEWAY_KEYS_FILE), which the gateway only reads: "
            "change it there; msp keys generate makes an entry"
        )


def _stored(entry: _Entry) -> StoredKey:
    expires = entry.expires_at
    return StoredKey(
        id=entry.id,
        name=entry.name,
        sha256=entry.sha256,
        expires_at=expires.timestamp() if isinstance(expires, datetime) else expires,
        revoked_at=0.0 if entry.revoked else None,
        limits=entry.limits,
    )
