"""Why a job fails: each reason has a code that scripts can tell apart, and says what to do.

JobFailure
├── NoSuchRepo            the hub has no such model, or does not show it to us
├── NoSuchRevision        the model has no such branch, tag or commit
├── GatedNoToken          the licence must be accepted, and we have no token to prove it with
├── GatedNotAccepted      our token's account has not accepted the licence
├── TokenRefused          the hub does not know our token, or does not let it see this model
├── RepoDisabled          the hub has closed the model for everybody
├── RegistryOffline       a download, and the registry was set offline meanwhile
├── HubUnreachable        no connection, or it broke too often; retryable
├── RateLimited           the hub asks us to wait longer than a job should; retryable
├── HubMisbehaved         an answer that the Hub's protocol does not allow
├── WrongBytes            what arrived is not what was announced; retryable
├── NothingToStore        patterns or policy leave no file
├── PickleOnly            no safetensors, and pickle was not allowed
├── BadSnapshot           the files are whole, but cannot be what they say they are
├── BadFolder             a folder that cannot be imported
├── BadArchive            a tar that cannot be imported
├── FilesMissing          files that an import leaves to the store are not in it
├── SourceUnreachable     the S3 server that is imported from does not answer; retryable
├── QuotaExceeded         the snapshot does not fit into what the registry may store
├── NotEnoughSpace        the snapshot does not fit onto the store's disk
├── Corrupt               stored files are not what their manifest says, and were not repaired
├── NotRepairable         there is no source to fetch a bad file from
├── StoreFailed           the store went away; retryable
└── Unexpected            our own fault; the log has the cause
"""

from typing import ClassVar

from msp_common.contracts.jobs import JobError


class JobFailure(Exception):
    """A job's end, with the reason."""

    code: ClassVar[str] = "unexpected"
    retryable: ClassVar[bool] = False

    def as_error(self) -> JobError:
        """As the job's answer tells it."""
        return JobError(code=self.code, message=str(self), retryable=self.retryable)


class NoSuchRepo(JobFailure):
    """The hub has no such model, or does not show it to us."""

    code = "no_such_repo"


class NoSuchRevision(JobFailure):
    """The model has no such branch, tag or commit."""

    code = "no_such_revision"


class GatedNoToken(JobFailure):
    """The licence must be accepted, and we have no token to prove it with."""

    code = "gated_no_token"


class GatedNotAccepted(JobFailure):
    """Our token's account has not accepted the licence."""

    code = "gated_not_accepted"


class TokenRefused(JobFailure):
    """The hub does not know our token, or does not let it see this model."""

    code = "token_refused"


class RegistryOffline(JobFailure):
    """A download that was asked for when the registry was still online."""

    code = "registry_offline"


class HubUnreachable(JobFailure):
    """No connection, or it broke too often."""

    code, retryable = "hub_unreachable", True


class RepoDisabled(JobFailure):
    """The hub has closed the model for everybody."""

    code = "repo_disabled"


class RateLimited(JobFailure):
    """The hub asks us to wait longer than a job should."""

    code, retryable = "hub_rate_limited", True


class HubMisbehaved(JobFailure):
    """An answer that the Hub's protocol does not allow."""

    code = "hub_misbehaved"


class WrongBytes(JobFailure):
    """What arrived is not what was announced."""

    code, retryable = "wrong_bytes", True


class NothingToStore(JobFailure):
    """Patterns or policy leave no file."""

    code = "nothing_to_store"


class PickleOnly(JobFailure):
    """No safetensors, and pickle was not allowed."""

    code = "pickle_only"


class BadSnapshot(JobFailure):
    """The files are whole, but cannot be what they say they are."""

    code = "bad_snapshot"


class BadFolder(JobFailure):
    """A folder that cannot be imported."""

    code = "bad_folder"


class BadArchive(JobFailure):
    """A tar that cannot be imported."""

    code = "bad_archive"


class FilesMissing(JobFailure):
    """Files that an import leaves to the store are not in it."""

    code = "files_missing"


class SourceUnreachable(JobFailure):
    """The S3 server that is imported from does not answer."""

    code, retryable = "source_unreachable", True


class QuotaExceeded(JobFailure):
    """The snapshot does not fit into what the registry may store."""

    code = "quota_exceeded"


class NotEnoughSpace(JobFailure):
    """The snapshot does not fit onto the store's disk."""

    code = "disk_full"


class Corrupt(JobFailure):
    """Stored files are not what their manifest says, and were not repaired."""

    code = "corrupt"


class NotRepairable(JobFailure):
    """There is no source to fetch a bad file from."""

    code = "not_repairable"


class StoreFailed(JobFailure):
    """The store went away."""

    code, retryable = "store_failed", True


class Unexpected(JobFailure):
    """Our own fault; the log has the cause."""
