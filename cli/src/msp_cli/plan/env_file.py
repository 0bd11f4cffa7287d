"""Reading and changing a `.env` without touching what else is in it. Pure."""

import re
from collections.abc import Mapping

_SETTING = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)$")


def read_env(text: str) -> dict[str, str]:
    """Name → value, as compose reads it: the last line of a name holds, quotes and comments are taken off."""
    return {match[1]: _value(match[2]) for line in text.splitlines() if (match := _SETTING.match(line))}


def with_values(text: str, values: Mapping[str, str]) -> str:
    """The text in which these names have these values: each where it stood, new ones at the end."""
    left = dict(values)
    lines: list[str] = []
    for line in text.splitlines():
        match = _SETTING.match(line)
        name = str(match[1]) if match else ""
        if match is None or name not in values:
            lines.append(line)
            continue
        left.pop(name, None)
        lines.append(line if _value(match[2]) == values[name] else f"{name}={values[name]}")
    if left:
        lines += ["", "# Written by `msp plan`.", *(f"{name}={value}" for name, value in left.items())]
    return "\n".join(lines) + "\n"


def _value(raw: str) -> str:
    raw = raw.strip()
    if raw[:1] in ("'", '"') and (end := raw.find(raw[0], 1)) > 0:
        return raw[1:end]
    return re.split(r"\s#", f" {raw}", maxsplit=1)[0].strip()
