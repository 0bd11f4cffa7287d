"""Finding out what a chat template accepts."""

from typing import Any

import pytest
from jinja2 import Environment
from jinja2.exceptions import TemplateError
from PIL import Image

from msp_model_service.chat.conversation import Conversation, Message, Picture, Role, Text, ToolCall
from msp_model_service.chat.template import TemplateProfile, probe, template_messages
from msp_model_service.chat.tool_formats import HERMES
from support.tiny_models import CHATML, LLAVA, STRICT


class Template:
    """Renders as transformers does."""

    def __init__(self, source: str) -> None:
        environment = Environment(trim_blocks=True, lstrip_blocks=True)
        environment.globals["raise_exception"] = self._refuse
        self._template = environment.from_string(source)

    def _refuse(self, message: str) -> None:
        raise TemplateError(message)

    def __call__(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None) -> str:
        return self._template.render(messages=messages, tools=tools, add_generation_prompt=True)


def said(role: Role, text: str) -> Message:
    return Message(role, (Text(text),))


@pytest.mark.parametrize(
    ("source", "images", "profile"),
    [
        (CHATML, False, TemplateProfile("string", True, False, HERMES)),
        (STRICT, False, TemplateProfile("string", False, True, None)),
        (LLAVA, True, TemplateProfile("parts", True, False, None)),
        (LLAVA, False, TemplateProfile("parts", True, False, None)),
        ("{{ nothing.at.all }}", False, None),
    ],
)
def test_a_template_shows_its_needs(source: str, images: bool, profile: TemplateProfile | None) -> None:
    assert probe(Template(source), sees_images=images) == profile


def test_system_words_go_before_the_first_users_where_there_is_no_system_role() -> None:
    profile = TemplateProfile(system_role=False)
    talk = Conversation((said(Role.SYSTEM, "be brief"), said(Role.USER, "hi"), said(Role.USER, "there")))
    first, second = template_messages(talk, profile)
    assert first["role"] == "user"
    assert first["content"].split() == ["be", "brief", "hi"]
    assert second["content"] == "there"


def test_turns_of_one_role_are_joined_where_roles_must_alternate() -> None:
    talk = Conversation((said(Role.USER, "a"), said(Role.USER, "b"), said(Role.ASSISTANT, "c")))
    given = template_messages(talk, TemplateProfile(alternates=True))
    assert given == [{"role": "user", "content": "a\nb"}, {"role": "assistant", "content": "c"}]


def test_images_are_handed_over_decoded() -> None:
    image = Image.new("RGB", (2, 2))
    talk = Conversation((Message(Role.USER, (Picture(image, b"", "image/png"), Text("what?"))),))
    (message,) = template_messages(talk, TemplateProfile("parts"))
    assert message["content"] == [{"type": "image", "image": image}, {"type": "text", "text": "what?"}]


def test_calls_are_given_as_objects_where_they_are_json() -> None:
    calls = (ToolCall("1", "f", '{"x": 1}'), ToolCall("2", "f", "broken"))
    (message,) = template_messages(
        Conversation((Message(Role.ASSISTANT, tool_calls=calls),)), TemplateProfile()
    )
    assert [c["function"]["arguments"] for c in message["tool_calls"]] == [{"x": 1}, "broken"]
    assert message["content"] == ""
