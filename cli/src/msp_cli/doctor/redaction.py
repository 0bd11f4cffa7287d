"""Taking secrets out of text that leaves the site. Pure.

Three nets, one behind the other: every value that has a secret's name anywhere in the installation, wherever
else it turns up; what follows a secret's name; and what looks like a secret by its form.
"""

import base64
import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from msp_common.logs import redact

MARK = "***"
LEAST_LENGTH = 4
"""Shorter values are taken out behind their name, but not searched for: they are in any text."""

_NAMES = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|CREDENTIAL|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|AUTHORIZATION|COOKIE"
    r"|DATABASE_URL|MONGODB_URL|(^|[_-])TOKEN$|(^|[_-])KEY$|(^|[_-])PASS$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_FORMS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----"
    r"|\bmsp-[A-Za-z0-9]+-[A-Za-z0-9_-]{8,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.?[A-Za-z0-9_-]*"
    r"|\b(?:ghp|gho|glpat)[_-][A-Za-z0-9_-]{16,}"
    r"|(?i:(?<=basic )[A-Za-z0-9+/=]{8,})",
    re.DOTALL,
)
_NAMED = re.compile(r"""(["']?)([A-Za-z][\w.-]*)\1(\s*[:=]\s*)("[^"\n]*"|'[^'\n]*'|`[^`]*`|[^\s"',;}\]]+)""")
_LINE = re.compile(r"^(\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=)(.*)$")
_IN_URL = re.compile(r"://[^/\s:@]*:([^@\s/]+)@")


def is_secret_name(name: str) -> bool:
    """Whether a setting of this name holds what nobody else may know."""
    return bool(_NAMES.search(_CAMEL.sub("_", name)))


class Redactor:
    """Knows the installation's own secrets."""

    def __init__(self, places: Iterable[Mapping[str, str]]) -> None:
        found: set[str] = set()
        for place in places:
            for name, value in place.items():
                found.update(_IN_URL.findall(value))
                if is_secret_name(name):
                    found.add(value.strip())
        written = {form for value in found if len(value) >= LEAST_LENGTH for form in _forms(value)}
        # Longest first: a secret may begin with another one.
        ordered = sorted(written, key=len, reverse=True)
        self._values = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    def text(self, text: str) -> str:
        """The text without secrets."""
        if self._values is not None:
            text = self._values.sub(MARK, text)
        return _NAMED.sub(_behind_name, _FORMS.sub(MARK, redact(text)))

    def env_file(self, text: str) -> str:
        """A `.env` whose secrets are marks; whether one was set at all is still seen."""
        lines = []
        for line in text.splitlines():
            match = _LINE.match(line)
            if match and is_secret_name(match[2]):
                line = f"{match[1]}{MARK if match[3].strip() else ''}"
            lines.append(line)
        return self.text("\n".join(lines) + "\n")


def _behind_name(match: re.Match[str]) -> str:
    quoted, name, sign, value = match.groups()
    bare = value.strip("\"'`")
    # Counts of tokens are no secrets, and false or null is none either.
    if (
        not is_secret_name(name)
        or not bare
        or bare.isdigit()
        or bare.lower() in ("null", "none", "true", "false")
    ):
        return match[0]
    edge = value[0] if value[0] in "\"'`" else ""
    return f"{quoted}{name}{quoted}{sign}{edge}{MARK}{edge}"


def _forms(value: str) -> set[str]:
    """How a value may be written: in a URL, in JSON, in the header of basic authentication."""
    encoded = base64.b64encode(value.encode()).decode()
    return {value, quote(value, safe=""), quote(value), json.dumps(value)[1:-1], encoded, encoded.rstrip("=")}
