"""The file of external servers (`workers.yaml`)."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, ExternalServer, ServedModel
from msp_common.model_ids import parse_model_id
from msp_common.settings import HttpUrl, SettingsError
from msp_common.strict_yaml import Strict, Unreadable, mistake, read_yaml

KEY_VARIABLE = r"^[A-Z][A-Z0-9_]*_API_KEY$"
"""What a variable with a server's key must be called: so the file cannot send out another secret of ours."""


class BadWorkersFile(SettingsError):
    """The file cannot be used; one line for each mistake."""


class ExternalModel(Strict):
    """One model that a server has."""

    id: Annotated[str, AfterValidator(parse_model_id)]
    """What clients call it."""
    type: ModelType
    served_as: str | None = None
    """What the server calls it; the same unless it is given."""
    aliases: list[str] = []
    paths: list[str] | None = None
    """What the server answers for it; by default all that models of the type answer."""
    input_modalities: list[Literal["text", "image", "audio"]] | None = None
    context_length: int | None = Field(default=None, ge=1)
    tools: bool = True
    json_schema: bool = True
    logprobs: bool = True

    @property
    def name_there(self) -> str:
        """What the server calls it."""
        return self.served_as or self.id

    @property
    def served(self) -> ServedModel:
        """The model as leases name it."""
        return ServedModel(id=self.id, type=self.type, revision="external", aliases=self.aliases)

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked of it."""
        chats = self.type in (ModelType.LLM, ModelType.MULTIMODAL)
        usual: dict[ModelType, list[Literal["text", "image", "audio"]]] = {
            ModelType.MULTIMODAL: ["text", "image"],
            ModelType.TRANSCRIPTION: ["audio"],
        }
        return Capabilities(
            paths=list(self.paths or self.type.paths),
            input_modalities=(
                usual.get(self.type, ["text"]) if self.input_modalities is None else self.input_modalities
            ),
            context_length=self.context_length,
            tools=chats and self.tools,
            json_schema=chats and self.json_schema,
            logprobs=chats and self.logprobs,
            engine="external",
        )


class ExternalServerEntry(Strict):
    """One server."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]{1,60}$")
    url: HttpUrl
    """Its address without `/v1`."""
    api_key_env: str | None = Field(default=None, pattern=KEY_VARIABLE)
    """The environment variable that holds its key, `*_API_KEY`; set it for service registry and gateway."""
    health_path: str | None = Field(default=None, pattern=r"^/")
    """Asked besides `/v1/models`, where the server has such a route."""
    metrics_path: str | None = Field(default=None, pattern=r"^/")
    slots: int = Field(default=16, ge=1)
    """How many requests it works on at once."""
    when_offline: bool = False
    """Whether it is used in offline mode too: then it must be a machine of your own network."""
    models: list[ExternalModel] = Field(min_length=1)

    @model_validator(mode="after")
    def _no_v1(self) -> Self:
        if self.url.endswith("/v1"):
            raise ValueError(f"url: leave /v1 out of {self.url}")
        return self

    def worker_id(self, model: ExternalModel) -> str:
        """The id under which one of its models is listed."""
        return f"{self.name}.{model.id.replace('/', '--')}"[:128]

    def as_external(self, model: ExternalModel) -> ExternalServer:
        """What the gateway must know to ask it for this model."""
        return ExternalServer(
            served_as=model.name_there, api_key_env=self.api_key_env, metrics_path=self.metrics_path
        )


class WorkersFile(Strict):
    """The whole file."""

    servers: list[ExternalServerEntry]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        ids = [server.worker_id(model) for server in self.servers for model in server.models]
        twice = sorted({i for i in ids if ids.count(i) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)} (a server's name and a model of it)")
        return self


def read_workers_file(path: Path) -> list[ExternalServerEntry]:
    """All servers of the file. Raises BadWorkersFile."""
    try:
        return WorkersFile.model_validate(read_yaml(path)).servers
    except Unreadable as error:
        raise BadWorkersFile(str(error)) from None
    except ValidationError as error:
        raise BadWorkersFile("\n".join(f"{path}: {mistake(dict(e))}" for e in error.errors())) from None
