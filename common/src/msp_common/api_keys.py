"""How an API key is written, and what may be stored of it.

A key is `msp-ID-SECRET`. The id is public: it finds the key's record and may be shown and logged. The secret
has 256 bits of chance, so that one round of SHA-256 is enough: unlike with passwords nothing can be guessed.
"""

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field

PREFIX = "msp"
_LETTERS = string.ascii_letters + string.digits
# Letters and digits alone, so that a double click marks all of a part. 62^43 is just above 2^256.
_ID_LENGTH, _SECRET_LENGTH = 10, 43
_FORM = re.compile(r"msp-([A-Za-z0-9]{1,64})-[A-Za-z0-9]{20,128}")


@dataclass(frozen=True)
class NewKey:
    """A key that was just made. The secret is shown to its owner once and kept nowhere."""

    id: str
    secret: str = field(repr=False)
    """The whole key, as clients send it."""

    @property
    def sha256(self) -> str:
        """What is stored of it."""
        return digest(self.secret)


def new_key() -> NewKey:
    """A key that nobody has."""
    key_id = _chance(_ID_LENGTH)
    return NewKey(key_id, f"{PREFIX}-{key_id}-{_chance(_SECRET_LENGTH)}")


def id_of(secret: str) -> str | None:
    """The public id within a key; None for what is not written as one."""
    match = _FORM.fullmatch(secret)
    return match[1] if match else None


def digest(secret: str) -> str:
    """The hash of a whole key, in hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _chance(length: int) -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(length))
