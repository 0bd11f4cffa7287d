"""What a batch has done so far."""

from dataclasses import dataclass


@dataclass
class Tally:
    """Counts since the start. Written by the engine's thread, read by anyone."""

    steps: int = 0
    read: int = 0
    """Prompt tokens that went through the model."""
    reused: int = 0
    """Prompt tokens that did not have to: a row held them already."""
    made: int = 0
    failures_in_a_row: int = 0
    """Requests that failed since a forward pass last succeeded."""

    def worked(self) -> None:
        """A forward pass succeeded."""
        self.failures_in_a_row = 0

    def failed(self) -> None:
        """A request failed."""
        self.failures_in_a_row += 1
