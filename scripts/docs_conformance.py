"""Sections of `docs/models.md`: architectures as the tests have them, fields as the workers tell them."""

import sys
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import get_args

from msp_model_service.conformance.fields import LACKING, Field, Needs, Standing
from msp_model_service.conformance.tables import TABLES, by_server
from msp_model_service.engines.lifecycle import Quantization

TESTS = Path(__file__).resolve().parents[1] / "tests"

FIELDS_OF = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "transcriptions": "/v1/audio/transcriptions",
    "translations": "/v1/audio/translations",
}
"""What a section is called → the path that it speaks of."""


def architectures(_: str) -> Iterator[str]:
    """The classes in transformers, by what serves them."""
    sys.path.append(str(TESTS))
    from support.architectures import LEFT, OTHERS, SERVED, class_of

    classes = {class_of(name) for name in SERVED}
    yield (
        f"`slot` answers with the tokens that `generate` makes, compared in every test run for {len(SERVED)} "
        f"configurations of {len(classes)} classes:"
    )
    yield ""
    yield f"{', '.join(_with_variants(SERVED))}."
    yield ""
    yield "Left to `generate`, which answers them one at a time (compared too):"
    yield ""
    yield "| class | why, as the worker tells it |"
    yield "|---|---|"
    for why, names in groupby(sorted(LEFT, key=lambda name: LEFT[name].why), key=lambda name: LEFT[name].why):
        yield f"| {', '.join(_with_variants(list(names)))} | {why} |"
    yield ""
    named = ", ".join(f"`{name}` ({type})" for type, name in OTHERS.items())
    yield f"Of the other types, loaded in every test run: {named}."


def quantisations(_: str) -> Iterator[str]:
    """What the worker can make of weights that are stored in full."""
    made = [name for name in get_args(Quantization) if name != "none"]
    kinds = " and ".join(f"`{name}`" for name in made)
    yield (
        f"`QUANTIZATION` may be {kinds}: in every test run a sample that is loaded with each must still know "
        "its facts, in `slot` and in `generate`."
    )


def _with_variants(names: Iterable[str]) -> Iterator[str]:
    from support.architectures import class_of

    variants: dict[str, list[str]] = {}
    for name in names:
        variants.setdefault(class_of(name), []).append(name.partition(" ")[2])
    for cls, special in sorted(variants.items(), key=lambda item: item[0].lower()):
        named = [words for words in special if words]
        also = "with" if "" not in special else "also with"
        yield f"`{cls}`" + (f" ({also} {', '.join(_WORDS.get(w, w) for w in named)})" if named else "")


_WORDS = {"sliding": "sliding windows", "alibi": "ALiBi"}


def needs(_: str) -> Iterator[str]:
    """What fields may need of a model or an engine, and what becomes of them without it."""
    yield "| needs | without it |"
    yield "|---|---|"
    for need, lack in LACKING.items():
        if need is Needs.WEIGHTS:
            continue
        code = f" with `{lack.code}`" if lack.code else ""
        yield f"| {need} | {lack.standing}{code}: {lack.why} |"


def fields(name: str) -> Iterator[str]:
    """One row per field that is honoured or refused, one per reason for those that are ignored."""
    table = TABLES[FIELDS_OF[name]]
    yield "| field | | |"
    yield "|---|---|---|"
    for field in table:
        if field.standing is not Standing.IGNORED:
            code = f", `{field.code}`" if field.code else ""
            remarks = "; ".join(_remarks(field))
            yield f"| {_named(field)} | {field.standing}{code} | {remarks} |"
    reasons: dict[str, list[Field]] = {}
    for field in table:
        if field.standing is Standing.IGNORED:
            reasons.setdefault(field.why, []).append(field)
    for why, alike in reasons.items():
        yield f"| {', '.join(_named(field) for field in alike)} | ignored | {why} |"


def _named(field: Field) -> str:
    return f"`{field.name}`" + (f": {field.value}" if field.value else "")


def _remarks(field: Field) -> Iterator[str]:
    if field.minimum is not None and field.maximum is not None:
        yield f"{field.minimum:g} to {field.maximum:g}"
    elif field.minimum is not None:
        yield f"at least {field.minimum:g}"
    elif field.maximum is not None:
        yield f"at most {field.maximum:g}"
    if field.why:
        yield field.why
    if needed := [need for need in field.needs if need is not Needs.WEIGHTS]:
        yield f"needs {', '.join(needed)}"
    if field.extension:
        yield "not OpenAI's"


def server_fields(_: str) -> Iterator[str]:
    """What a worker before an external server minds by itself."""
    yield "| field | | |"
    yield "|---|---|---|"
    rows = {field: None for path in TABLES for field in by_server(path)}
    for field in rows:
        code = f", `{field.code}`" if field.code else ""
        yield f"| {_named(field)} | {str(field.standing).replace('_', ' ')}{code} | {field.why} |"
