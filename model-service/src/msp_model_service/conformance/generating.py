"""Fields of the paths that generate text."""

from msp_model_service.conformance.fields import (
    Field,
    Needs,
    Standing,
    ignored,
    refused,
)

WEIGHTS = (Needs.WEIGHTS,)
TOOLS = (Needs.TOOLS,)
CALLS = (Needs.TOOLS, Needs.JSON_SCHEMA)
FORM = (Needs.JSON_SCHEMA,)

OF_THE_SERVICE = "belongs to the service that OpenAI runs"
HELD_TO = "held to with or without `strict`; what cannot be held to is refused"
CACHING = "beginnings of prompts are reused without being asked"

COMMON = (
    Field("model", why="its id or an alias, or empty; another name is 404 `model_not_found`"),
    Field("stream"),
    Field("stream_options", why="`include_usage`; nothing without `stream`"),
    *ignored("chunks are not padded", "stream_options.include_obfuscation"),
    Field("n", minimum=1, maximum=16, why="choices of one `seed` differ"),
    Field("temperature", minimum=0, maximum=2, needs=WEIGHTS),
    Field("top_p", minimum=0, maximum=1, needs=WEIGHTS),
    Field("top_k", minimum=-1, needs=WEIGHTS, extension=True),
    Field("min_p", minimum=0, maximum=1, needs=WEIGHTS, extension=True),
    Field(
        "repetition_penalty",
        maximum=10,
        needs=WEIGHTS,
        extension=True,
        why="above 0",
    ),
    Field("presence_penalty", minimum=-2, maximum=2, needs=WEIGHTS),
    Field("frequency_penalty", minimum=-2, maximum=2, needs=WEIGHTS),
    Field("logit_bias", needs=WEIGHTS, why="ids of the model's own vocabulary"),
    Field("seed", needs=WEIGHTS),
    Field("stop", why="a text, or up to four; never part of the answer"),
    Field("ignore_eos", extension=True, why="not where the answer is held to a form"),
    *ignored(OF_THE_SERVICE, "user"),
)

CONTINUED = Field(
    "continue",
    extension=True,
    why="what there is of a stream that another replica began; for streams of one answer without tools, "
    "logprobs and echo",
)
FOREIGN = (
    *ignored(
        "of other servers; not known here",
        *("min_tokens", "stop_token_ids", "skip_special_tokens", "include_stop_str_in_output"),
        *("length_penalty", "use_beam_search", "cache_prompt"),
        extension=True,
    ),
    *ignored(
        "of other servers; chats and responses have OpenAI's own way to say it",
        *("guided_json", "guided_regex", "structured_outputs"),
        extension=True,
    ),
)

_PART = "messages[].content[]"

CHAT = (
    Field("messages", why="roles developer, system, user, assistant, tool, function"),
    Field(
        "messages",
        value=f"`image_url` parts in {_PART}",
        needs=(Needs.IMAGES,),
        why="`data:` URIs; an address is 400 `invalid_image_url`, since nothing is fetched",
    ),
    refused("messages", "no model here hears within a chat", value=f"`input_audio` parts in {_PART}"),
    refused("messages", "no model here reads files", value=f"`file` parts in {_PART}"),
    Field(
        f"{_PART}.image_url.detail",
        Standing.IGNORED,
        "images are always seen whole",
        needs=(Needs.IMAGES,),
    ),
    *COMMON,
    CONTINUED,
    Field("max_completion_tokens", minimum=1, why="absent: what the context has left"),
    Field("max_tokens", minimum=1, why="the older name; the lesser of both counts"),
    Field("logprobs"),
    Field("top_logprobs", minimum=0, maximum=20, why="with `logprobs`, else refused"),
    Field("tools", needs=TOOLS),
    Field(
        "tools",
        value="with `strict: true`",
        needs=CALLS,
        why="calls are held to the schema; what of it cannot be held to is refused",
    ),
    refused("tools", "only functions are called", value="of a type other than `function`"),
    Field("tool_choice", value="`auto`, `none`, allowed tools to choose from freely"),
    Field("tool_choice", value="`required`, a function, allowed tools that must be called", needs=CALLS),
    Field("parallel_tool_calls", why="with `tools`"),
    Field("response_format", Standing.IGNORED, "answers are text anyhow", value="`text`"),
    Field("response_format", value="`json_object`", needs=FORM),
    Field(
        "response_format",
        value="`json_schema`",
        needs=FORM,
        why=HELD_TO,
    ),
    Field("reasoning_effort", needs=(Needs.REASONING_EFFORT,), why="`none` turns thinking off"),
    Field(
        "chat_template_kwargs", needs=WEIGHTS, extension=True, why="variables that the chat template names"
    ),
    refused("functions", "the form before `tools`"),
    *ignored("the form before `tool_choice`; it says nothing without `functions`", "function_call"),
    Field("modalities", Standing.IGNORED, "answers are text anyhow", value='`["text"]`'),
    refused("modalities", "answers are text", value="with anything else"),
    *ignored("answers are text", "audio"),
    *ignored("an answer is made the same way with it", "prediction"),
    *ignored("say it in a message", "verbosity"),
    *ignored("nothing is searched: there is no outside", "web_search_options"),
    *ignored(CACHING, "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    *ignored(OF_THE_SERVICE, "metadata", "moderation", "safety_identifier", "service_tier", "store"),
    *ignored(
        "a last message of the assistant is a turn that is over",
        *("continue_final_message", "add_generation_prompt"),
        extension=True,
    ),
    *FOREIGN,
)

COMPLETIONS = (
    Field("prompt", why="a text, texts, token ids, or lists of them"),
    *COMMON,
    CONTINUED,
    Field("max_tokens", minimum=0, why="16 when absent; 0 with `echo` and `logprobs` only"),
    Field("logprobs", minimum=0, maximum=5),
    Field(
        "logprobs",
        value="with `echo`",
        needs=(Needs.PROMPT_SCORES,),
        why="the prompt's tokens are scored too",
    ),
    Field("echo"),
    Field("best_of", Standing.IGNORED, "makes no difference", value="1"),
    refused("best_of", "ask for several with `n`", value="other than 1"),
    refused("suffix", "models here go on with a text, they do not fill in"),
    *FOREIGN,
)
