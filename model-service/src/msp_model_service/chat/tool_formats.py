"""How model families write tool calls in their text. A family is an entry of data here."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class CallShape(StrEnum):
    """What stands between a format's markers."""

    OBJECT = "object"
    """One JSON object with the name and the arguments; several have `separator` between them."""
    LIST = "list"
    """A JSON list of such objects."""
    NAMED = "named"
    """The name, `inner`, and the arguments as a JSON object."""
    ELEMENTS = "elements"
    """`<function=NAME>` with a `<parameter=KEY>` element for each argument; not JSON."""
    BRACES = "braces"
    """`call:NAME{KEY:VALUE,…}`, like JSON but for bare keys, and `quote` around strings; not JSON."""


@dataclass(frozen=True)
class ToolFormat:
    """The way of one family."""

    name: str
    """What `tool_format` in `model.yaml` calls it."""
    shape: CallShape
    start: str
    end: str = ""
    """Empty where a call ends with the answer, or where the next one begins."""
    sign: str = ""
    """What of a rendered call tells the format; `start` without one. The call's function is `probe`."""
    bare: bool = False
    """Whether a call may also stand without `start`, if it is the whole answer."""
    around: str = ""
    """White space that the family puts between its markers and the JSON."""
    between: str = ""
    """White space that the family puts between two calls."""
    separator: str = ""
    """Between objects under one `start`."""
    inner: str = ""
    """Between name and arguments."""
    quote: str = ""
    """Around strings; nothing in them is escaped."""
    tokens: tuple[str, ...] = ()
    """The control tokens in the markers, where a marker is more than one token."""
    name_key: str = "name"
    arguments_key: str = "arguments"
    parallel: bool = True
    """Whether the family calls several functions in one answer."""
    id_length: int | None = None
    """The exact length of a call's id that its template insists on."""

    @property
    def markers(self) -> tuple[str, ...]:
        """Markers, which may be control tokens: they belong to the text all the same."""
        markers = (self.start, self.end, self.inner, self.quote, *self.tokens)
        return tuple(marker for marker in markers if marker)


HERMES = ToolFormat(
    "hermes", CallShape.OBJECT, start="<tool_call>", end="</tool_call>", around="\n", between="\n"
)
"""Hermes, Qwen2.5 and Qwen3, and many fine-tunes."""

ELEMENTS = ToolFormat(
    "qwen-elements",
    CallShape.ELEMENTS,
    start="<tool_call>",
    end="</tool_call>",
    sign="<function=probe>",
    around="\n",
    between="\n",
)
"""Qwen3-Coder and the Qwens after it."""

LLAMA3 = ToolFormat(
    "llama3-json",
    CallShape.OBJECT,
    start="<|python_tag|>",
    sign='{"name": "probe", "parameters":',
    bare=True,
    separator="; ",
    arguments_key="parameters",
    parallel=False,
)
"""Llama 3.1 to 3.3: the answer is the JSON of a call, mostly without a marker."""

MISTRAL = ToolFormat("mistral", CallShape.LIST, start="[TOOL_CALLS]", id_length=9)
"""Mistral's tokenizers up to version 7."""

MISTRAL_ARGS = ToolFormat(
    "mistral-args",
    CallShape.NAMED,
    start="[TOOL_CALLS]",
    sign="[ARGS]",
    inner="[ARGS]",
    id_length=9,
)
"""Mistral's tokenizers from version 11 on."""

PHI4 = ToolFormat("phi4", CallShape.LIST, start="<|tool_call|>", end="<|/tool_call|>")
"""Phi-4-mini."""

GRANITE = ToolFormat("granite", CallShape.LIST, start="<|tool_call|>")
"""Granite 3."""

GEMMA4 = ToolFormat(
    "gemma4",
    CallShape.BRACES,
    start="<|tool_call>",
    end="<tool_call|>",
    sign="<|tool_call>call:probe",
    quote='<|"|>',
)
"""Gemma 4."""

HARMONY = ToolFormat(
    "harmony",
    CallShape.NAMED,
    start="<|channel|>commentary to=functions.",
    end="<|call|>",
    sign="to=functions.probe",
    inner=" <|constrain|>json<|message|>",
    tokens=("<|channel|>", "<|constrain|>", "<|message|>"),
    parallel=False,
)
"""gpt-oss: a message to the function. `channels` brings all ways in which its head is written to this one."""

FORMATS: tuple[ToolFormat, ...] = (HARMONY, GEMMA4, ELEMENTS, HERMES, MISTRAL_ARGS, MISTRAL, LLAMA3)
"""Those that a rendered call tells; the others are named in `model.yaml`."""

BY_NAME = {form.name: form for form in (*FORMATS, PHI4, GRANITE)}


def format_of(rendered: str, formats: Sequence[ToolFormat] = FORMATS) -> ToolFormat | None:
    """The format of what a template made of a conversation in which `probe` was called."""
    return next((form for form in formats if (form.sign or form.start) in rendered), None)
