"""Settings from the environment: documented, with units in their names, refused at start when malformed.

A program's settings are one class derived from `Settings`. It names the prefixes that it owns; a variable
under one of them that no field reads is refused, since it is nearly always a spelling mistake.
"""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

# Names that begin with a prefix some program owns, and yet are read by others.
SHARED_NAMES = frozenset({"REGISTRY_URL", "SERVICE_REGISTRY_URL", "REGISTRY_ADMIN_TOKEN"})


_HTTP_URL = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


def _http_url(text: str) -> str:
    if not _HTTP_URL.fullmatch(text) or not urlsplit(text).hostname:
        raise ValueError("expected http://host[:port][/path] or https://...")
    return text.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http_url)]
"""Address of an HTTP service, kept without a slash at its end."""


class SettingsError(Exception):
    """Settings that a program cannot start with: one line per variable, saying what is wrong with it."""


class Settings(BaseSettings):
    """Fields that every program has, and the way in which all are read."""

    model_config = SettingsConfigDict(
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
        case_sensitive=False,
        populate_by_name=True,
    )
    owned_prefixes: ClassVar[tuple[str, ...]] = ()

    log_format: Literal["console", "json"] = Field(default="console", validation_alias="LOG_FORMAT")
    """How log lines look: `console` for people, `json` for collectors."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", validation_alias="LOG_LEVEL"
    )
    """The least important level that is written."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` hands in: the environment is an argument, so that tests need not change it."""
        return (init_settings,)

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Environment variable → field name, for every setting, in the order of definition."""
        return {
            name: field_name
            for field_name, field in cls.model_fields.items()
            for name in _names(cls, field_name, field.validation_alias)
        }

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the settings from `environ` (default: the process's own).

        An empty value counts as unset, as compose writes `NAME=${NAME:-}`.
        Raises SettingsError naming every variable at fault.
        """
        given = {k.upper(): v for k, v in (os.environ if environ is None else environ).items() if v != ""}
        variables = cls.variables()
        problems = list(_unknown(given, variables, cls.owned_prefixes))
        values = {field: given[name] for name, field in variables.items() if name in given}
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [_describe(cls, e) for e in error.errors()]
        if problems:
            raise SettingsError("\n".join(problems))
        return settings


def _names(cls: type[Settings], field_name: str, alias: Any) -> list[str]:
    if alias is None:
        return [f"{cls.model_config.get('env_prefix', '')}{field_name}".upper()]
    if isinstance(alias, AliasChoices):
        return [str(choice).upper() for choice in alias.choices]
    return [str(alias).upper()]


def _unknown(given: Mapping[str, str], variables: Iterable[str], prefixes: tuple[str, ...]) -> Iterable[str]:
    known = set(variables) | SHARED_NAMES
    for name in sorted(given):
        if name.startswith(prefixes) and prefixes and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"{name}: no such setting{hint}"


def _describe(cls: type[Settings], error: Any) -> str:
    field = str(error["loc"][0]) if error["loc"] else ""
    by_field = {f: n for n, f in reversed(list(cls.variables().items()))}
    name = by_field.get(field, field.upper() or "settings")
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{name}: required, but not set"
    info = cls.model_fields.get(field)
    secret = info is not None and "Secret" in str(info.annotation)
    shown = "" if secret or not field else f" (value {error['input']!r})"
    return f"{name}: {message}{shown}"
