"""A Docker engine of its own that takes reservations of NVIDIA GPUs, where there is no GPU.

The engine offers the driver `nvidia` when it finds NVIDIA's hook on its PATH. Here that is a program that
does nothing; tests look at what the real one would act on, the container's NVIDIA_VISIBLE_DEVICES. Images
are busybox under our names.
"""

import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.mini_platform import BUSYBOX

HOOK = "nvidia-container-runtime-hook"
_APPLETS = ("sh", "sleep", "chown", "cat", "tr")
_STAY = "#!/bin/sh\nexec sleep 1000000\n"
_PROGRAMS = {"stay": _STAY, "server": _STAY, "python": "#!/bin/sh\n", "curl": "#!/bin/sh\n"}
"""`server` stands for MinIO; health checks and preparations succeed at once."""


@contextmanager
def fake_gpu_engine() -> Iterator[str]:
    """Its address as DOCKER_HOST, until the block ends. Its network is its own: no port is taken twice."""
    # A socket's path has at most 107 characters: pytest's own folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="msp-gpu-"))
    programs = folder / "programs"
    programs.mkdir()
    (programs / HOOK).write_text("#!/bin/sh\ncat >/dev/null\n")
    (programs / HOOK).chmod(0o755)
    address = f"unix://{folder}/docker.sock"
    options = f"--data-root {folder}/data --exec-root {folder}/exec --pidfile {folder}/pid -H {address}"
    with (folder / "dockerd.log").open("wb") as log:
        engine = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", f"ip link set lo up && exec dockerd {options}"],
            env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_for(engine, address, folder / "dockerd.log")
        yield address
    finally:
        engine.terminate()
        engine.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def make_images(address: str | None, *names: str) -> None:
    """The same few programs under each name."""
    for name in names:
        _docker(address, "import", "-c", "ENV PATH=/bin", "-c", 'CMD ["stay"]', "-", name, given=_root())


def visible_devices(address: str, container: str) -> str | None:
    """What NVIDIA's hook is told of a running container, or None."""
    environment = _docker(address, "exec", container, "cat", "/proc/1/environ").split("\0")
    told = [line.partition("=")[2] for line in environment if line.startswith("NVIDIA_VISIBLE_DEVICES=")]
    assert len(told) < 2, told
    return told[0] if told else None


def _wait_for(engine: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and engine.poll() is None:
        if subprocess.run(["docker", "-H", address, "info"], capture_output=True).returncode == 0:
            return
        time.sleep(0.2)
    raise AssertionError(f"the engine did not start:\n{log.read_text()[-3000:]}")


def _root() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        contents = {"busybox": BUSYBOX.read_bytes(), **{n: text.encode() for n, text in _PROGRAMS.items()}}
        for name, data in contents.items():
            member = tarfile.TarInfo(f"bin/{name}")
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def _docker(address: str | None, *arguments: str, given: bytes | None = None) -> str:
    command = ["docker", *(["-H", address] if address else []), *arguments]
    return subprocess.run(command, input=given, check=True, capture_output=True).stdout.decode()
