"""A PostgreSQL server of one's own, where its programs are installed; tests skip where they are not."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.servers import free_port


@contextmanager
def postgresql_url() -> Iterator[str]:
    """The URL of an empty database, until the block ends."""
    programs = {name: shutil.which(name, path=_path()) for name in ("initdb", "pg_ctl")}
    if not all(programs.values()):
        missing = "PostgreSQL's programs (initdb, pg_ctl) are not installed"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    # The server refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="msp-postgresql-") as folder:
        if user is not None:
            os.chown(folder, pwd.getpwnam(user).pw_uid, -1)

        def run(name: str, *arguments: str) -> None:
            subprocess.run(
                [str(programs[name]), "-D", f"{folder}/data", *arguments],
                user=user,
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
            )

        port = free_port()
        run("initdb", "-U", "msp", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run("pg_ctl", "-w", "-l", f"{folder}/log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://msp@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


def _path() -> str:
    """Debian keeps the server's programs out of the usual folders, one folder for each version."""
    of_debian = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return os.pathsep.join([os.environ.get("PATH", ""), *of_debian])
