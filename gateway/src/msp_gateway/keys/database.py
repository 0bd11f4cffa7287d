"""The gateway's own database: SQLite in a file, or PostgreSQL, by URL."""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from msp_gateway.keys.store import StoreAway

BUSY_S = 5
"""How long a connection waits for another's write to end."""
_MIGRATION_LOCK = 0x6D73705F
"""PostgreSQL's advisory lock that is held while migrating: two gateways may start together."""


def open_database(url: str) -> Engine:
    """An engine over a database that has all tables; makes the file and runs migrations where needed.

    The URL is one that `database_url` gave. Raises StoreAway.
    """
    path = sqlite_path(url)
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        engine = _engine(url, path)
    except OSError as error:
        raise StoreAway(
            f"{error.filename}: {error.strerror}; the gateway's database is to be there"
        ) from None
    try:
        with telling(engine), _alone(engine, path) as connection:
            _migrate(connection)
    except BaseException:
        engine.dispose()
        raise
    return engine


def sqlite_path(url: str) -> Path | None:
    """The file of an SQLite database; None for another kind."""
    made = make_url(url)
    return Path(made.database or "") if made.get_backend_name() == "sqlite" else None


@contextmanager
def telling(engine: Engine) -> Iterator[None]:
    """Turn the driver's errors into StoreAway."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        where = engine.url.render_as_string(hide_password=True)
        raise StoreAway(f"the gateway's database {where} cannot be used: {str(cause).strip()}") from error


def _engine(url: str, path: Path | None) -> Engine:
    if path is None:
        return create_engine(url, pool_pre_ping=True, pool_size=2, max_overflow=2)
    # Threads come and go, and opening the file is cheap: no connection is kept.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": BUSY_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Readers go on while somebody writes, and a backup can be taken meanwhile.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    return engine


@contextmanager
def _alone(engine: Engine, path: Path | None) -> Iterator[Connection]:
    """A connection, while no other gateway migrates."""
    if path is not None:
        with path.with_name(f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with engine.begin() as connection:
                # The driver would begin a transaction only with the first INSERT: all or nothing is made.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
        return
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _MIGRATION_LOCK})
        yield connection


def _migrate(connection: Connection) -> None:
    # It tells of its plugins as soon as it is imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
