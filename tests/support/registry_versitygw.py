"""A real versitygw for tests: an S3 server over a folder, as a process of its own on a free port."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.servers import free_port
from support.store_processes import required_program, running

ROOT_USER = "test-root"
ROOT_PASSWORD = "test-root-secret"


@dataclass(frozen=True)
class VersitygwServer:
    """Where it listens, and its root account."""

    endpoint: str
    """`host:port`"""
    root_user: str = ROOT_USER
    root_password: str = ROOT_PASSWORD


@contextmanager
def run_versitygw(
    folder: Path, endpoint: str | None = None, *, accounts: bool = True
) -> Iterator[VersitygwServer]:
    """Serve `folder` until the block ends. Skips the test without a versitygw, but fails it in CI.

    `endpoint` is that of an earlier server that is to be started anew. Without `accounts` it knows no user
    but root.
    """
    program = required_program("versitygw", "github.com/versity/versitygw/cmd/versitygw")
    data, users, metadata = folder / "data", folder / "accounts", folder / "metadata"
    for made in (data, users, metadata):
        made.mkdir(parents=True, exist_ok=True)
    endpoint = endpoint or f"127.0.0.1:{free_port()}"
    # Metadata beside the data: not every file system of a test machine has extended attributes.
    command = [
        *(program, "--port", endpoint, "--health", "/health", "--quiet", "--keep-alive"),
        *(("--iam-dir", str(users)) if accounts else ()),
        *("posix", "--sidecar", str(metadata), str(data)),
    ]
    environment = {"ROOT_ACCESS_KEY": ROOT_USER, "ROOT_SECRET_KEY": ROOT_PASSWORD}
    with running(command, environment, f"http://{endpoint}/health"):
        yield VersitygwServer(endpoint)
