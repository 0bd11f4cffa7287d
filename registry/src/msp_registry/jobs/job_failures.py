"""What made a job's work stop, as the failure that the job tells."""

from collections.abc import Iterator

from msp_registry.failures import JobFailure, NotEnoughSpace, StoreFailed, Unexpected
from msp_registry.stores.store import StoreError, StoreFull


def failure_of(error: BaseException) -> JobFailure:
    """The failure with its code and remedy.

    Of several at once, as task groups raise them, the one that says most: a JobFailure, then the store's.
    """
    errors = list(_leaves(error))
    for failure in errors:
        if isinstance(failure, JobFailure):
            return failure
    for failure in errors:
        if isinstance(failure, StoreFull):
            return NotEnoughSpace(
                f"the store is full: {failure}. Free room (POST /gc, or delete models), then ask again; what "
                "is stored already is not fetched again"
            )
    for failure in errors:
        if isinstance(failure, StoreError):
            return StoreFailed(
                f"the store failed: {failure}. Ask again when GET /health says that it can be used; what is "
                "stored already is not fetched again"
            )
    return Unexpected(f"{type(errors[0]).__name__}; the registry's log has the cause")


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
