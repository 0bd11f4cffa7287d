"""What one answer may still say, for answers that must have a form."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # this module is read by those who must not wait for torch
    import torch


class Grammar(Protocol):
    """For one answer, called in the engine's thread only. What its methods raise ends this answer alone."""

    def mask(self, logits: "torch.Tensor") -> None:
        """Set to minus infinity, in place, what may not come next. `logits` are one row's, [vocabulary]."""

    def accept(self, token_id: int) -> None:
        """This token was chosen."""

    @property
    def finished(self) -> bool:
        """Whether the form is complete, so that only an end token may follow."""
