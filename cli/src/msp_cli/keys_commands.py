"""`msp keys`: the API keys of the gateway's clients, and what was used with them."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console

from msp_cli import durations
from msp_cli.authorities import authorities_for
from msp_cli.gateway_admin_api import GatewayAdminApi
from msp_cli.job_batch import code_of
from msp_cli.models_session import JsonOption, end, say, show_json, tell
from msp_cli.registry_api import ServiceAnsweredBadly
from msp_cli.tables import cells, table
from msp_common.api_keys import new_key
from msp_common.contracts.keys import ApiKey, KeyChange, KeyLimits, NewApiKey
from msp_common.strict_yaml import mistake

T = TypeVar("T")

app = typer.Typer(
    name="keys",
    help="API keys of the gateway's clients, and what was used with them.\n\n"
    "Ends with 3 when the gateway cannot be reached, and with 4 when it refuses.",
    short_help="API keys of the gateway's clients.",
    no_args_is_help=True,
)

DEFAULT_URL = "http://127.0.0.1:8080"
GatewayOption = Annotated[str, typer.Option("--gateway", envvar="GATEWAY_URL", help="Where the gateway is.")]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token", envvar="GATEWAY_ADMIN_TOKEN", help="The gateway's admin token.", show_default=False
    ),
]
KeyArgument = Annotated[
    str, typer.Argument(help="The key's id: what stands between msp- and the next -.", show_default=False)
]
NameOption = Annotated[str, typer.Option(help="Whose it is, for people, logs and accounting.")]
ModelsOption = Annotated[
    list[str] | None, typer.Option("--model", help="A model it may use; without any, all. May be repeated.")
]
RequestsOption = Annotated[int | None, typer.Option(min=1, help="Requests per minute.")]
TokensOption = Annotated[int | None, typer.Option(min=1, help="Tokens per minute, in and out together.")]
ConcurrencyOption = Annotated[
    int | None, typer.Option(min=1, help="Requests worked on at the same time; more of them wait.")
]
WeightOption = Annotated[
    int | None, typer.Option(min=1, max=100, help="Its share while keys compete for a busy model.")
]
ExpiresOption = Annotated[
    str | None,
    typer.Option(help="When it ends: a span from now, such as 90d, or a date, such as 2027-12-31."),
]


class Limit(StrEnum):
    """What `msp keys set --clear` takes away."""

    MODELS = "models"
    REQUESTS = "requests-per-minute"
    TOKENS = "tokens-per-minute"
    CONCURRENCY = "concurrency"
    EXPIRES = "expires"


_FIELDS = {
    Limit.MODELS: "allowed_models",
    Limit.REQUESTS: "requests_per_minute",
    Limit.TOKENS: "tokens_per_minute",
    Limit.CONCURRENCY: "concurrency",
    Limit.EXPIRES: "expires_at",
}


def register(msp: typer.Typer) -> None:
    """Add the group of commands."""
    msp.add_typer(app)


@app.command()
def create(
    name: NameOption,
    model: ModelsOption = None,
    requests_per_minute: RequestsOption = None,
    tokens_per_minute: TokensOption = None,
    concurrency: ConcurrencyOption = None,
    weight: WeightOption = None,
    expires: ExpiresOption = None,
    gateway: GatewayOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is printed this once, alone on standard output, and kept nowhere."""
    fields = _given(model, requests_per_minute, tokens_per_minute, concurrency, weight, expires)
    wanted = _checked(lambda: NewApiKey(name=name, **fields))
    made = _ask(gateway, token, lambda api: api.create(wanted))
    if as_json:
        show_json(made)
        return
    say(f"key {made.id} ({made.name}): {_limits_text(made)}; keep this secret, it is not shown again:")
    typer.echo(made.secret)


@app.command("list")
def list_keys(
    gateway: GatewayOption = DEFAULT_URL, token: TokenOption = "", as_json: JsonOption = False
) -> None:
    """List all keys, those that were revoked too."""
    keys = _ask(gateway, token, lambda api: api.keys())
    if as_json:
        show_json(keys)
        return
    if not keys.keys:
        tell("there is no key yet: with GATEWAY_AUTH=auto the gateway lets everybody in")
        return
    shown = table("id", "name", "state", "created", "limits")
    for key in keys.keys:
        shown.add_row(*cells(key.id, key.name, _state(key), _day(key.created_at), _limits_text(key)))
    Console().print(shown)


