"""Forms of answers as grammars in llguidance's dialect of Lark. Pure text; nothing is compiled here."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from msp_model_service.chat.answer_forms import AnswerForm, CallForm, CallSchema, JsonForm
from msp_model_service.chat.channels import CHANNEL, MESSAGE, START
from msp_model_service.chat.reasoning import ReasoningFormat
from msp_model_service.chat.tool_formats import CallShape, ToolFormat
from msp_model_service.engines.lark_braces import BracesGrammar, NotWritable

MOST_CALLS = 16
"""In one answer: a model that would call for ever is ended."""

SEPARATORS = {"item_separator": ", ", "key_separator": ": ", "whitespace_flexible": False}
"""White space as Python's `json.dumps` writes it, which is what templates show models."""

WHITE_SPACE = {"whitespace_flexible": True, "whitespace_pattern": r"(\n {0,24}| )"}
"""For answers that people read: a space or a new line with its indentation. Without a bound, weak models
write white space for ever."""

MOST_ASIDES = 4
"""Messages before the one that counts: a model that would think for ever is led to its answer."""

_TOKEN_NAME = re.compile(r"(<[^<>\s]+>)")

Marker = Callable[[str], str | None]
"""A control token's name in the grammar, as `<[123]>`; None for words that are no control token."""


class Unsayable(ValueError):
    """The form cannot be written for this family."""


def grammar_text(
    form: AnswerForm,
    *,
    tool_format: ToolFormat | None,
    reasoning: ReasoningFormat | None,
    thinks: bool,
    marker: Marker,
) -> str:
    """The grammar of the whole answer, thinking included where the model thinks. Raises Unsayable."""
    rules: list[str] = ["%llguidance {}"]
    before = said = ""
    if reasoning is not None and reasoning.channels:
        before, said = _other_messages(marker, rules), _word(reasoning.end, marker)
    elif reasoning is not None:
        before = _thinking(reasoning, thinks, marker, rules)
    if isinstance(form, JsonForm):
        rules.append(f"body: {said} {_json(form.schema, WHITE_SPACE)}")
    else:
        if tool_format is None:
            raise Unsayable("this model's way of calling tools is not known")
        _calls(form, tool_format, said, marker, rules)
    return "\n".join([rules[0], f"start: {before} body", *rules[1:]]) + "\n"


def _thinking(reasoning: ReasoningFormat, thinks: bool, marker: Marker, rules: list[str]) -> str:
    """Thinking is free, up to its end marker; where the prompt has not opened it, there may be none."""
    end = marker(reasoning.end)
    if end is not None:
        rules.append(f"thought: THOUGHT {end} BREAK")
        rules.append(r"THOUGHT: /(.|\n)*/")
    else:
        rules.append("thought: free BREAK")
        rules.append(f"free[suffix={_quoted(reasoning.end)}]: /(.|\\n)*/")
    rules.append(r"BREAK: /\n{0,2}/")
    if thinks:
        return "thought"
    rules.append(f"opened: {_word(reasoning.start, marker)} thought")
    return "opened?"


def _other_messages(marker: Marker, rules: list[str]) -> str:
    """Messages before the one that is held to its form: thinking, and words about what will be done."""
    rules.append(
        f'aside: {_word(CHANNEL, marker)} ("analysis" | "commentary") {_word(MESSAGE, marker)} thought'
    )
    end = marker("<|end|>")
    if end is not None:
        rules.append(f"thought: THOUGHT {end} {_word(START, marker)} {_quoted('assistant')}")
        rules.append(r"THOUGHT: /(.|\n)*/")
    else:
        rules.append(f"thought[suffix={_quoted(f'<|end|>{START}assistant')}]: /(.|\\n)*/")
    return f"aside{{0,{MOST_ASIDES}}}"


def _calls(form: CallForm, family: ToolFormat, said: str, marker: Marker, rules: list[str]) -> None:
    """`said` comes before words where they are a message of their own."""
    names = []
    for i, function in enumerate(form.functions):
        names.append(f"call_{i}")
        rules.append(f"call_{i}: {_one_call(function, family, marker, rules, f'call_{i}')}")
    if form.free and said:
        rules.append(r"WORDS: /(.|\n)*/")
        rules.append(f"body: {_word(family.start, marker)} ({' | '.join(names)}) | {said} WORDS")
        return
    if form.free:
        rules.append(f"body: {_calls_within_words(form, family, marker, rules, names)}")
        return
    one = f"({' | '.join(names)})"
    more = f"{{0,{MOST_CALLS - 1}}}" if form.several and family.parallel else None
    start, end = _word(family.start, marker), _word(family.end, marker)
    around, between = _word(family.around), _word(family.between)
    match family.shape:
        case CallShape.LIST:
            rest = f'(", " {one}){more}' if more else ""
            body = f'{start} "[" {one} {rest} "]" {end}'
        case CallShape.OBJECT | CallShape.ELEMENTS | CallShape.BRACES if not family.bare:
            call = f"{start} {around} {one} {around} {end}"
            body = f"{call} ({between} {call}){more}" if more else call
        case CallShape.OBJECT if form.instead is not None:
            raise Unsayable("this model's calls cannot be told from other JSON from their first character on")
        case CallShape.NAMED:
            call = f"{start} {one}"
            body = f"{call} ({call}){more}" if more else call
        case _:
            body = one
    if form.instead is not None:
        rules.append(f"instead: {said} {_json(form.instead.schema, WHITE_SPACE)}")
        body = f"({body}) | instead"
    rules.append(f"body: {body}")


