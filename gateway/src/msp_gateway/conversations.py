"""Which conversation a request belongs to, and which replica it is at home at. Pure.

A worker that has seen a conversation's beginning may still hold its key-value cache. Only header fields are
looked at: the body is not read for it.
"""

from collections.abc import Mapping, Sequence
from hashlib import blake2b

from msp_common.contracts.workers import Worker

FIELDS = ("chatui-conversation-id", "x-openwebui-chat-id", "x-session-id")
"""What Chat UI sends, what Open WebUI sends when it forwards such things, and a field for anybody."""

MAX_LENGTH = 200

_RAW_FIELDS = tuple(field.encode() for field in FIELDS)


def conversation_of(fields: Mapping[bytes, bytes]) -> str | None:
    """The conversation's name, if the client gave one in these header fields."""
    for name in _RAW_FIELDS:
        if value := fields.get(name):
            return value.decode("latin-1")[:MAX_LENGTH]
    return None


def favourite(conversation: str, workers: Sequence[Worker]) -> Worker:
    """The same worker each time, as long as it is among these; the others' conversations stay where they are
    when one comes or goes (rendezvous hashing). `workers` is not empty."""

    def weight(worker: Worker) -> bytes:
        return blake2b(f"{conversation}\0{worker.id}".encode(), digest_size=8).digest()

    return max(workers, key=weight)
