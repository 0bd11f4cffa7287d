"""A real versitygw for tests: an S3 server over a folder, as a process of its own on a free port."""

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from support.servers import free_port

ROOT_USER = "test-root"
ROOT_PASSWORD = "test-root-secret"


@dataclass(frozen=True)
class VersitygwServer:
    """Where it listens, and its root account."""

    endpoint: str
    """`host:port`"""
    root_user: str = ROOT_USER
    root_password: str = ROOT_PASSWORD


def versitygw_binary() -> str | None:
    """The server's program: MSP_VERSITYGW_BINARY, else on PATH, else where `go install` puts it."""
    candidates = (
        os.environ.get("MSP_VERSITYGW_BINARY"),
        shutil.which("versitygw"),
        Path.home() / "go/bin/versitygw",
    )
    return next((str(c) for c in candidates if c and Path(c).is_file()), None)


@contextmanager
def run_versitygw(
    folder: Path, endpoint: str | None = None, *, accounts: bool = True
) -> Iterator[VersitygwServer]:
    """Serve `folder` until the block ends. Skips the test without a versitygw, but fails it in CI.

    `endpoint` is that of an earlier server that is to be started anew. Without `accounts` it knows no user
    but root.
    """
    binary = versitygw_binary()
    if binary is None:
        reason = (
            "no versitygw: set MSP_VERSITYGW_BINARY, or "
            "go install github.com/versity/versitygw/cmd/versitygw@latest"
        )
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    data, users, metadata = folder / "data", folder / "accounts", folder / "metadata"
    for made in (data, users, metadata):
        made.mkdir(parents=True, exist_ok=True)
    endpoint = endpoint or f"127.0.0.1:{free_port()}"
    # Metadata beside the data: not every file system of a test machine has extended attributes.
    process = subprocess.Popen(
        [
            *(binary, "--port", endpoint, "--health", "/health", "--quiet", "--keep-alive"),
            *(("--iam-dir", str(users)) if accounts else ()),
            *("posix", "--sidecar", str(metadata), str(data)),
        ],
        env={
            "PATH": os.environ["PATH"],
            "ROOT_ACCESS_KEY": ROOT_USER,
            "ROOT_SECRET_KEY": ROOT_PASSWORD,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_alive(process, f"http://{endpoint}/health")
        yield VersitygwServer(endpoint)
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_alive(process: "subprocess.Popen[bytes]", url: str) -> None:
    pause = threading.Event()
    with urllib3.PoolManager() as pool:
        for _ in range(300):
            if process.poll() is not None:
                raise RuntimeError(f"versitygw ended at once with code {process.returncode}")
            try:
                if pool.request("GET", url, retries=False, timeout=2).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass
            pause.wait(0.1)
    raise RuntimeError("versitygw did not become ready")
