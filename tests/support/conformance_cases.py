"""What is sent to prove each row of the conformance tables: `(field, value)` → Case."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from support.audio_files import wav
from support.chat_fakes import WEATHER, data_uri, image_part, user

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One row's proof."""

    sent: Body
    """The field, with a value that the row speaks of."""
    around: Body = field(default_factory=dict)
    """What else the request needs for the field to mean something."""
    wrong: Body | None = None
    """The field with a value that is refused."""
    shows: bool = True
    """Whether a value that is taken makes a difference that can be seen."""


Cases = Mapping[tuple[str, str], Case]


def plain(name: str, value: Any, wrong: Any = None, **around: Any) -> dict[tuple[str, str], Case]:
    """The case of a whole field."""
    return {(name, ""): Case({name: value}, around, None if wrong is None else {name: wrong})}


STRICT = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
GREEDY = {"temperature": 0, "max_tokens": 24}

CALLED = [user("get_weather now")]
"""The fake engine calls the tool that is named."""


def part(kind: str, **inner: Any) -> Body:
    """A message of one such part."""
    return {"messages": [user([{"type": kind, kind: inner}])]}


PICTURE = image_part(data_uri())
COMMON: Cases = {
    ("model", ""): Case({"model": "nick"}, wrong={"model": "nobody"}, shows=False),
    **plain("stream", True, "often"),
    **plain("stream_options", {"include_usage": True}, 1, stream=True),
    ("stream_options.include_obfuscation", ""): Case(
        {"stream_options": {"include_obfuscation": True}}, {"stream": True}
    ),
    **plain("n", 2, "two"),
    **plain("temperature", 0.1, "hot"),
    **plain("top_p", 0.05, "high"),
    **plain("top_k", 2, 1.5),
    **plain("min_p", 0.9, "low"),
    **plain("repetition_penalty", 5, 0, **GREEDY),
    **plain("presence_penalty", 2, "much", **GREEDY),
    **plain("frequency_penalty", 2, "much", **GREEDY),
    **plain("logit_bias", {"70": 100}, {"-1": 1}),
    **plain("seed", 3, "x"),
    **plain("stop", ["said"], ["a", "b", "c", "d", "e"]),
    **plain("ignore_eos", True, 7, max_tokens=40),
    **plain("user", "u"),
    **plain("min_tokens", 30),
    **plain("stop_token_ids", [97]),
    **plain("skip_special_tokens", False),
    **plain("include_stop_str_in_output", True, stop=["said"]),
    **plain("length_penalty", 2.0),
    **plain("use_beam_search", True),
    **plain("cache_prompt", False),
    **plain("guided_json", CITY),
    **plain("guided_regex", "a+"),
    **plain("structured_outputs", {"json": CITY}),
}
BEGUN = {"id": "chatcmpl-1", "created": 1, "token_ids": [89], "content": 1}
CONTINUED: Cases = plain("continue", BEGUN, {**BEGUN, "token_ids": []}, stream=True)

