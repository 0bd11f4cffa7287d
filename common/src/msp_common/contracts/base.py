"""The base of every contract."""

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """Frozen once read; unknown fields are ignored, so that a newer peer can say more."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)
