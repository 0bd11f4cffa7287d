"""`GET /usage`: what the requests used that this worker answered, for the gateway's accounting."""

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import SecretStr
from starlette.requests import ClientDisconnect

from msp_common.bearer import shows_token
from msp_common.contracts.usage import MAX_WAIT_S, UsageReport
from msp_common.errors import Unauthenticated
from msp_model_service.routes.leaving import CLIENT_LEFT, unless_client_leaves
from msp_model_service.usage_log import UsageLog


def router(usage: UsageLog, cluster_token: SecretStr | None) -> APIRouter:
    """The route. Where the cluster has a token it must be shown: ids and sizes are not for everybody."""
    routes = APIRouter(tags=["usage"])

    @routes.get(
        "/usage",
        summary="What requests used that ended after the number `after`",
        response_model=UsageReport,
    )
    async def get_usage(
        request: Request,
        after: Annotated[int, Query(ge=0, description="`next` of the last report; 0 for all kept")] = 0,
        epoch: Annotated[float | None, Query(description="`epoch` of the last report")] = None,
        wait_s: Annotated[
            float, Query(ge=0, le=MAX_WAIT_S, description="How long to wait until there is something")
        ] = 20,
        authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> UsageReport | Response:
        """Waits up to `wait_s` where nothing is new. The last 4096 requests are kept, in memory alone."""
        if cluster_token is not None and not shows_token(authorization, cluster_token.get_secret_value()):
            raise Unauthenticated(
                "This route needs the cluster's token as a bearer token; set CLUSTER_TOKEN to the same value "
                "for the service registry, its workers and the gateway."
            )
        try:
            return await unless_client_leaves(request, usage.report(after, wait_s, epoch))
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)

    return routes
