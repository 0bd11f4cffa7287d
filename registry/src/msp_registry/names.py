"""Which model a name in a path means: `org/name`, or the `org-name` form of one that is known. Pure."""

import re
from collections.abc import Iterable
from urllib.parse import unquote

from msp_common.model_ids import MAX_LENGTH, hyphenated
from msp_registry.layout import repo_id_of

# The dash form of the longest `org/name`.
_MAX_NAME = 2 * MAX_LENGTH + 1
_DASHED = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?")


class AmbiguousModel(LookupError):
    """A name that several known models share when their `/` is written as `-`."""

    def __init__(self, name: str, ids: list[str]) -> None:
        super().__init__(f"{name!r} could be any of {', '.join(ids)}")
        self.name = name
        self.ids = ids


def plain_name(raw: str) -> str:
    """The name with `%2F` decoded: an id, or what could be the dash form of one. Raises InvalidModelId."""
    name = unquote(raw)
    dash_form = len(name) <= _MAX_NAME and _DASHED.fullmatch(name) and ".." not in name and "--" not in name
    return name if len(name) > MAX_LENGTH and dash_form else repo_id_of(raw)


def meant(name: str, known: Iterable[str]) -> str:
    """The id that a plain name means; without a match it is taken at its word, for a model that is to come.

    Raises AmbiguousModel, and InvalidModelId for a name that is neither known nor an id.
    """
    if "/" in name:
        return name
    matches = sorted(repo_id for repo_id in known if hyphenated(repo_id) == name)
    if len(matches) > 1:
        raise AmbiguousModel(name, matches)
    return matches[0] if matches else repo_id_of(name)
