"""A real MinIO server for tests, as a process of its own on a free port."""

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
class MinioServer:
    """Where it listens, and its root account."""

    endpoint: str
    """`host:port`"""
    root_user: str = ROOT_USER
    root_password: str = ROOT_PASSWORD


def minio_binary() -> str | None:
    """The server's program: MSP_MINIO_BINARY, else on PATH, else where `go install` puts it."""
    candidates = (os.environ.get("MSP_MINIO_BINARY"), shutil.which("minio"), Path.home() / "go/bin/minio")
    return next((str(c) for c in candidates if c and Path(c).is_file()), None)


@contextmanager
def run_minio(folder: Path, endpoint: str | None = None) -> Iterator[MinioServer]:
    """Serve `folder` until the block ends. Skips the test without a MinIO, but fails it in CI.

    `endpoint` is that of an earlier server that is to be started anew.
    """
    binary = minio_binary()
    if binary is None:
        reason = "no MinIO server: set MSP_MINIO_BINARY, or go install github.com/minio/minio@latest"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    endpoint = endpoint or f"127.0.0.1:{free_port()}"
    console = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [binary, "server", str(folder), "--quiet", "--address", endpoint, "--console-address", console],
        env={
            "HOME": str(folder),
            "PATH": os.environ["PATH"],
            "MINIO_ROOT_USER": ROOT_USER,
            "MINIO_ROOT_PASSWORD": ROOT_PASSWORD,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_alive(process, f"http://{endpoint}/minio/health/ready")
        yield MinioServer(endpoint)
    finally:
        process.terminate()
        process.wait(20)


def _wait_until_alive(process: "subprocess.Popen[bytes]", url: str) -> None:
    pause = threading.Event()
    with urllib3.PoolManager() as pool:
        for _ in range(300):
            if process.poll() is not None:
                raise RuntimeError(f"MinIO ended at once with code {process.returncode}")
            try:
                if pool.request("GET", url, retries=False, timeout=2).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                pass
            pause.wait(0.1)
    raise RuntimeError("MinIO did not become ready")
