"""The conformance card: what one worker makes of requests, with the model and the engine that it has."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from msp_common.contracts.workers import Capabilities
from msp_model_service.conformance.fields import LACKING, Field, Needs, Standing
from msp_model_service.conformance.tables import TABLES, by_server
from msp_model_service.engines.model_facts import ModelFacts


class _Told(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class FieldCard(_Told):
    """What becomes of a field of a request, or of some of its values."""

    field: str
    standing: Standing
    value: str | None = None
    """Which values are meant; absent for all, or for all that no other entry speaks of."""
    why: str | None = None
    """Why it is ignored or refused; of an honoured field what else is to be known."""
    code: str | None = None
    """Of the error where it is refused; the error's `param` begins with the field."""
    minimum: float | None = None
    maximum: float | None = None
    """Bounds of a number; one outside is refused with `invalid_value`."""


class Conformance(_Told):
    """What works with this model. What is not known, or not there, is left out."""

    engine: str | None = None
    engine_note: str | None = None
    """Why this engine, where one would expect another."""
    architecture: str | None = None
    dtype: str | None = None
    """What the weights are in."""
    quantization: str | None = None
    """In how few bits the weights are held; absent where they are in full."""
    context_length: int | None = None
    dimensions: int | None = None
    input_modalities: list[Literal["text", "image", "audio"]]
    tools: bool
    tool_format: str | None = None
    """The form in which the model writes calls."""
    reasoning_format: str | None = None
    """How the model marks its thinking."""
    json_schema: bool
    logprobs: bool
    paths: dict[str, list[FieldCard]]
    """Path → what becomes of the fields of its requests."""
    other_fields: Literal[Standing.IGNORED, Standing.PASSED_ON]
    """What becomes of fields that are not named."""


def card_of(can: Capabilities, facts: ModelFacts, *, relayed: bool) -> Conformance:
    """The card of a loaded model. `relayed`: its engine is an external server, which is handed what
    the worker does not mind itself."""
    has = _had(can, facts)
    return Conformance(
        engine=can.engine,
        engine_note=can.engine_note,
        architecture=facts.architecture,
        dtype=facts.dtype,
        quantization=can.quantization,
        context_length=can.context_length,
        dimensions=can.dimensions,
        input_modalities=can.input_modalities,
        tools=can.tools,
        tool_format=facts.tool_format,
        reasoning_format=facts.reasoning_format,
        json_schema=can.json_schema,
        logprobs=can.logprobs,
        paths={
            path: [_entry(field, has) for field in (by_server(path) if relayed else TABLES[path])]
            for path in can.paths
        },
        other_fields=Standing.PASSED_ON if relayed else Standing.IGNORED,
    )


def _entry(field: Field, has: frozenset[Needs]) -> FieldCard:
    lack = next((LACKING[need] for need in field.needs if need not in has), None)
    said = field if lack is None else lack
    return FieldCard(
        field=field.name,
        standing=said.standing,
        value=field.value or None,
        why=said.why or None,
        code=said.code,
        minimum=field.minimum,
        maximum=field.maximum,
    )


def _had(can: Capabilities, facts: ModelFacts) -> frozenset[Needs]:
    """What of all that fields may need is there."""
    there = {
        Needs.WEIGHTS: can.engine != "fake",
        Needs.TOOLS: can.tools,
        Needs.JSON_SCHEMA: can.json_schema,
        Needs.IMAGES: "image" in can.input_modalities,
        Needs.REASONING_EFFORT: facts.takes_effort,
        Needs.PROMPT_SCORES: facts.scores_prompts,
        Needs.SHORTER_VECTORS: facts.shortens,
    }
    return frozenset(need for need, is_there in there.items() if is_there)
