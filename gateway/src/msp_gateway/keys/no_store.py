"""A gateway that was told of no place for keys."""

from collections.abc import Hashable, Sequence

from msp_gateway.keys.store import ReadOnly, StoredKey

_WHY = (
    "this gateway has nowhere to keep keys: set GATEWAY_DATABASE_URL, such as sqlite:////data/gateway.db, "
    "and start it again"
)


class NoKeyStore:
    """Holds no key."""

    def mark(self) -> Hashable:
        """Never changes."""
        return None

    def load(self) -> Sequence[StoredKey]:
        """Nothing."""
        return ()

    def add(self, key: StoredKey) -> None:
        """Raises ReadOnly."""
        raise ReadOnly(_WHY)

    def replace(self, key: StoredKey) -> None:
        """Raises ReadOnly."""
        raise ReadOnly(_WHY)
