"""Which language a client means."""

from collections.abc import Mapping

from msp_common.errors import InvalidRequest


def resolve(given: str | None, known: Mapping[str, tuple[str, ...]]) -> str | None:
    """The code for a code (`en`), a tag (`en-GB`) or an English name (`English`); null if none is given.

    `known` maps codes to names, as `Transcriber.languages` does. Raises InvalidRequest naming `language`.
    """
    if given is None or not given.strip():
        return None
    wanted = given.strip().lower()
    for code, names in known.items():
        if wanted == code or wanted in names:
            return code
    primary = wanted.replace("_", "-").partition("-")[0]
    if primary in known:
        return primary
    listed = ", ".join(sorted(known)) or "none: it has no choice of language"
    raise InvalidRequest(
        f"Invalid value for 'language': this model does not know {given[:40]!r}. It knows {listed}.",
        param="language",
        code="invalid_value",
    )


def name(code: str | None, known: Mapping[str, tuple[str, ...]]) -> str:
    """The English name that goes into a verbose answer; `unknown` if the model has no notion of languages."""
    names = known.get(code or "", ())
    return names[0] if names else code or "unknown"
