"""Hashing a file whose parts arrive in any order."""

import asyncio

from msp_registry.transfers.hashing import Digest, FileHasher


class OrderedHash:
    """Takes every part of a file once, and hashes them by their numbers, which begin at 1."""

    def __init__(self, hasher: FileHasher) -> None:
        self._hasher = hasher
        self._next = 1
        self._turns: dict[int, asyncio.Event] = {}

    async def add(self, number: int, data: bytes) -> None:
        """Returns when this part is hashed, for which all parts before it must have been added."""
        if number != self._next:
            await self._turns.setdefault(number, asyncio.Event()).wait()
        await self._hasher.update(data)
        self._next = number + 1
        following = self._turns.pop(self._next, None)
        if following is not None:
            following.set()

    def digest(self) -> Digest:
        """Of the parts hashed so far."""
        return self._hasher.digest()
