"""What a request's reader is told when its own work failed."""

import torch

from msp_common.errors import ApiError, InternalError


def told_as(error: Exception) -> ApiError:
    """The error for the client; its cause is for the log."""
    if isinstance(error, ApiError):
        return error
    told = InternalError(
        "The GPU's memory does not suffice for this request."
        if isinstance(error, torch.OutOfMemoryError)
        else "The model failed on this request; the log has the cause."
    )
    told.__cause__ = error
    return told
