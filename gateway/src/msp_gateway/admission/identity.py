"""Whom a request is accounted to, and what they may do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from msp_common.contracts.keys import NO_LIMITS, KeyLimits
from msp_common.errors import Forbidden


class Choice(Protocol):
    """A model that may answer."""

    @property
    def model_id(self) -> str:
        """Its id."""

    @property
    def when_unavailable(self) -> bool:
        """Whether it may answer although nobody before it was asked."""


C = TypeVar("C", bound=Choice)


@dataclass(frozen=True, slots=True)
class Identity:
    """One API key, or everybody where none is required."""

    name: str
    key_id: str = ""
    """Empty for everybody."""
    limits: KeyLimits = NO_LIMITS

    def may_use(self, model_id: str) -> bool:
        """Whether the key's list of models, if it has one, holds this one."""
        allowed = self.limits.allowed_models
        return allowed is None or model_id in allowed


ANONYMOUS = Identity("anonymous")


def allowed(identity: Identity, choices: Sequence[C], named: bool) -> Sequence[C]:
    """Those of the models that the key may use, in their order. Raises Forbidden when it may use none.

    A model that was `named` and is not allowed is refused; nothing stands in for it. Where none was named,
    one that is not allowed counts as one that is not there.
    """
    if identity.limits.allowed_models is None:
        return choices
    usable = [choice for choice in choices if identity.may_use(choice.model_id)]
    if usable and usable[0] is choices[0]:
        return usable
    if named or not any(choice.when_unavailable for choice in usable):
        raise Forbidden(
            f"The API key {identity.name!r} may not use the model {choices[0].model_id}; "
            "GET /v1/models lists those that it may use.",
            param="model",
            code="model_not_allowed",
        )
    return sorted(usable, key=lambda choice: not choice.when_unavailable)
