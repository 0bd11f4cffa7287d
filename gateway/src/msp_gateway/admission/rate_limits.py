"""Each key's limits per minute: on requests, and on tokens."""

from collections.abc import Callable
from dataclasses import dataclass

from msp_gateway.admission.identity import Identity
from msp_gateway.admission.refusals import Refused
from msp_gateway.admission.token_bucket import TokenBucket
from msp_gateway.upstream import RawHeaders

BYTES_PER_TOKEN = 4
FIRST_ESTIMATE_TOKENS = 1000
"""The most that a request is taken for while nothing is known of its key: a body may hold a picture."""
_SMOOTHING = 0.2


@dataclass
class _Buckets:
    requests: TokenBucket | None = None
    tokens: TokenBucket | None = None
    mean_tokens: float | None = None
    """Of the key's requests so far; the newest count most."""


class RateLimits:
    """Buckets by key. Keys without limits cost nothing and are not kept."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._keys: dict[str, _Buckets] = {}

    def take(self, identity: Identity, body_bytes: int) -> float:
        """Charge one request, and the tokens that it will probably use, which is what is given back.

        Raises Refused, which charges nothing. What was really used is settled later.
        """
        limits = identity.limits
        if limits.requests_per_minute is None and limits.tokens_per_minute is None:
            return 0.0
        now = self._clock()
        buckets = self._buckets(identity, now)
        estimate = self._estimate(buckets, body_bytes) if buckets.tokens else 0.0
        for bucket, amount, what in (
            (buckets.requests, 1.0, "requests"),
            (buckets.tokens, estimate, "tokens"),
        ):
            if bucket is not None and (wait_s := bucket.wait_s(amount, now)) > 0:
                raise Refused(
                    f"The API key {identity.name!r} has used up its {bucket.per_minute} {what} per minute.",
                    self.fields(identity),
                    wait_s,
                )
        if buckets.requests is not None:
            buckets.requests.take(1, now)
        if buckets.tokens is not None:
            buckets.tokens.take(estimate, now)
        return estimate

    def give_back(self, identity: Identity, estimate: float) -> None:
        """The request was not worked on."""
        buckets, now = self._keys.get(identity.key_id), self._clock()
        if buckets is not None and buckets.requests is not None:
            buckets.requests.take(-1, now)
        self.charge(identity.key_id, -estimate)

    def charge(self, key_id: str, tokens: float) -> None:
        """Correct what was charged; negative amounts are given back."""
        buckets = self._keys.get(key_id)
        if buckets is not None and buckets.tokens is not None and tokens:
            buckets.tokens.take(tokens, self._clock())

    def learn(self, key_id: str, tokens: int) -> None:
        """One request of the key has used so many tokens in all."""
        buckets = self._keys.get(key_id)
        if buckets is not None:
            mean = buckets.mean_tokens
            buckets.mean_tokens = tokens if mean is None else mean + _SMOOTHING * (tokens - mean)

    def fields(self, identity: Identity) -> RawHeaders:
        """`x-ratelimit-*`, for the limits that the key has."""
        buckets = self._keys.get(identity.key_id)
        if buckets is None:
            return ()
        now = self._clock()
        fields: list[tuple[bytes, bytes]] = []
        for what, bucket in ((b"requests", buckets.requests), (b"tokens", buckets.tokens)):
            if bucket is not None:
                fields += (
                    (b"x-ratelimit-limit-" + what, b"%d" % bucket.per_minute),
                    (b"x-ratelimit-remaining-" + what, b"%d" % max(0, int(bucket.level(now)))),
                    (b"x-ratelimit-reset-" + what, reset_text(bucket.full_in_s(now)).encode()),
                )
        return fields

    def _buckets(self, identity: Identity, now: float) -> _Buckets:
        limits = identity.limits
        buckets = self._keys.setdefault(identity.key_id, _Buckets())
        buckets.requests = _resized(buckets.requests, limits.requests_per_minute, now)
        buckets.tokens = _resized(buckets.tokens, limits.tokens_per_minute, now)
        return buckets

    @staticmethod
    def _estimate(buckets: _Buckets, body_bytes: int) -> float:
        if buckets.mean_tokens is not None:
            return buckets.mean_tokens
        return float(min(FIRST_ESTIMATE_TOKENS, 1 + body_bytes // BYTES_PER_TOKEN))


def reset_text(seconds: float) -> str:
    """A span of time as OpenAI's header fields write it: `20ms`, `1.5s`, `6m0s`."""
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"


def _resized(bucket: TokenBucket | None, per_minute: int | None, now: float) -> TokenBucket | None:
    if per_minute is None:
        return None
    if bucket is None:
        return TokenBucket(per_minute, now)
    if bucket.per_minute != per_minute:
        bucket.resize(per_minute, now)
    return bucket
