"""The newest requests, those under way among them."""

from collections import deque
from collections.abc import Iterator

from msp_gateway.record import Record


class RecentRequests:
    """Keeps so many records; the oldest make way. Content is never a part of a record."""

    def __init__(self, kept: int) -> None:
        self._records: deque[Record] = deque(maxlen=kept)

    def add(self, record: Record) -> None:
        """A request has arrived; its record is filled in while it is kept."""
        self._records.append(record)

    def find(self, request_id: str) -> Record | None:
        """The newest with this id: clients may choose ids, so there may be several."""
        return next((record for record in self.newest() if record.request_id == request_id), None)

    def newest(self) -> Iterator[Record]:
        """All that are kept, the newest first."""
        return reversed(self._records)
