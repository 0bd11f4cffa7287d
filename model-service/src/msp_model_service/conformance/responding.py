"""Fields of `/v1/responses`."""

from dataclasses import replace

from msp_model_service.conformance.fields import INVALID, Field, Needs, Standing, ignored, refused
from msp_model_service.conformance.generating import (
    CACHING,
    CALLS,
    COMMON,
    FOREIGN,
    FORM,
    HELD_TO,
    OF_THE_SERVICE,
    TOOLS,
    WEIGHTS,
)

_OFFICIAL = ("model", "stream", "temperature", "top_p")
_OTHERWISE = ("n", "stream_options", "stream_options.include_obfuscation", "user")
_SHARED = tuple(
    field if field.name in _OFFICIAL else replace(field, extension=True)
    for field in COMMON
    if field.name not in _OTHERWISE
)
_NOT_KEPT = "nothing is kept here; send the whole conversation in `input`"
_TOLD_BACK = "told back, nothing else"

STATEFUL = (
    refused("input", "nothing is kept here that could be referred to", value="`item_reference`"),
    refused("input", "of tools that only OpenAI runs", value="other items"),
    refused("tools", "only functions are called", value="of a type other than `function`"),
    refused("previous_response_id", _NOT_KEPT),
    refused("conversation", _NOT_KEPT),
    refused("prompt", "nothing is kept here; send `instructions` and `input`"),
    refused("background", "an answer ends with the connection that asked for it", value="true"),
    refused("truncation", "nothing is cut out of a conversation silently", value="others"),
)
"""What no worker takes, whoever answers: nothing is kept, and nothing is done outside of an answer."""

RESPONSES = (
    Field("input", why="a text, or messages, calls of functions, their outputs and earlier reasoning"),
    Field(
        "input",
        value="`input_image` parts",
        needs=(Needs.IMAGES,),
        why="`data:` URIs; an address is 400 `invalid_image_url`, since nothing is fetched",
    ),
    refused("input", "no model here reads files", value="`input_file` parts"),
    *_SHARED,
    Field("n", Standing.IGNORED, "there is one answer", value="1", extension=True),
    Field("n", Standing.REFUSED, "there is one answer", value="above 1", code=INVALID, extension=True),
    *ignored("events are not padded, and tell the usage anyhow", "stream_options"),
    Field("instructions", why="a system message before all others"),
    Field("max_output_tokens", minimum=1, why="absent: what the context has left"),
    Field("top_logprobs", minimum=0, maximum=20),
    Field("include", value="`message.output_text.logprobs`"),
    Field("include", Standing.IGNORED, "of what is not here", value="others"),
    Field("tools", needs=TOOLS),
    Field(
        "tools",
        value="with `strict: true`",
        needs=CALLS,
        why="calls are held to the schema; what of it cannot be held to is refused",
    ),
    Field("tool_choice", value="`auto`, `none`, allowed tools to choose from freely"),
    Field("tool_choice", value="`required`, a function, allowed tools that must be called", needs=CALLS),
    Field("parallel_tool_calls", why="with `tools`"),
    Field("text", Standing.IGNORED, "answers are text anyhow", value="`format` of `text`"),
    Field("text", value="`format` of `json_object`", needs=FORM),
    Field("text", value="`format` of `json_schema`", needs=FORM, why=HELD_TO),
    *ignored("say it in `instructions`", "text.verbosity"),
    Field(
        "reasoning",
        value="`effort`",
        needs=(Needs.REASONING_EFFORT,),
        why="`none` turns thinking off",
    ),
    *ignored("thinking is told whole", "reasoning.summary"),
    Field(
        "chat_template_kwargs", needs=WEIGHTS, extension=True, why="variables that the chat template names"
    ),
    *STATEFUL,
    Field("background", Standing.IGNORED, "makes no difference", value="false"),
    Field("truncation", Standing.IGNORED, "makes no difference", value="`disabled`"),
    *ignored("nothing is kept here", "store"),
    *(Field(name, why=_TOLD_BACK) for name in ("metadata", "user", "safety_identifier", "max_tool_calls")),
    Field("prompt_cache_key", why=f"{_TOLD_BACK}; {CACHING}"),
    *ignored(CACHING, "prompt_cache_options", "prompt_cache_retention"),
    *ignored("nothing is cut out of a conversation", "context_management"),
    *ignored("answers are text", "image"),
    *ignored(OF_THE_SERVICE, "access_programs", "moderation", "service_tier"),
    *FOREIGN,
)
