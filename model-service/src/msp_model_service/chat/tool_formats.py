"""How model families write tool calls in their text. A family is a line of data here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ToolFormat:
    """A call is a JSON object between two markers."""

    name: str
    start: str
    end: str
    name_key: str = "name"
    arguments_key: str = "arguments"


HERMES = ToolFormat("hermes", start="<tool_call>", end="</tool_call>")
"""Hermes, Qwen2.5 and Qwen3, and many fine-tunes."""

FORMATS = (HERMES,)


def format_of(rendered: str) -> ToolFormat | None:
    """The format whose start marker stands in what a template made of a conversation with a tool call."""
    return next((form for form in FORMATS if form.start in rendered), None)
