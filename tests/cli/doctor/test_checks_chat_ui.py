"""What doctor finds of the Chat UI."""

import pytest

from msp_cli.doctor.findings import Code, Level
from support.cli_doctor import FakeSite, container

OLD, NEW = "ghcr.io/huggingface/chat-ui:0.8.4", "ghcr.io/huggingface/chat-ui:0.10.0"
MODELS = '[{"name":"a/b","endpoints":[{"type":"openai","baseURL":"http://gateway:8080/v1"}]}]'


@pytest.fixture
def site() -> FakeSite:
    return FakeSite()


@pytest.mark.parametrize(
    ("image", "env", "level"),
    [
        (OLD, {"MODELS": MODELS}, Level.OK),
        (OLD, {}, Level.PROBLEM),
        (OLD, {"MODELS": MODELS, "ENABLE_COMMUNITY_MODELS": "true"}, Level.PROBLEM),
        (NEW, {"MODELS": MODELS}, Level.PROBLEM),
        (NEW, {"OPENAI_BASE_URL": "http://gateway:8080/v1"}, Level.OK),
        (NEW, {"OPENAI_BASE_URL": "https://router.huggingface.co/v1"}, Level.PROBLEM),
        ("chat-ui:latest", {"MODELS": MODELS}, Level.UNKNOWN),
    ],
)
def test_which_models_are_shown_depends_on_version_and_settings(
    site: FakeSite, image: str, env: dict[str, str], level: Level
) -> None:
    site.containers.append(container("chatui", image=image, env=env))
    assert site.found(Code.FOREIGN_MODELS).level is level


@pytest.mark.parametrize(
    ("url", "level"),
    [
        ("http://gateway:8080/v1", Level.OK),
        ("http://localhost:8080/v1", Level.PROBLEM),
        ("http://127.0.0.1:8080/v1", Level.PROBLEM),
        ("http://gateway:8080", Level.PROBLEM),
    ],
)
def test_addresses_must_mean_the_gateway_from_within_the_container(
    site: FakeSite, url: str, level: Level
) -> None:
    env = {"MODELS": MODELS.replace("http://gateway:8080/v1", url)}
    site.containers.append(container("chatui", image=OLD, env=env))
    assert site.found(Code.CHAT_UI_CANNOT_CONNECT).level is level


def test_before_it_runs_its_file_is_looked_at(site: FakeSite) -> None:
    site.files["chatui.env"] = "ENABLE_COMMUNITY_MODELS=true\nMODELS=" + MODELS.replace(
        "gateway", "localhost"
    )
    site.files["docker-compose.chatui.yml"] = f"  chatui:\n    image: ${{CHATUI_IMAGE:-{OLD}}}\n"
    assert site.found(Code.FOREIGN_MODELS).level is Level.PROBLEM
    assert site.found(Code.CHAT_UI_CANNOT_CONNECT).level is Level.PROBLEM


def test_where_it_runs_its_file_counts_but_not_for_the_newer_one_beside_it(site: FakeSite) -> None:
    site.files["chatui.env"] = f"MODELS={MODELS}\n"
    site.containers.append(container("chatui", image=OLD))
    assert site.found(Code.FOREIGN_MODELS).level is Level.OK
    site.containers.append(container("chatui-current", image=NEW))
    assert site.found(Code.FOREIGN_MODELS).level is Level.PROBLEM


def test_without_a_chat_ui_nothing_is_wrong_with_it(site: FakeSite) -> None:
    assert site.found(Code.FOREIGN_MODELS).level is Level.OK
    assert site.found(Code.CHAT_UI_CANNOT_CONNECT).level is Level.OK
