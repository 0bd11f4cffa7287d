"""Which form a request asks for."""

from typing import Any

import pytest

from msp_model_service.chat.answer_forms import AnswerForm, CallForm, JsonForm, read_form, read_tool_choice
from msp_model_service.chat.wire import ChatRequest


def form_of(**body: Any) -> AnswerForm | None:
    request = ChatRequest.model_validate({"messages": [{"role": "user", "content": "x"}], **body})
    return read_form(request, read_tool_choice(request))


def tool(name: str, **more: Any) -> Any:
    return {"type": "function", "function": {"name": name, **more}}


JSON = {"response_format": {"type": "json_object"}}
SOME = {"tools": [tool("f"), tool("g", strict=True)]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"response_format": {"type": "text"}},
        {"tools": [tool("f")]},
        {"tools": [tool("f", strict=False)], "tool_choice": "auto"},
        {**SOME, "tool_choice": "none"},
    ],
)
def test_most_answers_are_free(body: Any) -> None:
    assert form_of(**body) is None


def test_json_alone_is_json() -> None:
    assert form_of(**JSON) == JsonForm({"type": "object"}, "response_format")
    assert isinstance(form_of(**JSON, **SOME, tool_choice="none"), JsonForm)


@pytest.mark.parametrize(
    ("body", "names", "free", "instead"),
    [
        (SOME, "fg", True, False),
        ({**SOME, "tool_choice": "required"}, "fg", False, False),
        ({**SOME, "tool_choice": tool("f")}, "f", False, False),
        ({**SOME, **JSON}, "fg", False, True),
        ({**SOME, **JSON, "tool_choice": "required"}, "fg", False, False),
        ({"tools": [tool("f")], **JSON}, "f", False, True),
    ],
)
def test_calls_are_held_where_they_are_forced_or_strict_or_beside_json(
    body: Any, names: str, free: bool, instead: bool
) -> None:
    form = form_of(**body)
    assert isinstance(form, CallForm)
    assert [function.name for function in form.functions] == list(names)
    assert (form.free, form.instead is not None) == (free, instead)
    assert [function.strict for function in form.functions] == [name == "g" for name in names]


@pytest.mark.parametrize(("parallel", "several"), [(None, True), (True, True), (False, False)])
def test_several_calls_may_be_forbidden(parallel: bool | None, several: bool) -> None:
    form = form_of(**SOME, tool_choice="required", parallel_tool_calls=parallel)
    assert isinstance(form, CallForm)
    assert form.several is several


def test_a_function_without_parameters_takes_none() -> None:
    form = form_of(tools=[tool("f")], tool_choice="required")
    assert isinstance(form, CallForm)
    assert form.functions[0].arguments == {"type": "object", "properties": {}, "additionalProperties": False}
