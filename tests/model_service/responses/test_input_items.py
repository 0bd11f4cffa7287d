"""Items of a conversation as the messages that a model's template is shown."""

from typing import Any

import pytest

from msp_common.errors import InvalidRequest
from msp_model_service.chat.wire import WireMessage
from msp_model_service.responses.chat_request import AskedChat, as_chat
from msp_model_service.responses.wire import ResponsesRequest
from support.responses_talk import WEATHER


def asked(items: Any, **fields: Any) -> AskedChat:
    return as_chat(ResponsesRequest.model_validate({"input": items, **fields}))


def said(message: WireMessage) -> tuple[Any, ...]:
    """Role, texts, names of calls and thinking; what is not there is left out."""
    texts = tuple(part.text or part.refusal for part in message.content or ())
    calls = tuple(call.function.name for call in message.tool_calls or ())
    return (message.role, *(x for x in (texts, calls, message.reasoning_content) if x))


def messages(items: Any, **fields: Any) -> list[tuple[Any, ...]]:
    return [said(message) for message in asked(items, **fields).body.messages]


def text(role: str, words: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": words}


def thought(words: str) -> dict[str, Any]:
    return {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "in short"}],
        "content": [{"type": "reasoning_text", "text": words}],
    }


def call(name: str) -> dict[str, Any]:
    return {"type": "function_call", "id": "fc_1", "call_id": f"c_{name}", "name": name, "arguments": "{}"}


