"""API keys and what was used with them, as the gateway's `/admin` routes tell it."""

from datetime import date

from pydantic import ConfigDict, Field

from msp_common.contracts.base import Contract


class KeyLimits(Contract):
    """What a key may do. Null is no limit of its own."""

    model_config = ConfigDict(extra="forbid")

    allowed_models: list[str] | None = None
    """Ids of the models that it may use."""
    requests_per_minute: int | None = Field(default=None, ge=1)
    """As many may also come at once after a quiet minute."""
    tokens_per_minute: int | None = Field(default=None, ge=1)
    """Prompt and answer together. Counted when they are known: one request may go beyond it."""
    concurrency: int | None = Field(default=None, ge=1)
    """Requests that are worked on at the same time; more of them wait."""
    weight: int = Field(default=1, ge=1, le=100)
    """Its share while keys compete for a model: twice the weight is served twice as often."""


NO_LIMITS = KeyLimits()


class NewApiKey(KeyLimits):
    """Body of `POST /admin/keys`."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")
    """For people, logs and accounting; no two keys have the same, but for those that were revoked."""
    expires_at: float | None = Field(default=None, gt=0)
    """Seconds since the epoch from which on it no longer works."""


class KeyChange(KeyLimits):
    """Body of `PATCH /admin/keys/{id}`: only what is sent is changed; null takes a limit away."""

    expires_at: float | None = Field(default=None, gt=0)


class ApiKey(Contract):
    """One key, without its secret."""

    id: str
    """The public part: `msp-ID-...`."""
    name: str
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    limits: KeyLimits = NO_LIMITS


class CreatedApiKey(ApiKey):
    """Answer of `POST /admin/keys`: the only one that ever shows the secret."""

    secret: str


class ApiKeys(Contract):
    """Answer of `GET /admin/keys`: the newest first, those that were revoked too."""

    keys: list[ApiKey]


class UsageLine(Contract):
    """What one key used of one model on one day."""

    day: date
    """In UTC."""
    key_id: str
    """Empty for requests without a key."""
    key_name: str | None = None
    model: str
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    audio_s: float = 0
    gpu_s: float = 0
    """GPU time: what the model's GPUs were busy for, shared evenly among the requests they worked on."""


class UsageLines(Contract):
    """Answer of `GET /admin/usage`."""

    lines: list[UsageLine]
