"""A request's API key, and whether one is required."""

from typing import Literal

from msp_common.errors import Unauthenticated
from msp_gateway.admission.identity import ANONYMOUS, Identity
from msp_gateway.keys.keyring import Keyring

Mode = Literal["auto", "on", "off"]


class KeyAuthenticator:
    """With `auto` everybody is let in until the first key exists; from then on a key is required."""

    def __init__(self, keyring: Keyring, mode: Mode) -> None:
        self._keyring = keyring
        self._wanted = mode

    @property
    def mode(self) -> Literal["off", "on"]:
        """Whether a key is required now."""
        if self._wanted == "auto":
            return "on" if self._keyring.has_keys else "off"
        return self._wanted

    def authenticate(self, authorization: str) -> Identity:
        """Raises Unauthenticated."""
        if self.mode == "off":
            return ANONYMOUS
        scheme, _, shown = authorization.partition(" ")
        if scheme.lower() != "bearer" or not shown.strip():
            raise Unauthenticated(
                "An API key is required: send the header field 'Authorization: Bearer msp-...'. The operator "
                "makes keys with: msp keys create."
            )
        identity = self._keyring.find(shown.strip())
        if identity is None:
            raise Unauthenticated("The API key is not known, has expired, or was revoked.")
        return identity
