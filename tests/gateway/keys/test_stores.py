"""Keys and usage at rest: in SQLite, in PostgreSQL where there is one, and in a file."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, inspect

from msp_common.api_keys import digest, id_of, new_key
from msp_common.contracts.keys import KeyLimits, UsageLine
from msp_gateway.keys.backup import NoBackup, back_up
from msp_gateway.keys.database import open_database
from msp_gateway.keys.database_url import database_url
from msp_gateway.keys.file_store import FileKeyStore
from msp_gateway.keys.key_table import KeyTable
from msp_gateway.keys.store import NameTaken, ReadOnly, StoreAway, UnknownKey
from msp_gateway.keys.tables import METADATA
from msp_gateway.keys.usage_table import UsageTable
from support.gateway_keys import stored_key
from support.gateway_postgresql import postgresql_url

DAY = date(2026, 11, 21)


def line(key_id: str = "k", model: str = "m", day: date = DAY, **sums: float) -> UsageLine:
    return UsageLine(day=day, key_id=key_id, model=model, **sums)  # type: ignore[arg-type]


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    url = f"sqlite:///{tmp_path / 'new' / 'gateway.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
    engine = open_database(url)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    with postgresql_url() as url:
        yield url


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "postgresql" in request.fixturenames:
        engine = create_engine(request.getfixturevalue("postgresql"))
        with engine.begin() as connection:
            METADATA.drop_all(connection)
            connection.exec_driver_sql("DROP TABLE IF EXISTS alembic_version")
        engine.dispose()


def test_a_key_is_kept_with_all_that_belongs_to_it(engine: Engine) -> None:
    keys = KeyTable(engine)
    key, secret = stored_key(
        allowed_models=["org/a"], requests_per_minute=5, tokens_per_minute=6, concurrency=7, weight=8
    )
    key = replace(key, expires_at=12.5)
    keys.add(key)
    assert keys.load() == [key]
    assert secret.rpartition("-")[2] not in repr(keys.load())


def test_every_change_is_a_new_mark_for_all_who_read(engine: Engine) -> None:
    mine, others = KeyTable(engine), KeyTable(engine)
    before = others.mark()
    key, _ = stored_key()
    mine.add(key)
    added = others.mark()
    mine.replace(replace(key, revoked_at=5.0))
    assert len({before, added, others.mark()}) == 3
    assert others.load()[0].revoked_at == 5.0


def test_two_keys_may_not_have_one_name_but_for_one_that_was_revoked(engine: Engine) -> None:
    keys = KeyTable(engine)
    first, _ = stored_key("same")
    second, _ = stored_key("same")
    keys.add(first)
    before = keys.mark()
    with pytest.raises(NameTaken, match=first.id):
        keys.add(second)
    assert keys.mark() == before, "a change that failed is none"
    keys.replace(replace(first, revoked_at=2.0))
    keys.add(second)
    assert len(keys.load()) == 2


def test_an_unknown_key_cannot_be_changed(engine: Engine) -> None:
    key, _ = stored_key()
    with pytest.raises(UnknownKey):
        KeyTable(engine).replace(key)


def test_usage_of_a_day_adds_up_over_writes_and_gateways(engine: Engine) -> None:
    UsageTable(engine).add([line(requests=1, prompt_tokens=2), line("other", requests=9)])
    UsageTable(engine).add([line(requests=1, completion_tokens=3, audio_s=0.5, gpu_s=1.5)])
    UsageTable(engine).add([])
    UsageTable(engine).add([line(day=date(2026, 11, 22), requests=4)])
    lines = UsageTable(engine).lines(DAY, DAY)
    assert sorted(lines, key=lambda used: used.key_id) == [
        line(requests=2, prompt_tokens=2, completion_tokens=3, audio_s=0.5, gpu_s=1.5),
        line("other", requests=9),
    ]


def test_gateways_that_start_together_make_the_tables_once(engine: Engine) -> None:
    url = engine.url.render_as_string(hide_password=False)
    METADATA.drop_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
    failed: list[StoreAway] = []

    def start() -> None:
        try:
            open_database(url).dispose()
        except StoreAway as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert KeyTable(engine).mark() == 0


def test_the_migrations_make_what_the_code_reads_and_writes(engine: Engine) -> None:
    found = inspect(engine)
    for name, table in METADATA.tables.items():
        columns = {column["name"]: column for column in found.get_columns(name)}
        assert columns.keys() == set(table.columns.keys())
        for column in table.columns:
            assert columns[column.name]["nullable"] == column.nullable
            assert columns[column.name]["type"]._type_affinity == column.type._type_affinity


def test_a_migration_that_fails_leaves_nothing_behind(engine: Engine) -> None:
    METADATA.drop_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE alembic_version")
        connection.exec_driver_sql("CREATE TABLE usage_daily (day INTEGER)")  # in the way of the last step
    with pytest.raises(StoreAway, match="usage_daily"):
        open_database(engine.url.render_as_string(hide_password=False))
    assert inspect(engine).get_table_names() == ["usage_daily"]


def test_a_database_that_is_there_already_keeps_its_keys(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    key, _ = stored_key()
    KeyTable(open_database(url)).add(key)
    assert KeyTable(open_database(url)).load() == [key]


def test_a_database_that_cannot_be_used_says_which_and_why(tmp_path: Path) -> None:
    (tmp_path / "gateway.db").write_text("this is no database, but a text of some length")
    with pytest.raises(StoreAway, match=r"gateway\.db cannot be used: file is not a database"):
        open_database(f"sqlite:///{tmp_path / 'gateway.db'}")
    (tmp_path / "file").touch()
    with pytest.raises(StoreAway, match="the gateway's database is to be there"):
        open_database(f"sqlite:///{tmp_path / 'file' / 'gateway.db'}")


@pytest.mark.parametrize(
    "url",
    ["", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://h/db", "postgresql://", "/data/x.db"],
)
def test_urls_that_keep_nothing_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|name a file"):
        database_url(url)


def test_both_kinds_of_databases_are_taken_by_their_usual_urls() -> None:
    assert database_url("sqlite:////data/gateway.db") == "sqlite:////data/gateway.db"
    assert database_url("postgres://u:p@h/db") == "postgresql+psycopg://u:p@h/db"
    assert database_url("postgresql://u:p@h/db") == "postgresql+psycopg://u:p@h/db"


def test_a_backup_taken_while_the_gateway_writes_holds_keys_that_work(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    running = open_database(url)
    key, secret = stored_key()
    KeyTable(running).add(key)
    with running.begin() as writing:
        writing.exec_driver_sql("UPDATE keys_revision SET revision = 77")
        back_up(url, tmp_path / "backup.db")
        later, _ = stored_key("later")
    KeyTable(running).add(later)

    restored = tmp_path / "restored.db"
    (tmp_path / "backup.db").rename(restored)
    (found,) = KeyTable(open_database(f"sqlite:///{restored}")).load()
    assert (found.id, found.sha256) == (id_of(secret), digest(secret))


def test_a_backup_never_takes_the_place_of_a_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'gateway.db'}"
    with pytest.raises(NoBackup, match="there is no database"):
        back_up(url, tmp_path / "backup.db")
    open_database(url)
    (tmp_path / "backup.db").write_text("last week's")
    with pytest.raises(NoBackup, match="is there already"):
        back_up(url, tmp_path / "backup.db")
    with pytest.raises(NoBackup, match="pg_dump"):
        back_up("postgresql+psycopg://h/db", tmp_path / "x")
    sqlite3.connect(tmp_path / "gateway.db").close()


def keys_file(path: Path, *entries: object) -> Path:
    path.write_text(json.dumps({"keys": entries}))
    return path


def test_a_file_of_keys_is_read_as_it_is_written(tmp_path: Path) -> None:
    made = new_key()
    path = tmp_path / "keys.yaml"
    path.write_text(
        f"keys:\n  - {{id: {made.id}, name: team, sha256: {made.sha256}, expires_at: 2027-01-31T00:00:00Z,\n"
        "      limits: {concurrency: 2, allowed_models: [org/a]}}\n"
        f"  - {{id: old, name: left, sha256: {made.sha256}, revoked: true}}\n"
    )
    team, left = FileKeyStore(path).load()
    assert team.limits == KeyLimits(concurrency=2, allowed_models=["org/a"])
    assert (team.expires_at, team.works(now=1.0), left.works(now=1.0)) == (1801353600, True, False)


def test_a_file_that_changes_has_a_new_mark(tmp_path: Path) -> None:
    path = keys_file(tmp_path / "keys.json")
    store = FileKeyStore(path)
    before = store.mark()
    keys_file(tmp_path / "new.json", {"id": "a", "name": "a", "sha256": "0" * 64}).rename(path)
    assert store.mark() != before


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"id": "a", "name": "a"}, "keys.0.sha256"),
        ({"id": "a", "name": "a", "sha256": "no hash"}, "keys.0.sha256"),
        ({"id": "a", "name": "a", "sha256": "0" * 64, "limit": 1}, "keys.0.limit: no such key"),
        ({"id": "a-b", "name": "a", "sha256": "0" * 64}, "keys.0.id"),
    ],
)
def test_a_mistake_in_a_file_of_keys_is_named(tmp_path: Path, entry: object, said: str) -> None:
    with pytest.raises(StoreAway, match=said):
        FileKeyStore(keys_file(tmp_path / "keys.json", entry)).load()


def test_a_file_that_is_not_there_or_names_an_id_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreAway, match="cannot be read"):
        FileKeyStore(tmp_path / "none.yaml").load()
    twice = {"id": "a", "name": "a", "sha256": "0" * 64}
    with pytest.raises(StoreAway, match="twice: a"):
        FileKeyStore(keys_file(tmp_path / "keys.json", twice, twice)).load()


def test_a_file_of_keys_is_changed_by_its_owner_alone(tmp_path: Path) -> None:
    store = FileKeyStore(keys_file(tmp_path / "keys.json"))
    key, _ = stored_key()
    for change in (store.add, store.replace):
        with pytest.raises(ReadOnly, match="change it there"):
            change(key)
