"""YAML files that people write: what cannot be meant is an error that names its place."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Base of what such a file holds: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Unreadable(Exception):
    """The file cannot be read, or is no YAML."""


def read_yaml(path: Path) -> Any:
    """What the file holds. Raises Unreadable."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)  # noqa: S506  (a SafeLoader)
    except OSError as error:
        raise Unreadable(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"{path}: is no UTF-8 text: {error.reason} at byte {error.start}") from None
    except yaml.YAMLError as error:
        raise Unreadable(f"{path}: is no YAML: {error}") from None


def mistake(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as `where: what`."""
    where = ".".join(str(part) for part in error["loc"]) or "the file"
    if error["type"] == "extra_forbidden":
        return f"{where}: no such key"
    if error["type"] == "string_type" and isinstance(error["input"], int | float):
        return f"{where}: {error['input']} is a number; put it in quotes"
    return f"{where}: {str(error['msg']).removeprefix('Value error, ')}"


class _UniqueKeys(yaml.SafeLoader):
    """YAML whose mappings may not name a key twice; the last one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As the parent's, with the check."""
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)