def _calls_within_words(
    form: CallForm, family: ToolFormat, marker: Marker, rules: list[str], names: list[str]
) -> str:
    """Words are free until the marker of a call; what follows that is held to."""
    if family.bare:
        rules.append(r"SAID: /[^{\s](.|\n)*/")  # what begins like a call has to be one
        return f"{' | '.join(names)} | SAID"
    rules.append(r"WORDS: /(.|\n)*/")
    start = marker(family.start)
    rules.append(f"begun: WORDS {start}" if start else f"begun[lazy]: WORDS {_quoted(family.start)}")
    one, end, around = f"({' | '.join(names)})", _word(family.end, marker), _word(family.around)
    most = MOST_CALLS if form.several and family.parallel else 1
    match family.shape:
        case CallShape.LIST:
            rest = f'(", " {one}){{0,{most - 1}}}' if most > 1 else ""
            return f'(begun "[" {one} {rest} "]" {end})? WORDS'
        case CallShape.OBJECT | CallShape.ELEMENTS | CallShape.BRACES:
            return f"(begun {around} {one} {around} {end}){{0,{most}}} WORDS"
        case CallShape.NAMED:
            return f"(begun {one}){{0,{most}}} WORDS"


def _one_call(function: CallSchema, family: ToolFormat, marker: Marker, rules: list[str], rule: str) -> str:
    if family.shape is CallShape.ELEMENTS:
        return _elements(function, rules, rule)
    if family.shape is CallShape.BRACES:
        return _braces(function, family, marker, rules, rule)
    arguments = _json(function.arguments, {**SEPARATORS, "lenient": not function.strict})
    if family.shape is CallShape.NAMED:
        return f"{_quoted(function.name)} {_word(family.inner, marker)} {arguments}"
    name = json.dumps(function.name, ensure_ascii=False)
    head = f'{{"{family.name_key}": {name}, "{family.arguments_key}": '
    return f'{_quoted(head)} {arguments} "}}"'


def _elements(function: CallSchema, rules: list[str], rule: str) -> str:
    """A function's parameters in the order of its schema; words stand as they are, the rest as JSON."""
    schema = function.arguments
    shared = {name: schema[name] for name in ("$defs", "definitions") if name in schema}
    parts = []
    for i, (name, given) in enumerate(schema.get("properties", {}).items()):
        own = given if isinstance(given, Mapping) else {}
        ends = "\n</parameter>\n"
        if own.get("type") == "string" and "enum" not in own:
            rules.append(f"{rule}_{i}[suffix={_quoted(ends)}]: /(.|\\n)*/")
            value = f"{rule}_{i}"
        elif "enum" in own and all(isinstance(one, str) for one in own["enum"]):
            value = f"({' | '.join(map(_quoted, own['enum']))}) {_quoted(ends)}"
        else:
            options = {**SEPARATORS, "lenient": not function.strict}
            value = f"{_json({**own, **shared}, options)} {_quoted(ends)}"
        parameter = f"{_quoted(f'<parameter={name}>' + chr(10))} {value}"
        parts.append(parameter if name in schema.get("required", ()) else f"({parameter})?")
    return " ".join([_quoted(f"<function={function.name}>\n"), *parts, _quoted("</function>")])


def _braces(function: CallSchema, family: ToolFormat, marker: Marker, rules: list[str], rule: str) -> str:
    def quoted_text(rules: list[str]) -> str:
        """What a string is, its closing quote included."""
        special = marker(family.quote) is not None
        quote = _quoted(family.quote)
        known = r"STRING: /(.|\n)*/" if special else f"string[suffix={quote}]: /(.|\\n)*/"
        if known not in rules:
            rules.append(known)
        return f"STRING {_word(family.quote, marker)}" if special else "string"

    writer = BracesGrammar(
        rules,
        rule,
        function.arguments,
        strict=function.strict,
        quote=_word(family.quote, marker),
        quoted_text=quoted_text,
    )
    try:
        return f"{_quoted(f'call:{function.name}')} {writer.arguments()}"
    except NotWritable as error:
        raise Unsayable(f"this model's calls cannot be held to {error} in {function.param!r}") from None


def _json(schema: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    return "%json " + json.dumps({**schema, "x-guidance": dict(options)})


def _word(text: str, marker: Marker | None = None) -> str:
    """Words as they stand; control tokens among them by their names, for words never match one."""
    if not text:
        return ""
    if marker is None:
        return _quoted(text)
    pieces = [piece for piece in _TOKEN_NAME.split(text) if piece]
    known = [marker(piece) for piece in pieces]
    if not any(known):
        return marker(text) or _quoted(text)
    return " ".join(name or _quoted(piece) for name, piece in zip(known, pieces, strict=True))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
