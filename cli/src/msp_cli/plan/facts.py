"""What is known of a model before it is loaded."""

from dataclasses import dataclass

from msp_cli.plan.model_config import ConfigFacts
from msp_common.contracts.model_type import ModelType


class FactsMissing(Exception):
    """What a plan needs to know of a model cannot be read; the text says why."""


@dataclass(frozen=True)
class ModelFacts:
    """One commit of a model: what its files hold, and what its configuration says."""

    id: str
    revision: str
    format: str
    """`safetensors`, `gguf`, `pickle` or `other`, as in a manifest."""
    parameters: int | None
    weight_file_bytes: int
    stored_dtype: str | None
    """The type of most numbers in the files, as safetensors names it."""
    config: ConfigFacts
    requires_remote_code: bool = False
    bad_files: int = 0
    """Files that the registry does not serve, since they are damaged."""

    def type(self, said: ModelType | None) -> ModelType:
        """The operator's word, else what the configuration suggests. Raises FactsMissing."""
        if found := said or self.config.type:
            return found
        names = ", ".join(self.config.architectures) or "none is named"
        raise FactsMissing(
            f"{self.id}: no model type fits its architecture ({names}); "
            f"name it with --type {self.id}=llm, embedding, multimodal or transcription"
        )
