"""What the operator says of names and stand-ins, as a YAML file. See `routing.yaml` beside this module."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationError, model_validator

from msp_common.contracts.model_type import ModelType
from msp_common.model_ids import parse_model_id
from msp_common.strict_yaml import Strict, Unreadable, mistake, read_yaml
from msp_gateway.failures import Lack

_DEFAULT = "default:"


class RoutingFileError(Exception):
    """The file cannot be used; one line per mistake."""


@dataclass(frozen=True)
class DefaultOf:
    """Whatever model is the default of a type at the time."""

    type: ModelType

    def __str__(self) -> str:
        """As it is written in the file."""
        return f"{_DEFAULT}{self.type}"


def _meaning(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if not value.startswith(_DEFAULT):
        return parse_model_id(value)
    try:
        return DefaultOf(ModelType(value.removeprefix(_DEFAULT)))
    except ValueError:
        raise ValueError(f"{value!r} names no type; the types are {', '.join(ModelType)}") from None


ModelId = Annotated[str, AfterValidator(parse_model_id)]
Meaning = Annotated[str | DefaultOf, BeforeValidator(_meaning), PlainSerializer(str)]


class StandIn(Strict):
    """A model that may answer in another one's place."""

    model: ModelId
    """Its id."""

    when: frozenset[Lack] = Field(default=frozenset({Lack.UNAVAILABLE}), min_length=1)
    """For the lack of what: `unavailable` (no replica can be reached or has room), `context` (the request is
    too long for the first choice), `modality` (it holds images or audio, which that one cannot take in)."""


def _stand_in(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class RoutingRules(Strict):
    """The whole file."""

    aliases: dict[Annotated[str, Field(min_length=1, max_length=200)], Meaning] = {}
    """Name → model id, or `default:TYPE`. A model's own id, and what a worker announces, go before it."""

    fallbacks: dict[ModelId, Sequence[Annotated[StandIn, BeforeValidator(_stand_in)]]] = {}
    """Model id → models that may stand in for it, the best first. They are not followed any further."""

    @model_validator(mode="after")
    def _make_sense(self) -> Self:
        for name, meaning in self.aliases.items():
            if meaning in self.aliases:
                raise ValueError(f"aliases.{name}: {meaning} is an alias too; name the model itself")
        for model_id, stand_ins in self.fallbacks.items():
            named = [stand_in.model for stand_in in stand_ins]
            if model_id in named or len(set(named)) < len(named):
                raise ValueError(f"fallbacks.{model_id}: each model once, and never {model_id} itself")
        return self

    def meaning_of(self, name: str) -> str | DefaultOf | None:
        """What a name means; None where the rules do not say."""
        return self.aliases.get(name)

    def stand_ins(self, model_id: str) -> Sequence[StandIn]:
        """Who may answer in a model's place."""
        return self.fallbacks.get(model_id, ())


def load(path: Path) -> RoutingRules:
    """The rules in a file. Raises RoutingFileError."""
    try:
        return RoutingRules.model_validate(read_yaml(path) or {})
    except Unreadable as error:
        raise RoutingFileError(str(error)) from None
    except ValidationError as error:
        root = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
        lines = [f"{path}:{_line(root, e['loc'])}: {mistake(e)}" for e in error.errors()]
        raise RoutingFileError("\n".join(lines)) from None


def shipped() -> RoutingRules:
    """The rules that hold where the operator gives none: OpenAI's names mean the defaults."""
    return load(Path(str(files("msp_gateway") / "routing.yaml")))


def _line(node: yaml.Node | None, loc: Sequence[int | str]) -> int:
    """The line of what pydantic found fault with, as near as it can be found, counted from 1."""
    line = node.start_mark.line if node else 0
    for step in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line
        else:
            break
    return line + 1
