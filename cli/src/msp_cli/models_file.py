"""The YAML file that declares which models a registry is to hold."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from msp_common.contracts.jobs import DownloadRequest, ImportRequest
from msp_common.model_ids import parse_model_id
from msp_common.strict_yaml import Strict, Unreadable, mistake, read_yaml


class ModelsFileError(Exception):
    """The file cannot be used; one line per mistake."""


class DeclaredModel(Strict):
    """One model, from its hub or, with `import`, from where the registry can read it."""

    id: Annotated[str, AfterValidator(parse_model_id)]
    """`org/name`, as the hub names it."""

    revision: str = Field(default="main", min_length=1)
    """Branch, tag or commit; for an import the name to import it under."""

    include: list[str] = []
    """Only files that match one of these patterns."""

    exclude: list[str] = []
    """No files that match one of these patterns."""

    allow_pickle: bool = False
    """Also take weights in pickle form, which can run code."""

    source: str | None = Field(default=None, alias="import", min_length=1)
    """Path of a folder or tar as the registry sees it, or `s3://bucket/prefix`; nothing is downloaded."""

    @model_validator(mode="after")
    def _import_takes_all(self) -> Self:
        if self.source is not None and (self.include or self.exclude or self.allow_pickle):
            raise ValueError("include, exclude and allow_pickle choose from a hub; an import takes all files")
        return self

    def request(self) -> DownloadRequest | ImportRequest:
        """What the registry is to do."""
        if self.source is not None:
            return ImportRequest(source=self.source, revision=self.revision)
        return DownloadRequest(
            revision=self.revision,
            allow_patterns=self.include,
            ignore_patterns=self.exclude,
            allow_pickle=self.allow_pickle,
        )


class ModelsFile(Strict):
    """The whole file."""

    models: Annotated[list[DeclaredModel], Field(min_length=1)]
    """What is to be there."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        seen = set()
        for model in self.models:
            if (model.id, model.revision) in seen:
                raise ValueError(f"{model.id} at {model.revision} is declared twice")
            seen.add((model.id, model.revision))
        return self


def load(path: Path) -> ModelsFile:
    """What the file declares. Raises ModelsFileError."""
    try:
        return ModelsFile.model_validate(read_yaml(path))
    except Unreadable as error:
        raise ModelsFileError(str(error)) from None
    except ValidationError as error:
        raise ModelsFileError("\n".join(f"{path}: {mistake(e)}" for e in error.errors())) from None
