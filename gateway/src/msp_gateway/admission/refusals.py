"""Refusals of admission, with the header fields that tell where the client stands."""

from msp_common.errors import TooManyRequests, Unavailable
from msp_gateway.upstream import RawHeaders


class Refused(TooManyRequests):
    """The key's limit per minute is used up, or so many wait already that waiting makes no sense."""

    def __init__(self, message: str, fields: RawHeaders, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self._fields = fields

    def headers(self) -> dict[str, str]:
        """Adds `x-ratelimit-*` and `x-msp-queue-*`."""
        return super().headers() | _text(self._fields)


class WaitedTooLong(Unavailable):
    """No place became free before the deadline."""

    def __init__(self, message: str, fields: RawHeaders, retry_after_s: float) -> None:
        super().__init__(message, retry_after_s=retry_after_s)
        self._fields = fields

    def headers(self) -> dict[str, str]:
        """Adds `x-ratelimit-*` and `x-msp-queue-*`."""
        return super().headers() | _text(self._fields)


def _text(fields: RawHeaders) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields}
