"""Refusals in the hub's form: clients choose their exception by `X-Error-Code`, not by the status. Pure.

HubError
├── RepoNotFound      404  RepositoryNotFoundError
├── RevisionNotFound  404  RevisionNotFoundError, which no client answers from its cache
├── EntryNotFound     404  the file is optional for many clients; they remember its absence by the commit
├── FileQuarantined   409  HfHubHTTPError with our message: there, but not to be had
├── BadRange          416  HfHubHTTPError
├── BadCall           400  BadRequestError
├── NotSignedIn       401  HfHubHTTPError
├── NoSuchCall        404  HfHubHTTPError: a call of the real hub that a registry does not answer
├── StoreAway         503  HfHubHTTPError; clients fall back to their cache, or try again
└── OwnFault          500  HfHubHTTPError
"""

from typing import ClassVar

MAX_MESSAGE = 500


class HubError(Exception):
    """A refusal. `commit` goes with it where the snapshot is known but the thing in it is not."""

    status: ClassVar[int] = 500
    code: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, commit: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.commit = commit
        self.more = headers or {}

    def headers(self) -> dict[str, str]:
        """What clients read; most never look at the body."""
        headers = {"X-Error-Message": header_text(self.message), "Cache-Control": "no-store", **self.more}
        if self.code:
            headers["X-Error-Code"] = self.code
        if self.commit:
            headers["X-Repo-Commit"] = self.commit
        return headers

    def body(self) -> dict[str, str]:
        """The hub's body, whose `error` is a text."""
        return {"error": self.message}


class RepoNotFound(HubError):
    """The registry holds nothing of this model."""

    status, code = 404, "RepoNotFound"


class RevisionNotFound(HubError):
    """The model is held, but not at this revision."""

    status, code = 404, "RevisionNotFound"


class EntryNotFound(HubError):
    """The snapshot has no such file or folder."""

    status, code = 404, "EntryNotFound"


class FileQuarantined(HubError):
    """The stored bytes are not what the manifest says."""

    status, code = 409, "FileQuarantined"


class BadRange(HubError):
    """A range that begins behind the end."""

    status, code = 416, "RangeNotSatisfiable"


class BadCall(HubError):
    """A call that cannot be understood."""

    status, code = 400, "BadRequest"


class NotSignedIn(HubError):
    """A call about the caller, who did not say who they are."""

    status, code = 401, "Unauthorized"


class NoSuchCall(HubError):
    """A call that only the real hub answers."""

    status = 404


class StoreAway(HubError):
    """The store cannot be used now."""

    status = 503


class OwnFault(HubError):
    """Something broke here."""

    status = 500


def header_text(message: str) -> str:
    """A message as a header can hold it: printable ASCII, not too long."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in message)
    return plain if len(plain) <= MAX_MESSAGE else plain[: MAX_MESSAGE - 3] + "..."
