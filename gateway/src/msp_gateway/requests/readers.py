"""Who may read what happened to requests."""

from dataclasses import dataclass

from fastapi import Request
from pydantic import SecretStr

from msp_common.bearer import shows_token
from msp_gateway.admin_token import AdminToken
from msp_gateway.admission import Authenticator


@dataclass(frozen=True)
class Readers:
    """The operator reads all, a key its own. Where neither keys nor an admin token exist, everybody does."""

    admin_token: SecretStr | None
    authenticator: Authenticator

    def __call__(self, request: Request) -> str | None:
        """The name of the key whose requests may be read, or None for all. Raises Unauthenticated."""
        shown, token = request.headers.get("authorization"), self.admin_token
        if token is not None and shows_token(shown, token.get_secret_value()):
            return None
        identity = self.authenticator.authenticate(shown or "")
        if identity.key_id:
            return identity.name
        if token is not None:  # there is an operator, and requests without a key are nobody's own
            AdminToken(token)(shown)
        return None
