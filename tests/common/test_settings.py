"""Settings are read from the environment and refused at start with the variable's name."""

from typing import ClassVar

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from msp_common.settings import Settings, SettingsError


class DoorSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="DOOR_")
    owned_prefixes: ClassVar[tuple[str, ...]] = ("DOOR_",)

    port: int = Field(default=1, gt=0)
    """Where the door is."""

    key: SecretStr | None = None
    """What opens it."""

    house_url: str = Field(default="http://house", validation_alias="HOUSE_URL")
    """Where the house is."""


def test_values_come_from_prefixed_and_shared_names() -> None:
    settings = DoorSettings.load(
        {"DOOR_PORT": "7", "HOUSE_URL": "http://h", "LOG_FORMAT": "json", "PATH": "/"}
    )
    assert (settings.port, settings.house_url, settings.log_format) == (7, "http://h", "json")


def test_an_empty_value_counts_as_unset() -> None:
    assert DoorSettings.load({"DOOR_PORT": ""}).port == 1


def test_a_malformed_value_is_refused_with_the_variables_name_and_value() -> None:
    with pytest.raises(SettingsError, match=r"DOOR_PORT: .*integer.*'high'"):
        DoorSettings.load({"DOOR_PORT": "high"})


def test_an_unknown_name_within_the_prefix_is_refused_and_the_near_one_suggested() -> None:
    with pytest.raises(SettingsError, match=r"DOOR_PROT: no such setting; did you mean DOOR_PORT\?"):
        DoorSettings.load({"DOOR_PROT": "7"})


def test_all_mistakes_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        DoorSettings.load({"DOOR_PROT": "7", "LOG_LEVEL": "loud", "DOOR_PORT": "-1"})
    assert {line.split(":")[0] for line in str(caught.value).splitlines()} == {
        "DOOR_PROT",
        "DOOR_PORT",
        "LOG_LEVEL",
    }


def test_a_secret_is_never_shown() -> None:
    settings = DoorSettings.load({"DOOR_KEY": "opensesame"})
    assert "opensesame" not in repr(settings)