CHAT: Cases = {
    **COMMON,
    **CONTINUED,
    ("messages", ""): Case({"messages": [user("else")]}, wrong={"messages": []}),
    ("messages", "`image_url` parts in messages[].content[]"): Case(
        {"messages": [user([PICTURE])]},
        wrong={"messages": [user([image_part("http://127.0.0.1/x.png")])]},
    ),
    ("messages", "`input_audio` parts in messages[].content[]"): Case(
        part("input_audio", data="AAAA", format="wav")
    ),
    ("messages", "`file` parts in messages[].content[]"): Case(part("file", file_id="f")),
    ("messages[].content[].image_url.detail", ""): Case(
        {"messages": [user([image_part(data_uri()) | {"image_url": {"url": data_uri(), "detail": "low"}}])]},
        {"messages": [user([PICTURE])]},
    ),
    **plain("max_completion_tokens", 3, "few"),
    **plain("max_tokens", 3, "few"),
    **plain("logprobs", True, 5),
    **plain("top_logprobs", 2, "x", logprobs=True),
    **plain("tools", [WEATHER], [{"type": "function"}], messages=CALLED),
    ("tools", "with `strict: true`"): Case({"tools": [STRICT]}, {"tools": [WEATHER], "messages": CALLED}),
    ("tools", "of a type other than `function`"): Case({"tools": [{"type": "custom", "custom": {}}]}),
    ("tool_choice", "`auto`, `none`, allowed tools to choose from freely"): Case(
        {"tool_choice": "none"}, {"tools": [WEATHER], "messages": CALLED}, {"tool_choice": "sometimes"}
    ),
    ("tool_choice", "`required`, a function, allowed tools that must be called"): Case(
        {"tool_choice": "required"},
        {"tools": [WEATHER]},
        {"tool_choice": {"type": "function", "function": {"name": "nobody"}}},
    ),
    **plain("parallel_tool_calls", False, "never", tools=[WEATHER]),
    ("response_format", "`text`"): Case({"response_format": {"type": "text"}}),
    ("response_format", "`json_object`"): Case(
        {"response_format": {"type": "json_object"}}, wrong={"response_format": {"type": "xml"}}
    ),
    ("response_format", "`json_schema`"): Case(
        {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}},
        wrong={"response_format": {"type": "json_schema"}},
    ),
    **plain("reasoning_effort", "high", 3),
    **plain("chat_template_kwargs", {"enable_thinking": True}, "x"),
    **plain("functions", [{"name": "get_weather"}]),
    **plain("function_call", "auto"),
    ("modalities", '`["text"]`'): Case({"modalities": ["text"]}),
    ("modalities", "with anything else"): Case({"modalities": ["text", "audio"]}),
    **plain("audio", {"voice": "alloy", "format": "wav"}),
    **plain("prediction", {"type": "content", "content": "You said"}),
    **plain("verbosity", "low"),
    **plain("web_search_options", {}),
    **plain("prompt_cache_key", "k"),
    **plain("prompt_cache_options", {"mode": "explicit"}),
    **plain("prompt_cache_retention", "24h"),
    **plain("metadata", {"a": "b"}),
    **plain("moderation", {"model": "x"}),
    **plain("safety_identifier", "s"),
    **plain("service_tier", "fast"),
    **plain("store", True),
    **plain("continue_final_message", True),
    **plain("add_generation_prompt", False),
}

COMPLETIONS: Cases = {
    **COMMON,
    **CONTINUED,
    **plain("prompt", "other", []),
    **plain("max_tokens", 3, "few", echo=True, logprobs=1),
    **plain("logprobs", 2, "x"),
    ("logprobs", "with `echo`"): Case({"logprobs": 2}, {"echo": True}),
    **plain("echo", True, 5),
    ("best_of", "1"): Case({"best_of": 1}),
    ("best_of", "other than 1"): Case({"best_of": 2}),
    **plain("suffix", "the end"),
}

SAID = {"role": "user", "content": "hello"}


def item(kind: str, **inner: Any) -> Body:
    """A conversation that ends with one such part."""
    return {"input": [{"role": "user", "content": [{"type": kind, **inner}]}]}


def text_format(type: str, **inner: Any) -> Body:
    """What `response_format` is in chats."""
    return {"text": {"format": {"type": type, **inner}}}


def _renamed(around: Body) -> Body:
    """With the name that the limit has in responses."""
    return {"max_output_tokens" if name == "max_tokens" else name: value for name, value in around.items()}


