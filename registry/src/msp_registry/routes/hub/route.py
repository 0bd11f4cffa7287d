"""How the hub's routes refuse: every error of theirs leaves in the hub's form instead of OpenAI's."""

import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from msp_common.errors import ApiError
from msp_registry.facade.errors import BadCall, HubError, OwnFault, StoreAway
from msp_registry.stores.store import StoreError, StoreUnavailable

_RETRY_STORE_S = 5

log = logging.getLogger(__name__)


class HubRoute(APIRoute):
    """A route whose errors hub clients understand."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler, and what becomes of its errors."""
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except (HubError, ApiError, StoreError, RequestValidationError) as error:
                return refusal(error)

        return answer


def refusal(error: HubError | ApiError | StoreError | RequestValidationError) -> JSONResponse:
    """The answer to an error."""
    if isinstance(error, ApiError):
        if error.status >= 500:
            log.error("%s", error)
        said = OwnFault(error.message, headers=error.headers())
        return JSONResponse(said.body(), status_code=error.status, headers=said.headers())
    known = error if isinstance(error, HubError) else _translated(error)
    return JSONResponse(known.body(), status_code=known.status, headers=known.headers())


def _translated(error: StoreError | RequestValidationError) -> HubError:
    if isinstance(error, RequestValidationError):
        return BadCall("The registry cannot read this request.")
    if isinstance(error, StoreUnavailable):
        return StoreAway(f"{error}; try again.", headers={"Retry-After": str(_RETRY_STORE_S)})
    log.error("%s", error)
    return OwnFault(f"{error}.")
