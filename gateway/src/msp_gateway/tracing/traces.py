"""What the pipeline asks of tracing, and tracing that is off."""

from typing import Protocol

from msp_gateway.fields import Fields
from msp_gateway.record import Record
from msp_gateway.upstream import RawHeaders


class Trace(Protocol):
    """The trace of one request."""

    def fields(self, headers: RawHeaders) -> RawHeaders:
        """The fields for the worker, so that what it traces belongs to this trace."""

    def end(self, record: Record) -> None:
        """The request has ended, and its record is complete."""


class Tracing(Protocol):
    """Makes traces."""

    def begin(self, fields: Fields) -> Trace:
        """A request has arrived, with these fields."""


class _NoTrace:
    def fields(self, headers: RawHeaders) -> RawHeaders:
        return headers

    def end(self, record: Record) -> None:
        """Nothing was traced."""


class NoTracing:
    """Traces nothing; a client's `traceparent` goes on to the worker untouched."""

    def __init__(self) -> None:
        self._none = _NoTrace()

    def begin(self, fields: Fields) -> Trace:
        """The trace that is none."""
        return self._none
