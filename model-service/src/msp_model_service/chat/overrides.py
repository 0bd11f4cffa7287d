"""What an operator knows better of a model than its files say: `model.yaml` beside the weights, or a setting.

Templates and tokenizers are tried out when a model is loaded (see `template`), and mostly that is enough.
What it gets wrong is put right here, without a change of code.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from msp_model_service.chat import reasoning, tool_formats
from msp_model_service.chat.template import TemplateProfile

FILE_NAME = "model.yaml"
SECTION = "chat"
_LONGEST_FILE = 256 * 1024
_NONE = "none"


class WrongOverrides(ValueError):
    """The overrides cannot be used; the message names the field."""


class SamplingOverrides(BaseModel):
    """What holds where a request says nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)


class ChatOverrides(BaseModel):
    """Fields that are absent or null change nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    content: Literal["string", "parts"] | None = None
    """Whether a message's content is handed to the template as one string or as typed parts."""
    system_role: bool | None = None
    """False: system messages are put before the first user's words."""
    alternates: bool | None = None
    """True: neighbouring turns of one role are joined."""
    tool_format: str | None = None
    """How the model writes tool calls, by a format's name; `none` for a model that calls none."""
    reasoning: str | None = None
    """How the model marks its thinking, by a format's name; `none` for a model that does not think."""
    chat_template: str | None = None
    """A Jinja template in place of the repository's."""
    end_tokens: tuple[str, ...] | None = None
    """Tokens that end an answer, in addition to the repository's."""
    context_length: int | None = Field(default=None, ge=1)
    """Tokens of prompt and answer together; for less than the model could."""
    sampling: SamplingOverrides = SamplingOverrides()

    @field_validator("tool_format")
    @classmethod
    def _known_tool_format(cls, value: str | None) -> str | None:
        return _one_of(value, tool_formats.BY_NAME)

    @field_validator("reasoning")
    @classmethod
    def _known_reasoning(cls, value: str | None) -> str | None:
        return _one_of(value, reasoning.BY_NAME)

    def applied(self, profile: TemplateProfile) -> TemplateProfile:
        """The profile, put right."""
        changes: dict[str, Any] = {
            name: value
            for name in ("content", "system_role", "alternates")
            if (value := getattr(self, name)) is not None
        }
        if self.tool_format is not None:
            changes["tool_format"] = tool_formats.BY_NAME.get(self.tool_format)
        if self.reasoning is not None:
            changes["reasoning"] = reasoning.BY_NAME.get(self.reasoning)
        return replace(profile, **changes)


def overrides_of(folder: Path, settings: Mapping[str, Any]) -> ChatOverrides:
    """What the file says under `chat`, and `settings` on top of it. Raises WrongOverrides."""
    said = {**_of_file(folder / FILE_NAME), **settings}
    try:
        return ChatOverrides.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise WrongOverrides(f"'{where}' of {FILE_NAME} or MODEL_OVERRIDES: {first['msg']}") from error


def _of_file(file: Path) -> dict[str, Any]:
    """Empty where there is no file, or where it is about something else."""
    if not file.is_file():
        return {}
    if file.stat().st_size > _LONGEST_FILE:
        raise WrongOverrides(f"{FILE_NAME} is longer than {_LONGEST_FILE} bytes")
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise WrongOverrides(f"{FILE_NAME} is no YAML: {error}") from error
    section = said.get(SECTION) if isinstance(said, dict) else None
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise WrongOverrides(f"'{SECTION}' of {FILE_NAME} is no mapping")
    return {str(name): value for name, value in section.items()}


def _one_of(value: str | None, known: Mapping[str, Any]) -> str | None:
    if value is not None and value != _NONE and value not in known:
        raise ValueError(f"{value!r} is not known; it may be {', '.join([*known, _NONE])}")
    return value
