"""`msp keys` against a gateway that really listens."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from msp_cli.exit_codes import ExitCode
from msp_cli.main import app
from msp_common.api_keys import digest, id_of
from msp_common.contracts.keys import UsageLine
from msp_gateway.access import Stores
from msp_gateway.keys.file_store import FileKeyStore
from support.gateway_cluster import Cluster
from support.gateway_keys import ADMIN_TOKEN, database_stores
from support.servers import free_port, run_server


class Keys:
    """`msp keys`, with the gateway's address and token in its environment."""

    def __init__(self, url: str, stores: Stores) -> None:
        self.url, self.stores = url, stores
        self.token = ADMIN_TOKEN

    def run(self, *arguments: str, code: int = 0) -> Result:
        environment = {"GATEWAY_URL": self.url, "GATEWAY_ADMIN_TOKEN": self.token, "COLUMNS": "200"}
        done = CliRunner().invoke(app, ["keys", *arguments], env=environment)
        assert done.exit_code == code, done.output
        return done

    def create(self, *arguments: str) -> str:
        """A new key's secret."""
        return self.run("create", *arguments).stdout.strip()

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def is_let_in(self, secret: str) -> bool:
        answer = httpx.get(f"{self.url}/v1/models", headers={"authorization": f"Bearer {secret}"})
        return answer.status_code == 200


@pytest.fixture
def keys(tmp_path: Path) -> Iterator[Keys]:
    stores, engine = database_stores(tmp_path)
    with run_server(Cluster().app(stores=stores, admin_token=ADMIN_TOKEN)) as url:
        yield Keys(url, stores)
    engine.dispose()


def test_a_secret_is_alone_on_standard_output_and_works(keys: Keys) -> None:
    made = keys.run("create", "--name", "team")
    secret = made.stdout.strip()
    assert made.stderr.startswith(f"key {id_of(secret)} (team): no limits; keep this secret")
    assert secret not in made.stderr
    assert keys.is_let_in(secret)
    assert not keys.is_let_in("msp-other")


def test_keys_are_listed_with_their_limits_and_never_their_secrets(keys: Keys) -> None:
    assert "there is no key yet" in keys.run("list").output
    limits = ["--model", "org/a", "--model", "org/b", "--requests-per-minute", "5", "--weight", "3"]
    secret = keys.create("--name", "team", *limits, "--expires", "2031-05-06")
    listed = keys.run("list").stdout
    for part in (
        str(id_of(secret)),
        "team",
        "works until 2031-05-06",
        "only org/a, org/b, 5 requests/min, weight 3",
    ):
        assert part in listed
    assert secret not in listed
    (key,) = keys.json("list")["keys"]
    assert key["limits"]["allowed_models"] == ["org/a", "org/b"]


def test_a_revoked_key_works_no_more_and_stays_listed(keys: Keys) -> None:
    secret = keys.create("--name", "team")
    assert "is revoked" in keys.run("revoke", str(id_of(secret))).stdout
    assert not keys.is_let_in(secret)
    assert "revoked " in keys.run("list").stdout


def test_only_what_is_named_of_a_key_changes(keys: Keys) -> None:
    secret = keys.create(
        "--name", "team", "--concurrency", "4", "--tokens-per-minute", "100", "--expires", "1h"
    )
    key_id = str(id_of(secret))
    changed = keys.run("set", key_id, "--concurrency", "9", "--clear", "tokens-per-minute").stdout
    assert changed.strip() == f"key {key_id} (team): 9 at once"
    (key,) = keys.json("list")["keys"]
    assert key["expires_at"] > datetime.now(UTC).timestamp()
    assert keys.json("set", key_id, "--clear", "expires")["expires_at"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["create"],
        ["create", "--name", ""],
        ["create", "--name", "x", "--weight", "0"],
        ["create", "--name", "x", "--expires", "soon"],
        ["set", "abc"],
        ["set", "abc", "--concurrency", "1", "--clear", "concurrency"],
    ],
)
def test_mistakes_are_told_before_anything_is_done(keys: Keys, arguments: list[str]) -> None:
    keys.run(*arguments, code=ExitCode.USAGE)
    assert keys.json("list")["keys"] == []


def test_what_the_gateway_refuses_ends_with_its_reason(keys: Keys) -> None:
    keys.create("--name", "team")
    assert "has the name 'team'" in keys.run("create", "--name", "team", code=ExitCode.REFUSED).output
    assert "no key with the id" in keys.run("revoke", "nobody", code=ExitCode.REFUSED).output
    keys.token = "wrong"
    assert "admin token" in keys.run("list", code=ExitCode.REFUSED).output
    keys.url = f"http://127.0.0.1:{free_port()}"
    assert "cannot be reached" in keys.run("list", code=ExitCode.AWAY).output


def test_usage_is_shown_by_day_key_and_model(keys: Keys) -> None:
    assert "nothing was used" in keys.run("usage").output
    key_id = str(id_of(keys.create("--name", "team")))
    today = datetime.now(UTC).date()
    numbers = {"requests": 1200, "prompt_tokens": 34567, "completion_tokens": 8, "audio_s": 9.4, "gpu_s": 61}
    used = UsageLine(day=today, key_id=key_id, model="org/a", **numbers)  # type: ignore[arg-type]
    keys.stores.usage.add([used, UsageLine(day=today, key_id="", model="org/a", requests=2)])
    rows = [row.split() for row in keys.run("usage").stdout.splitlines()]
    assert [str(today), "without", "a", "key", "org/a", "2", "0", "0", "0", "s", "0", "s"] in rows
    mine = ["org/a", "1,200", "34,567", "8", "9", "s", "61", "s"]
    assert [str(today), "team", f"({key_id})", *mine] in rows
    assert [line["key_id"] for line in keys.json("usage", "--key", key_id)["lines"]] == [key_id]
    assert keys.json("usage", "--until", "2026-01-01")["lines"] == []


def test_an_entry_for_a_file_of_keys_needs_no_gateway(tmp_path: Path) -> None:
    away = Keys("http://127.0.0.1:1", Stores())
    made = away.run("generate", "--name", "team", "--concurrency", "2", "--expires", "30d")
    secret = made.stderr.split()[-1]
    path = tmp_path / "keys.yaml"
    path.write_text(f"keys:\n{made.stdout}")
    (key,) = FileKeyStore(path).load()
    assert (key.id, key.sha256, key.limits.concurrency) == (id_of(secret), digest(secret), 2)
    assert key.expires_at is not None
    assert secret not in made.stdout
    with run_server(Cluster().app(stores=Stores(keys=FileKeyStore(path)))) as url:
        assert Keys(url, Stores()).is_let_in(secret)
