"""`python -m msp_gateway.keys.backup FILE`: copy the gateway's SQLite database while the gateway runs.

It reads GATEWAY_DATABASE_URL. For PostgreSQL use pg_dump.
"""

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from msp_gateway.keys.database import sqlite_path


class NoBackup(Exception):
    """Why there is none; for the operator."""


def back_up(url: str, target: Path) -> None:
    """Write a whole, consistent copy. Raises NoBackup."""
    source = sqlite_path(url)
    if source is None:
        raise NoBackup("GATEWAY_DATABASE_URL is no SQLite database; back it up with pg_dump")
    if not source.is_file():
        raise NoBackup(f"there is no database at {source}")
    if target.exists():
        raise NoBackup(f"{target} is there already; name a new file")
    # A name of its own until it is whole, so that nobody takes a part for a backup.
    part = target.with_name(f"{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        read_only = f"{source.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(read_only, uri=True)) as read, closing(sqlite3.connect(part)) as written:
            read.backup(written)
        part.rename(target)
    except (sqlite3.Error, OSError) as error:
        raise NoBackup(f"{source} could not be copied to {target}: {error}") from error


def main() -> None:
    """Ends with 2 when there is no backup."""
    url = os.environ.get("GATEWAY_DATABASE_URL", "")
    if len(sys.argv) != 2 or not url:
        sys.stderr.write("usage: GATEWAY_DATABASE_URL=sqlite:////data/gateway.db ... backup FILE\n")
        raise SystemExit(2)
    try:
        back_up(url, Path(sys.argv[1]))
    except NoBackup as error:
        sys.stderr.write(f"no backup: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
