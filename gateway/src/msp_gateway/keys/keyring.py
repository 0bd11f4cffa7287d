"""The keys as the gateway knows them from memory, renewed whenever the store says that they changed."""

import asyncio
import hmac
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from msp_common.api_keys import digest, id_of, new_key
from msp_common.contracts.keys import KeyChange, KeyLimits, NewApiKey
from msp_gateway.admission.identity import Identity
from msp_gateway.keys.store import KeyStore, StoreAway, StoredKey, UnknownKey

POLL_S = 1.0
"""How often the store is asked whether anything changed; within this time a revocation works everywhere."""
# Compared with where a key is unknown, so that an unknown id takes as long as a wrong secret.
_NOBODYS = digest("")
_REMEMBERED = 4096

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Known:
    key: StoredKey
    identity: Identity


class Keyring:
    """Answers from memory; what reads and writes the store runs in threads.

    While the store is away, the keys that were read last hold.
    """

    def __init__(
        self, store: KeyStore, clock: Callable[[], float] = time.time, poll_s: float = POLL_S
    ) -> None:
        """`clock` gives seconds since the epoch."""
        self._store = store
        self._clock = clock
        self._poll_s = poll_s
        self._known: dict[str, _Known] = {}
        self._shown: dict[str, _Known] = {}
        """Those that were shown, by their secret, so that not each request costs a hash."""
        self._had_keys = False
        self._mark: Hashable = None
        self._away: str | None = None
        self._changing, self._reading = asyncio.Lock(), asyncio.Lock()

    @property
    def has_keys(self) -> bool:
        """Whether there ever was a key. One that was revoked counts, and one that is gone from its file."""
        return self._had_keys

    @property
    def away(self) -> str | None:
        """Why the store cannot be read now; None while it can."""
        return self._away

    def find(self, secret: str) -> Identity | None:
        """Whose key this is; None for what is no key that works."""
        known = self._shown.get(secret)
        if known is None:
            known = self._known.get(id_of(secret) or "")
            same = hmac.compare_digest(digest(secret), known.key.sha256 if known else _NOBODYS)
            if known is None or not same:
                return None
            if len(self._shown) >= _REMEMBERED:
                self._shown.clear()
            self._shown[secret] = known
        return known.identity if known.key.works(self._clock()) else None

    def keys(self) -> Sequence[StoredKey]:
        """All keys, as the store gave them."""
        return [known.key for known in self._known.values()]

    def name_of(self, key_id: str) -> str | None:
        """None for a key that is not known."""
        known = self._known.get(key_id)
        return known.key.name if known else None

    async def read(self) -> None:
        """Read the keys, if they changed. Raises StoreAway."""
        # One at a time: what was read before a change must not take the place of what was read after it.
        async with self._reading:
            mark = await asyncio.to_thread(self._store.mark)
            if mark != self._mark or not self._known:
                keys = await asyncio.to_thread(self._store.load)
                self._shown = {}
                self._known = {key.id: _Known(key, Identity(key.name, key.id, key.limits)) for key in keys}
                self._mark = mark
                self._had_keys = self._had_keys or bool(keys)

    async def run(self) -> None:
        """Follow the store for ever."""
        while True:
            await asyncio.sleep(self._poll_s)
            try:
                await self.read()
            except StoreAway as error:
                if self._away is None:
                    log.warning("the API keys cannot be read, those read last hold: %s", error)
                self._away = str(error)
            else:
                if self._away is not None:
                    log.info("the API keys can be read again")
                self._away = None

    async def create(self, wanted: NewApiKey) -> tuple[StoredKey, str]:
        """A new key, and its secret. Raises StoreAway, NameTaken and ReadOnly."""
        made = new_key()
        limits = KeyLimits.model_validate(wanted.model_dump(include=set(KeyLimits.model_fields)))
        key = StoredKey(
            made.id, wanted.name, made.sha256, self._clock(), expires_at=wanted.expires_at, limits=limits
        )
        async with self._changing:
            await asyncio.to_thread(self._store.add, key)
            await self.read()
        return key, made.secret

    async def revoke(self, key_id: str) -> StoredKey:
        """The key works no more. Raises StoreAway, UnknownKey and ReadOnly. Twice is as good as once."""

        def revoked(key: StoredKey) -> StoredKey:
            return key if key.revoked_at is not None else replace(key, revoked_at=self._clock())

        return await self._change(key_id, revoked)

    async def set(self, key_id: str, change: KeyChange) -> StoredKey:
        """Change what was sent of it. Raises StoreAway, UnknownKey and ReadOnly."""
        sent = change.model_dump(exclude_unset=True)

        def changed(key: StoredKey) -> StoredKey:
            limits = {name: value for name, value in sent.items() if name in KeyLimits.model_fields}
            return replace(
                key,
                expires_at=sent.get("expires_at", key.expires_at),
                limits=key.limits.model_copy(update=limits),
            )

        return await self._change(key_id, changed)

    async def _change(self, key_id: str, how: Callable[[StoredKey], StoredKey]) -> StoredKey:
        async with self._changing:
            await self.read()
            known = self._known.get(key_id)
            if known is None:
                raise UnknownKey(f"there is no key with the id {key_id[:100]!r}")
            key = how(known.key)
            if key != known.key:
                await asyncio.to_thread(self._store.replace, key)
                await self.read()
        return key
