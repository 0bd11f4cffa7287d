"""An error as an HTTP answer."""

from starlette.responses import JSONResponse

from msp_common.errors import ApiError


def error_response(error: ApiError) -> JSONResponse:
    """The error in OpenAI's envelope, with its status and its advice on retrying."""
    return JSONResponse(error.envelope(), status_code=error.status, headers=error.headers())
