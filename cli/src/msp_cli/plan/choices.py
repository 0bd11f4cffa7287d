"""What the command line says of single models: `MODEL=VALUE`, and what a models file adds. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from msp_cli.plan.memory import Quantization
from msp_common.contracts.model_type import ModelType
from msp_common.model_ids import InvalidModelId, parse_model_id


class BadChoice(ValueError):
    """An option that cannot be meant."""


@dataclass(frozen=True)
class Asked:
    """One model that is to be served."""

    id: str
    revision: str = "main"


@dataclass(frozen=True)
class Choices:
    """What was said of models by name."""

    types: Mapping[str, ModelType]
    quantizations: Mapping[str, Quantization]
    pins: Mapping[str, str]
    folders: Mapping[str, Path]


def read_choices(
    types: Sequence[str], quantizations: Sequence[str], pins: Sequence[str], folders: Sequence[str]
) -> Choices:
    """The options' values, checked. Raises BadChoice."""
    return Choices(
        {model: _type(value) for model, value in _pairs("--type", types)},
        {model: _quantization(value) for model, value in _pairs("--quantization", quantizations)},
        dict(_pairs("--pin", pins)),
        {model: Path(value) for model, value in _pairs("--folder", folders)},
    )


def check_used(choices: Choices, asked: Iterable[Asked]) -> None:
    """Raises BadChoice for an option about a model that nobody asked for: it is a spelling mistake."""
    known = {one.id for one in asked}
    named: tuple[tuple[str, Mapping[str, object]], ...] = (
        ("--type", choices.types),
        ("--quantization", choices.quantizations),
        ("--pin", choices.pins),
        ("--folder", choices.folders),
    )
    for option, values in named:
        for model in values:
            if model not in known:
                raise BadChoice(
                    f"{option} {model}=...: this model is not to be planned; there are "
                    + ", ".join(sorted(known))
                )


def _pairs(option: str, given: Sequence[str]) -> Iterable[tuple[str, str]]:
    seen = set()
    for text in given:
        model, equals, value = text.partition("=")
        try:
            model = parse_model_id(model)
        except InvalidModelId as error:
            raise BadChoice(f"{option} {text}: {error}") from None
        if not equals or not value:
            raise BadChoice(f"{option} {text}: expected MODEL=VALUE")
        if model in seen:
            raise BadChoice(f"{option}: {model} is named twice")
        seen.add(model)
        yield model, value


def _type(value: str) -> ModelType:
    try:
        return ModelType(value)
    except ValueError:
        raise BadChoice(
            f"--type: {value!r} is none of {', '.join(kind.value for kind in ModelType)}"
        ) from None


def _quantization(value: str) -> Quantization:
    for known in get_args(Quantization):
        if value == known:
            found: Quantization = known
            return found
    raise BadChoice(f"--quantization: {value!r} is none of {', '.join(get_args(Quantization))}")
