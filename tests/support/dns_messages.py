"""As much of the DNS's format as a server needs that answers every question."""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address

_A = 1
_ANSWER, _NO_SUCH_NAME = 0x8180, 0x8183
_TYPES = {
    1: "A",
    2: "NS",
    5: "CNAME",
    6: "SOA",
    12: "PTR",
    15: "MX",
    16: "TXT",
    28: "AAAA",
    33: "SRV",
    65: "HTTPS",
}


@dataclass(frozen=True)
class Question:
    """What one query asks."""

    number: int
    """Of the message; the answer repeats it."""
    name: str
    """Without the dot at the end."""
    kind: str
    raw: bytes
    """The question as it stood in the message."""


def read_question(message: bytes) -> Question | None:
    """The first question of a query; None where the message is none."""
    try:
        number, flags, questions = struct.unpack_from("!HHH", message)
        if flags & 0x8000 or not questions:
            return None
        labels, place = [], 12
        while length := message[place]:
            if length > 63:
                return None
            labels.append(message[place + 1 : place + 1 + length].decode("ascii", "backslashreplace"))
            place += 1 + length
        kind = struct.unpack_from("!H", message, place + 1)[0]
    except (IndexError, struct.error):
        return None
    return Question(number, ".".join(labels), _TYPES.get(kind, f"type {kind}"), message[12 : place + 5])


def write_question(number: int, name: str) -> bytes:
    """A query for a name's IPv4 address."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", _A, 1)


def write_answer(question: Question, address: IPv4Address | None) -> bytes:
    """The address, or None: no such name. Questions of other kinds than A learn that there is nothing."""
    told = address is not None and question.kind == "A"
    head = struct.pack(
        "!HHHHHH", question.number, _NO_SUCH_NAME if address is None else _ANSWER, 1, int(told), 0, 0
    )
    if not told or address is None:
        return head + question.raw
    return head + question.raw + struct.pack("!HHHIH", 0xC00C, _A, 1, 1, 4) + address.packed