NAMED = {"type": "function", **WEATHER["function"]}
CALL = {"input": "get_weather now"}
RESPONSES: Cases = {
    **{
        key: replace(case, around=_renamed(case.around))
        for key, case in COMMON.items()
        if key[0].partition(".")[0] not in ("n", "stream_options", "user")
    },
    ("n", "1"): Case({"n": 1}),
    ("n", "above 1"): Case({"n": 2}),
    **plain("input", "else", []),
    ("input", "`input_image` parts"): Case(
        item("input_image", image_url=data_uri()),
        wrong=item("input_image", image_url="http://127.0.0.1/x.png"),
    ),
    ("input", "`input_file` parts"): Case(item("input_file", file_id="f")),
    ("input", "`item_reference`"): Case({"input": [SAID, {"type": "item_reference", "id": "x"}]}),
    ("input", "other items"): Case({"input": [SAID, {"type": "web_search_call", "id": "x"}]}),
    **plain("stream_options", {"include_obfuscation": True}, stream=True),
    **plain("instructions", "be brief", 5),
    **plain("max_output_tokens", 3, "few"),
    **plain("top_logprobs", 2, "x"),
    ("include", "`message.output_text.logprobs`"): Case({"include": ["message.output_text.logprobs"]}),
    ("include", "others"): Case({"include": ["reasoning.encrypted_content"]}),
    **plain("tools", [NAMED], [{"type": "function"}], **CALL),
    ("tools", "with `strict: true`"): Case(
        {"tools": [{**NAMED, "strict": True}]}, {"tools": [NAMED], **CALL}
    ),
    ("tools", "of a type other than `function`"): Case({"tools": [{"type": "web_search"}]}),
    ("tool_choice", "`auto`, `none`, allowed tools to choose from freely"): Case(
        {"tool_choice": "none"}, {"tools": [NAMED], **CALL}, {"tool_choice": "sometimes"}
    ),
    ("tool_choice", "`required`, a function, allowed tools that must be called"): Case(
        {"tool_choice": "required"},
        {"tools": [NAMED]},
        {"tool_choice": {"type": "function", "name": "nobody"}},
    ),
    **plain("parallel_tool_calls", False, "never", tools=[NAMED]),
    ("text", "`format` of `text`"): Case(text_format("text")),
    ("text", "`format` of `json_object`"): Case(text_format("json_object"), wrong=text_format("xml")),
    ("text", "`format` of `json_schema`"): Case(
        text_format("json_schema", name="city", schema=CITY), wrong=text_format("json_schema")
    ),
    ("text.verbosity", ""): Case({"text": {"verbosity": "low"}}),
    ("reasoning", "`effort`"): Case({"reasoning": {"effort": "high"}}, wrong={"reasoning": {"effort": 3}}),
    ("reasoning.summary", ""): Case({"reasoning": {"summary": "auto"}}),
    ("chat_template_kwargs", ""): CHAT["chat_template_kwargs", ""],
    **plain("previous_response_id", "resp_1"),
    **plain("conversation", "conv_1"),
    **plain("prompt", {"id": "pmpt_1"}),
    ("background", "false"): Case({"background": False}),
    ("background", "true"): Case({"background": True}),
    ("truncation", "`disabled`"): Case({"truncation": "disabled"}),
    ("truncation", "others"): Case({"truncation": "auto"}),
    **plain("store", True),
    **plain("metadata", {"a": "b"}),
    **plain("user", "u"),
    **plain("safety_identifier", "s"),
    **plain("max_tool_calls", 3),
    **plain("prompt_cache_key", "k"),
    **plain("prompt_cache_options", {"mode": "explicit"}),
    **plain("prompt_cache_retention", "24h"),
    **plain("context_management", [{"type": "compaction"}]),
    **plain("image", {"detail": "low"}),
    **plain("access_programs", ["x"]),
    **plain("moderation", {"model": "x"}),
    **plain("service_tier", "fast"),
}

EMBEDDINGS: Cases = {
    **plain("input", "other", ""),
    ("model", ""): COMMON["model", ""],
    **plain("encoding_format", "base64", "int8"),
    ("dimensions", "the model's own length"): Case({"dimensions": 64}),
    ("dimensions", "shorter"): Case({"dimensions": 32}, wrong={"dimensions": 65}),
    **plain("user", "u"),
    **plain("truncate", True),
    **plain("truncate_prompt_tokens", 1),
    **plain("input_type", "query"),
}

_FORMS = "`json`, `text`, `srt`, `vtt`, `verbose_json`"
_SPEECH: Cases = {
    **plain("file", wav(3), "no file"),
    ("model", ""): COMMON["model", ""],
    **plain("language", "de", "klingon"),
    **plain("prompt", "names: Ada"),
    **plain("temperature", 0.5, "hot"),
    ("response_format", _FORMS): Case({"response_format": "vtt"}, wrong={"response_format": "xml"}),
    **plain("timestamp_granularities", ["word"], ["year"], response_format="verbose_json"),
}
TRANSCRIPTIONS: Cases = {
    **_SPEECH,
    ("response_format", "`diarized_json`"): Case({"response_format": "diarized_json"}),
    **plain("stream", True, "often"),
    **plain("include", ["logprobs"]),
    **plain("chunking_strategy", "auto"),
    **plain("keywords", ["Ada"]),
    **plain("languages", ["de"]),
    **plain("known_speaker_names", ["Ada"]),
    **plain("known_speaker_references", ["data:audio/wav;base64,AAAA"]),
}
TRANSLATIONS: Cases = {**_SPEECH, ("stream", "true"): Case({"stream": True})}

CASES: Mapping[str, Cases] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/audio/transcriptions": TRANSCRIPTIONS,
    "/v1/audio/translations": TRANSLATIONS,
}

LEAST: Mapping[str, Body] = {
    "/v1/chat/completions": {"messages": [user("hello")]},
    "/v1/completions": {"prompt": "once"},
    "/v1/responses": {"input": "hello"},
    "/v1/embeddings": {"input": "hello world"},
    "/v1/audio/transcriptions": {"file": wav(2)},
    "/v1/audio/translations": {"file": wav(2)},
}
"""The smallest request of each path."""