def result(name: str, output: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": f"c_{name}", "output": output}


HELLO = text("user", "hello")


def test_a_string_is_what_the_user_says() -> None:
    assert messages("hello") == [("user", ("hello",))]


def test_instructions_come_before_everything() -> None:
    assert messages([text("developer", "two"), HELLO], instructions="one") == [
        ("system", ("one",)),
        ("developer", ("two",)),
        ("user", ("hello",)),
    ]


@pytest.mark.parametrize("kind", ["input_text", "output_text", "text"])
def test_texts_may_be_strings_or_parts_and_the_type_of_a_message_may_be_missing(kind: str) -> None:
    parts = [{"type": kind, "text": "a", "annotations": []}, {"type": kind, "text": "b"}]
    assert messages([{"role": "assistant", "content": parts}, HELLO])[0] == ("assistant", ("a", "b"))


@pytest.mark.parametrize(
    ("items", "turns"),
    [
        pytest.param(
            [text("assistant", "a"), text("assistant", "b")], [(("a",),), (("b",),)], id="two texts"
        ),
        pytest.param([call("f"), call("g")], [(("f", "g"),)], id="calls at once"),
        pytest.param([text("assistant", "a"), call("f")], [(("a",), ("f",))], id="words before a call"),
        pytest.param([call("f"), text("assistant", "a")], [(("a",), ("f",))], id="words behind a call"),
        pytest.param([thought("hm"), text("assistant", "a")], [(("a",), "hm")], id="thinking first"),
        pytest.param([thought("hm"), call("f")], [(("f",), "hm")], id="thinking before a call"),
        pytest.param(
            [thought("hm"), call("f"), thought("so"), call("g")], [(("f", "g"), "hm\nso")], id="twice"
        ),
        pytest.param(
            [text("assistant", "a"), thought("hm"), text("assistant", "b")],
            [(("a",),), (("b",), "hm")],
            id="thinking begins a turn",
        ),
        pytest.param(
            [text("assistant", "a"), call("f"), text("assistant", "b")],
            [(("a", "b"), ("f",))],
            id="words around a call",
        ),
        pytest.param(
            [thought("hm"), text("assistant", "a"), text("assistant", "b")],
            [(("a",), "hm"), (("b",),)],
            id="thinking belongs to one turn",
        ),
        pytest.param([thought("hm")], [], id="thinking alone says nothing"),
        pytest.param(
            [thought("hm"), HELLO, text("assistant", "a")], [None, (("a",),)], id="not even to a later turn"
        ),
    ],
)
def test_items_of_one_turn_are_one_message(items: list[Any], turns: list[tuple[Any, ...] | None]) -> None:
    user = ("user", ("hello",))
    expected = [user if turn is None else ("assistant", *turn) for turn in turns]
    assert messages([HELLO, *items, HELLO]) == [user, *expected, user]


@pytest.mark.parametrize("output", ["done", [{"type": "input_text", "text": "done"}]])
def test_the_output_of_a_function_answers_its_call(output: Any) -> None:
    chat = asked([HELLO, call("f"), call("g"), result("f", output), result("g")]).body
    assert [(m.role, m.tool_call_id) for m in chat.messages[2:]] == [("tool", "c_f"), ("tool", "c_g")]
    assert said(chat.messages[2]) == ("tool", ("done",))
    assert [c.id for c in chat.messages[1].tool_calls or ()] == ["c_f", "c_g"]


def test_halves_of_emojis_are_mended_as_in_chats() -> None:
    assert messages("a\ud83d")[0] == ("user", ("a\ufffd",))


def test_tools_are_shown_as_the_client_described_them() -> None:
    chat = asked("hi", tools=[WEATHER, {"type": "function", "name": "f", "defer_loading": True}]).body
    described = [tool.function.model_dump(exclude_unset=True) for tool in chat.tools or () if tool.function]
    assert described == [{k: v for k, v in WEATHER.items() if k != "type"}, {"name": "f"}]


@pytest.mark.parametrize(
    ("choice", "chat"),
    [
        ("required", "required"),
        (None, None),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        (
            {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
        ),
    ],
)
def test_tool_choices_are_those_of_chats(choice: Any, chat: Any) -> None:
    assert asked("hi", tool_choice=choice).body.tool_choice == chat


def test_all_else_is_passed_on_under_the_chats_names() -> None:
    chat = asked(
        "hi",
        max_output_tokens=7,
        temperature=0.1,
        top_p=0.2,
        top_k=3,
        seed=4,
        stop="x",
        reasoning={"effort": "none"},
        chat_template_kwargs={"a": 1},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "s", "schema": {"type": "object"}}},
        top_logprobs=2,
    ).body
    assert (chat.answer_limit, chat.temperature, chat.top_p, chat.top_k, chat.seed) == (7, 0.1, 0.2, 3, 4)
    assert (chat.stop, chat.reasoning_effort, chat.chat_template_kwargs) == (["x"], "none", {"a": 1})
    assert (chat.parallel_tool_calls, chat.logprobs, chat.top_logprobs) == (False, True, 2)
    assert chat.response_format is not None
    assert chat.response_format.json_schema is not None
    assert chat.response_format.json_schema.json_schema == {"type": "object"}


def test_errors_of_the_chat_are_told_in_the_clients_own_places() -> None:
    picture = {"type": "input_image", "image_url": "http://x"}
    items = [HELLO, call("f"), result("f", [picture]), text("assistant", "a"), HELLO]
    places = asked(items, instructions="be brief", tools=[WEATHER]).places
    for chat, ours in {
        "messages": "input",
        "messages.0.content.0.text": "instructions.content.0.text",
        "messages.2.tool_calls.0": "input.1.tool_calls.0",
        "messages.3.content.0.image_url": "input.2.output.0.image_url",
        "messages.5.content": "input.4.content",
        "tools.0.function.parameters.type": "tools.0.parameters.type",
        "response_format.json_schema.schema.properties.a": "text.format.schema.properties.a",
        "tool_choice": "tool_choice",
        "messages.99.content": "messages.99.content",
    }.items():
        assert places.of(chat) == ours
    error = InvalidRequest("'messages.3.content.0' is no 'good'.", param="messages.3.content.0", code="c")
    told = places.in_our_terms(error)
    assert (told.message, told.param, told.code, told.status) == (
        "'input.2.output.0' is no 'good'.",
        "input.2.output.0",
        "c",
        400,
    )