@app.command()
def revoke(
    key: KeyArgument,
    gateway: GatewayOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Revoke a key: it works no more, on all gateways within about a second. It stays listed."""
    gone = _ask(gateway, token, lambda api: api.revoke(key))
    if as_json:
        show_json(gone)
    else:
        tell(f"key {gone.id} ({gone.name}) is revoked")


@app.command("set")
def set_limits(
    key: KeyArgument,
    model: ModelsOption = None,
    requests_per_minute: RequestsOption = None,
    tokens_per_minute: TokensOption = None,
    concurrency: ConcurrencyOption = None,
    weight: WeightOption = None,
    expires: ExpiresOption = None,
    clear: Annotated[
        list[Limit] | None, typer.Option(help="Take this limit away. May be repeated.", show_default=False)
    ] = None,
    gateway: GatewayOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Change a key's limits: those that are given, and no others."""
    fields = _given(model, requests_per_minute, tokens_per_minute, concurrency, weight, expires)
    cleared: dict[str, Any] = {_FIELDS[limit]: None for limit in clear or ()}
    if not fields and not cleared:
        raise typer.BadParameter("say what is to change; see msp keys set --help")
    if both := sorted(fields.keys() & cleared.keys()):
        raise typer.BadParameter(f"{', '.join(both)} cannot be set and cleared at once", param_hint="--clear")
    change = _checked(lambda: KeyChange(**fields, **cleared))
    now = _ask(gateway, token, lambda api: api.change(key, change))
    if as_json:
        show_json(now)
    else:
        tell(f"key {now.id} ({now.name}): {_limits_text(now)}")


@app.command()
def usage(
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day.")] = None,
    key: Annotated[str | None, typer.Option(help="Only this key's, by its id.")] = None,
    gateway: GatewayOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show what keys used, by day (in UTC) and model; the last 30 days unless told otherwise."""
    first, last = since.date() if since else None, until.date() if until else None
    used = _ask(gateway, token, lambda api: api.usage(first, last, key))
    if as_json:
        show_json(used)
        return
    if not used.lines:
        tell("nothing was used in this time")
        return
    shown = table(
        "day", "key", "model", "requests", "prompt tokens", "completion tokens", "audio", "GPU time"
    )
    for line in used.lines:
        whose = f"{line.key_name} ({line.key_id})" if line.key_name else line.key_id or "without a key"
        numbers = (f"{n:,}" for n in (line.requests, line.prompt_tokens, line.completion_tokens))
        spans = (f"{line.audio_s:,.0f} s", f"{line.gpu_s:,.0f} s")
        shown.add_row(*cells(str(line.day), whose, line.model, *numbers, *spans))
    Console().print(shown)


@app.command()
def generate(
    name: NameOption,
    model: ModelsOption = None,
    requests_per_minute: RequestsOption = None,
    tokens_per_minute: TokensOption = None,
    concurrency: ConcurrencyOption = None,
    weight: WeightOption = None,
    expires: ExpiresOption = None,
) -> None:
    """Make an entry for a GATEWAY_KEYS_FILE, asking no gateway.

    The entry, with the key's hash, is printed on standard output; the secret, this once, on standard error.
    """
    fields = _given(model, requests_per_minute, tokens_per_minute, concurrency, weight, expires)
    wanted = _checked(lambda: NewApiKey(name=name, **fields))
    made = new_key()
    limits = wanted.model_dump(include=set(KeyLimits.model_fields), exclude_defaults=True)
    entry: dict[str, Any] = {"id": made.id, "name": name, "sha256": made.sha256}
    if wanted.expires_at is not None:
        entry["expires_at"] = wanted.expires_at
    if limits:
        entry["limits"] = limits
    # JSON on one line is YAML too: it fits under `keys:` as it is.
    typer.echo(f"  - {json.dumps(entry)}")
    say(f"the secret of {name}, not shown again: {made.secret}")


def _ask(gateway: str, token: str, work: Callable[[GatewayAdminApi], Awaitable[T]]) -> T:
    async def talk() -> T:
        async with httpx.AsyncClient(verify=authorities_for(gateway), trust_env=False, timeout=30) as client:
            return await work(GatewayAdminApi(client, gateway, token or None))

    try:
        return asyncio.run(talk())
    except ServiceAnsweredBadly as error:
        end(str(error), code_of(error))


def _given(
    model: list[str] | None,
    requests_per_minute: int | None,
    tokens_per_minute: int | None,
    concurrency: int | None,
    weight: int | None,
    expires: str | None,
) -> dict[str, Any]:
    """The fields that the command line names."""
    fields = {
        "allowed_models": model or None,
        "requests_per_minute": requests_per_minute,
        "tokens_per_minute": tokens_per_minute,
        "concurrency": concurrency,
        "weight": weight,
        "expires_at": None if expires is None else _moment(expires),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _moment(text: str) -> float:
    try:
        return round(time.time() + durations.seconds(text))
    except durations.BadDuration:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is neither a span of time (90d) nor a date (2027-12-31)", param_hint="--expires"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _checked(make: Callable[[], T]) -> T:
    try:
        return make()
    except ValidationError as error:
        raise typer.BadParameter("; ".join(mistake(e) for e in error.errors())) from None


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return f"revoked {_day(key.revoked_at)}"
    if key.expires_at is None:
        return "works"
    return f"{'expired' if key.expires_at <= time.time() else 'works until'} {_day(key.expires_at)}"


def _limits_text(key: ApiKey) -> str:
    limits = key.limits
    told = [
        *([f"only {', '.join(limits.allowed_models)}"] if limits.allowed_models is not None else []),
        *([f"{limits.requests_per_minute} requests/min"] if limits.requests_per_minute else []),
        *([f"{limits.tokens_per_minute} tokens/min"] if limits.tokens_per_minute else []),
        *([f"{limits.concurrency} at once"] if limits.concurrency else []),
        *([f"weight {limits.weight}"] if limits.weight != 1 else []),
    ]
    return ", ".join(told) or "no limits"


def _day(moment: float) -> str:
    return "-" if not moment else datetime.fromtimestamp(moment, UTC).date().isoformat()
