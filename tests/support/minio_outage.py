"""A MinIO that goes away and comes back, on the same port and with the same data."""

import os
import signal
import subprocess
from pathlib import Path

import httpx

from support.platform_processes import eventually
from support.registry_minio import ROOT_PASSWORD, ROOT_USER
from support.servers import free_port
from support.store_processes import required_program


class MinioWithOutages:
    """A MinIO process. Skips the test without a MinIO, but fails it in CI."""

    def __init__(self, folder: Path) -> None:
        program = required_program("minio", "github.com/minio/minio")
        self.endpoint = f"127.0.0.1:{free_port()}"
        self.user, self.password = ROOT_USER, ROOT_PASSWORD
        self._folder = folder
        console = f"127.0.0.1:{free_port()}"
        addresses = ["--address", self.endpoint, "--console-address", console]
        self._command = [program, "server", str(folder), "--quiet", *addresses]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it is ready."""
        self._process = subprocess.Popen(
            self._command,
            env={
                "HOME": str(self._folder),
                "PATH": os.environ["PATH"],
                "MINIO_ROOT_USER": ROOT_USER,
                "MINIO_ROOT_PASSWORD": ROOT_PASSWORD,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually("MinIO is ready", self._is_ready, 60)

    def stop(self) -> None:
        """From now on connections are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
            self._process = None

    def freeze(self) -> None:
        """From now on connections are accepted and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _is_ready(self) -> bool:
        try:
            with httpx.Client(trust_env=False, timeout=5) as http:
                return http.get(f"http://{self.endpoint}/minio/health/ready").status_code == 200
        except httpx.TransportError:
            return False
