"""Families of models, told by their templates: how they call and think, and what an operator overrides."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from msp_common.contracts.model_type import ModelType
from msp_model_service.chat.conversation import Conversation, Message, Role, Text, ToolCall
from msp_model_service.chat.reasoning import BRACKETS, GEMMA4, HARMONY, THINK
from msp_model_service.chat.tool_formats import ELEMENTS, HERMES, LLAMA3, MISTRAL, MISTRAL_ARGS, PHI4
from msp_model_service.chat.tool_formats import GEMMA4 as GEMMA4_CALLS
from msp_model_service.chat.tool_formats import HARMONY as HARMONY_CALLS
from msp_model_service.engines.generate_chat import GenerateChatEngine
from msp_model_service.engines.lifecycle import EngineLoadFailed, EngineOptions
from support import tiny_models
from support.chat_fakes import chat_app
from support.family_templates import GEMMA4 as GEMMA4_TEMPLATE
from support.family_templates import HARMONY as HARMONY_TEMPLATE
from support.family_templates import LLAMA3 as LLAMA3_TEMPLATE
from support.family_templates import MISTRAL as MISTRAL_TEMPLATE
from support.family_templates import MISTRAL_ARGS as MISTRAL_ARGS_TEMPLATE
from support.family_templates import QWEN_CODER, THINKS, THINKS_AT_ONCE
from support.servers import run_server

TOOL: Any = {
    "type": "function",
    "function": {
        "name": "paint",
        "parameters": {
            "type": "object",
            "properties": {
                "colour": {"enum": ["red", "blue"]},
                "coats": {"type": "integer", "maximum": 9, "minimum": 1},
            },
            "required": ["colour", "coats"],
            "additionalProperties": False,
        },
    },
}
Make = Callable[..., GenerateChatEngine]


@pytest.fixture
def engine_of(tmp_path: Path) -> Any:
    made: list[GenerateChatEngine] = []

    def make(
        template: Any = tiny_models.CHATML, yaml: str | None = None, **overrides: Any
    ) -> GenerateChatEngine:
        folder = tiny_models.qwen2(tmp_path / "model", template=template)
        if yaml is not None:
            (folder / "model.yaml").write_text(yaml)
        engine = GenerateChatEngine(EngineOptions(device="cpu", overrides=overrides), ModelType.LLM)
        made.append(engine)
        engine.load(folder, lambda phase, done: None)
        return engine

    yield make
    for engine in made:
        engine.unload()


def profile(engine: GenerateChatEngine) -> Any:
    assert engine._loaded is not None
    return engine._loaded.profile


def said(words: str = "hello") -> Conversation:
    return Conversation((Message(Role.USER, (Text(words),)),))


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (tiny_models.CHATML, HERMES),
        (QWEN_CODER, ELEMENTS),
        (LLAMA3_TEMPLATE, LLAMA3),
        (MISTRAL_TEMPLATE, MISTRAL),
        (MISTRAL_ARGS_TEMPLATE, MISTRAL_ARGS),
        (HARMONY_TEMPLATE, HARMONY_CALLS),
        (GEMMA4_TEMPLATE, GEMMA4_CALLS),
        (tiny_models.STRICT, None),
    ],
    ids=["hermes", "qwen-elements", "llama3", "mistral", "mistral-args", "harmony", "gemma4", "none"],
)
def test_a_template_tells_how_calls_are_written(engine_of: Make, template: str, form: Any) -> None:
    engine = engine_of(template)
    assert profile(engine).tool_format == form
    assert engine.capabilities().tools == (form is not None)


@pytest.mark.parametrize(
    ("template", "calls"),
    [
        (tiny_models.CHATML, 3),
        (LLAMA3_TEMPLATE, 1),
        (MISTRAL_TEMPLATE, 3),
        (MISTRAL_ARGS_TEMPLATE, 3),
        (QWEN_CODER, 3),
        (GEMMA4_TEMPLATE.replace("<|channel>", "").replace("<channel|>", ""), 3),
    ],
    ids=["hermes", "llama3", "mistral", "mistral-args", "qwen-elements", "gemma4"],
)
def test_a_model_that_knows_nothing_still_calls_soundly_when_it_must(
    engine_of: Make, template: str, calls: int
) -> None:
    with run_server(chat_app(engine_of(template))) as url:
        for seed in range(3):
            body = {
                "messages": [{"role": "user", "content": "paint it"}],
                "tools": [TOOL],
                "tool_choice": "required",
                "parallel_tool_calls": calls > 1,
                "temperature": 1.5,
                "seed": seed,
            }
            choice = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60).json()["choices"][0]
            made = choice["message"].get("tool_calls", [])
            assert made, choice
            for one in made:
                given = json.loads(one["function"]["arguments"])
                assert one["function"]["name"] == "paint"
                assert given["colour"] in ("red", "blue")
                assert 1 <= given["coats"] <= 9
            if choice["finish_reason"] == "tool_calls":
                assert choice["message"]["content"] is None


async def test_ids_of_calls_have_the_length_that_the_family_wants(engine_of: Make) -> None:
    engine = engine_of(MISTRAL_TEMPLATE)
    call = Message(Role.ASSISTANT, tool_calls=(ToolCall("call_of_another_server", "paint", "{}"),))
    answer = Message(Role.TOOL, (Text("done"),), tool_call_id="call_of_another_server")
    talk = Conversation((*said().messages, call, answer), tools=(TOOL,))
    prompt = await engine.prepare_chat(talk)  # other lengths are refused by the template
    assert prompt.tool_format == MISTRAL


async def test_gpt_oss_is_shown_earlier_thinking_unless_its_template_would_refuse(engine_of: Make) -> None:
    engine = engine_of(HARMONY_TEMPLATE)
    for words, shown in (("", True), ("I shall look.", False)):
        call = Message(
            Role.ASSISTANT,
            (Text(words),),
            tool_calls=(ToolCall("call_1", "paint", "{}"),),
            thinking="which colour",
        )
        done = Message(Role.TOOL, (Text("done"),), tool_call_id="call_1")
        prompt = await engine.prepare_chat(Conversation((*said().messages, call, done), tools=(TOOL,)))
        assert engine._loaded is not None
        read = engine._loaded.tokenizer.decode(prompt.token_ids)
        assert ("analysis<|message|>which colour<|end|>" in read) == shown


@pytest.mark.parametrize(
    ("template", "reasoning", "thinks"),
    [
        (THINKS, THINK, False),
        (THINKS_AT_ONCE, THINK, True),
        (HARMONY_TEMPLATE, HARMONY, False),
        (GEMMA4_TEMPLATE, GEMMA4, False),
        (GEMMA4_TEMPLATE + "<|channel>thought\n", GEMMA4, True),
        (tiny_models.CHATML, None, False),
    ],
    ids=["thinks", "thinks-at-once", "harmony", "gemma4", "gemma4-at-once", "does-not-think"],
)
async def test_a_template_tells_whether_a_model_thinks_and_the_prompt_whether_it_has_begun(
    engine_of: Make, template: str, reasoning: Any, thinks: bool
) -> None:
    engine = engine_of(template)
    for words in ("hello", "<think>"):
        prompt = await engine.prepare_chat(said(words))
        assert (prompt.reasoning, prompt.thinks) == (reasoning, thinks)


def test_thinking_is_turned_off_by_the_templates_own_variable(engine_of: Make) -> None:
    engine = engine_of(THINKS)
    with run_server(chat_app(engine)) as url:

        def tokens(**more: Any) -> int:
            body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1, **more}
            answer = httpx.post(f"{url}/v1/chat/completions", json=body).json()
            count: int = answer["usage"]["prompt_tokens"]
            return count

        off = tokens(chat_template_kwargs={"enable_thinking": False})
        assert off > tokens()
        assert tokens(reasoning_effort="none") == off
        assert tokens(reasoning_effort="low") == tokens()
        assert tokens(reasoning_effort="none", chat_template_kwargs={"enable_thinking": True}) == tokens()


async def test_earlier_thinking_reaches_templates_that_want_it(engine_of: Make) -> None:
    engine = engine_of(THINKS)
    words = Message(Role.ASSISTANT, (Text("yes"),), thinking="is it?")
    prompt = await engine.prepare_chat(Conversation((*said().messages, words, *said("sure?").messages)))
    assert engine._loaded is not None
    assert "<think>\nis it?\n</think>" in engine._loaded.tokenizer.decode(prompt.token_ids)


def test_a_model_that_thinks_is_held_to_the_form_behind_its_thinking(engine_of: Make) -> None:
    """Random weights never end their thinking by themselves; all of it must be thinking then."""
    with run_server(chat_app(engine_of(THINKS_AT_ONCE))) as url:
        body = {
            "messages": [{"role": "user", "content": "hi"}],
            "response_format": {"type": "json_object"},
            "max_tokens": 20,
            "temperature": 0,
        }
        answer = httpx.post(f"{url}/v1/chat/completions", json=body).json()
        (choice,) = answer["choices"]
        assert choice["message"]["content"] == ""
        assert choice["message"]["reasoning_content"]
        assert choice["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens_details"] == {"reasoning_tokens": 20}


async def test_a_file_beside_the_weights_puts_right_what_was_found_out(engine_of: Make) -> None:
    yaml = """
        chat:
          tool_format: phi4
          reasoning: brackets
          system_role: false
          alternates: true
          end_tokens: ["<|endoftext|>"]
          context_length: 100
          sampling: {temperature: 0, top_k: 3}
    """
    engine = engine_of(yaml=yaml)
    found = profile(engine)
    assert (found.tool_format, found.reasoning) == (PHI4, BRACKETS)
    assert (found.system_role, found.alternates) == (False, True)
    assert engine.capabilities().context_length == 100
    assert engine._loaded is not None
    assert engine._loaded.end_ids == {0, engine._loaded.tokenizer.eos_token_id}
    assert (engine._loaded.defaults.temperature, engine._loaded.defaults.top_k) == (0, 3)


async def test_the_environment_goes_before_the_file(engine_of: Make) -> None:
    yaml = "chat: {tool_format: mistral, reasoning: think}"
    found = profile(engine_of(yaml=yaml, tool_format="none"))
    assert (found.tool_format, found.reasoning) == (None, THINK)


async def test_a_template_may_be_given_in_place_of_the_repositorys(engine_of: Make) -> None:
    engine = engine_of(chat_template="{% for m in messages %}({{ m.content }}){% endfor %}")
    prompt = await engine.prepare_chat(said("x"))
    assert engine._loaded is not None
    assert engine._loaded.tokenizer.decode(prompt.token_ids) == "(x)"


@pytest.mark.parametrize("yaml", ["", "# nothing", "other: {a: 1}", "[1, 2]", "chat:"])
async def test_a_file_about_something_else_changes_nothing(engine_of: Make, yaml: str) -> None:
    assert profile(engine_of(yaml=yaml)).tool_format == HERMES


@pytest.mark.parametrize(
    ("yaml", "overrides", "named"),
    [
        ("chat: {tool_format: nonsense}", {}, "tool_format"),
        ("chat: {colour: red}", {}, "colour"),
        ("chat: {sampling: {temperature: 9}}", {}, "sampling.temperature"),
        ("chat: 5", {}, "chat"),
        ("chat: {a", {}, "YAML"),
        ("chat: {end_tokens: ['<no such token>']}", {}, "no such token"),
        (None, {"reasoning": "maybe"}, "reasoning"),
    ],
)
async def test_overrides_that_make_no_sense_are_refused_by_name(
    engine_of: Make, yaml: str | None, overrides: dict[str, Any], named: str
) -> None:
    with pytest.raises(EngineLoadFailed, match=named):
        engine_of(yaml=yaml, **overrides)
