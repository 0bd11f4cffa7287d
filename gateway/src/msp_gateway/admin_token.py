"""Whether somebody is the operator."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Header
from pydantic import SecretStr

from msp_common.bearer import shows_token
from msp_common.errors import Forbidden, Unauthenticated


@dataclass(frozen=True)
class AdminToken:
    """Whether somebody is the operator; a dependency of routes."""

    token: SecretStr | None

    def __call__(self, authorization: Annotated[str | None, Header(include_in_schema=False)] = None) -> None:
        """Raises Forbidden and Unauthenticated."""
        if self.token is None:
            raise Forbidden(
                "This route is closed: start the gateway with GATEWAY_ADMIN_TOKEN set to a secret of your "
                "own, and show it as a bearer token (msp keys reads the same variable).",
                code="admin_token_not_set",
            )
        if not shows_token(authorization, self.token.get_secret_value()):
            raise Unauthenticated(
                "This route needs the gateway's admin token (GATEWAY_ADMIN_TOKEN) as a bearer token.",
                code="invalid_admin_token",
            )
