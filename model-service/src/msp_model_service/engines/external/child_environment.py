"""What a started server gets to know of the worker's environment."""

from collections.abc import Collection, Mapping

_SECRET_WORDS = frozenset(
    {"TOKEN", "TOKENS", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "KEY", "KEYS", "APIKEY", "CREDENTIALS"}
)

# Base images of servers report home unless told not to; an air-gapped one would only wait for time-outs.
_QUIET = {"VLLM_NO_USAGE_STATS": "1", "VLLM_DO_NOT_TRACK": "1"}


def child_environment(
    inherited: Mapping[str, str], *, ours: Collection[str], given: Mapping[str, str]
) -> dict[str, str]:
    """The environment of a server.

    It inherits all but the worker's own settings (`ours`) and whatever has the name of a secret; `given`,
    which the operator meant for it, comes on top unchecked.
    """
    kept = {
        name: value
        for name, value in inherited.items()
        if name.upper() not in ours and not _SECRET_WORDS & set(name.upper().split("_"))
    }
    return {**_QUIET, **kept, **given}
