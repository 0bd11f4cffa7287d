"""A second Docker engine that has nothing: own data, own network namespace, and a network that leads nowhere.

In the namespace is an interface with an address and the default route. What is sent to any address leaves
through it and arrives nowhere: nothing answers, and nothing is refused, so a listener on that interface sees
every attempt. Ports that the engine's containers publish are in the namespace too: run clients with
`run_inside`, open sockets with `connect`, or use `forwarded_port`.

Docker knows two image stores. Engines before 24 (Debian 12 brings 20.10) have only the classic one; asking
them for the other raises `ImageStoreUnsupported`.
"""

import ctypes
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from support.tcp_forwarder import forwarder

ADDRESS = "198.51.100.1"
"""The engine's own address (from a range that is kept for documentation), and its name server unless told."""
OUTSIDE = "out0"
"""The interface with the default route."""
_FAR_END = "out1"
_CLONE_NEWNET = 0x40000000
_FIRST_WITH_CONTAINERD_STORE = 24
_START_S = 60.0

ImageStore = Literal["classic", "containerd"]
T = TypeVar("T")


class EngineFailed(RuntimeError):
    """The engine did not start; carries the end of its log."""


class ImageStoreUnsupported(RuntimeError):
    """This version of Docker has no such image store."""


@dataclass(frozen=True)
class SecondEngine:
    """One running engine."""

    host: str
    """For DOCKER_HOST; can be used from any network namespace."""
    netns: str
    """As `ip netns` knows it."""
    data_root: Path
    dns: str
    """The name server of all containers."""
    log: Path

    def environment(self) -> dict[str, str]:
        """This process's environment, with Docker's settings of this engine."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DOCKER_") or k == "DOCKER_CONFIG"}
        return {**kept, "DOCKER_HOST": self.host}

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` in the namespace; needs root."""
        # By its whole path: the command may run with another PATH.
        return [shutil.which("nsenter") or "nsenter", f"--net=/run/netns/{self.netns}", "--", *command]

    def run_inside(
        self, command: Sequence[str], *, check: bool = True, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program of this machine in the namespace. Raises AssertionError with its output."""
        done = subprocess.run(
            self.inside(command), env=self.environment(), capture_output=True, text=True, timeout=timeout_s
        )
        assert not check or done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
        return done

    def docker(self, *arguments: str, check: bool = True, timeout_s: float = 120) -> str:
        """Standard output of `docker ARGUMENTS`. Raises AssertionError with what it printed."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert not check or done.returncode == 0, f"docker {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def call_inside(self, function: Callable[[], T]) -> T:
        """What `function` gives in a thread that is in the namespace. Sockets that it makes stay there."""
        return _in_namespace(self.netns, function)

    def connect(self, port: int, address: str = "127.0.0.1") -> socket.socket:
        """A connection to a port as the engine's own host sees it."""
        return self.call_inside(lambda: socket.create_connection((address, port), 30))

    @contextmanager
    def forwarded_port(self, port: int) -> Iterator[int]:
        """A port on this machine's loopback that leads to one in the namespace."""
        with forwarder(lambda: self.connect(port)) as here:
            yield here


@contextmanager
def second_engine(
    place: Path,
    name: str,
    *,
    dns: str = ADDRESS,
    image_store: ImageStore = "classic",
    path_first: Path | None = None,
) -> Iterator[SecondEngine]:
    """An engine that ends with the block, with all its containers, images and volumes.

    `place` is an existing folder for its data; `name` is at most 12 letters and digits, unique on this
    machine. The engine finds programs in `path_first`, `runc` among them, before those of the PATH. Needs
    root, and `dockerd` on the PATH. Raises EngineFailed, ImageStoreUnsupported.
    """
    if image_store == "containerd":
        _need_containerd_store()
    # Sockets have short paths, pytest's folders do not.
    run = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/run"))
    engine = SecondEngine(
        f"unix://{run}/docker.sock", name, place / "docker-data", dns, place / "dockerd.log"
    )
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, run, ignore_errors=True)
        undo.callback(shutil.rmtree, engine.data_root, ignore_errors=True)
        undo.enter_context(_namespace(name))
        undo.enter_context(_daemon(engine, run, image_store, path_first))
        yield engine


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    _ip("netns", "add", name)
    try:
        for command in (
            f"link set lo up|link add {OUTSIDE} type veth peer name {_FAR_END}|link set {OUTSIDE} arp off"
            f"|addr add {ADDRESS}/24 dev {OUTSIDE}|link set {OUTSIDE} up|link set {_FAR_END} up"
            f"|route add default dev {OUTSIDE}"
        ).split("|"):
            _ip("-n", name, *command.split())
        # Not every kernel has IPv6.
        with suppress(subprocess.CalledProcessError):
            _ip("-n", name, "-6", "addr", "add", "2001:db8::1/64", "dev", OUTSIDE, "nodad")
            _ip("-n", name, "-6", "route", "add", "default", "dev", OUTSIDE)
        yield
    finally:
        _ip("netns", "del", name)


@contextmanager
def _daemon(
    engine: SecondEngine, run: Path, image_store: ImageStore, path_first: Path | None
) -> Iterator[None]:
    settings = run / "daemon.json"
    features = {"containerd-snapshotter": True} if image_store == "containerd" else {}
    settings.write_text(json.dumps({"features": features, "dns": [engine.dns]}))
    # In namespaces of processes and mounts of its own: with its first process everything of it ends,
    # containers included, and no mount is left. A containerd of this machine must not be found: its folder is
    # covered.
    starting = 'mkdir -p /run/containerd && mount -t tmpfs none /run/containerd && exec dockerd "$@"'
    command = ["nsenter", f"--net=/run/netns/{engine.netns}", "--"]
    command += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command += ["sh", "-c", starting, "dockerd", "--config-file", str(settings), "--host", engine.host]
    command += ["--data-root", str(engine.data_root), "--exec-root", str(run / "exec")]
    command += ["--pidfile", str(run / "docker.pid")]
    with engine.log.open("wb") as log:
        path = os.pathsep.join([*([str(path_first)] if path_first else []), os.environ["PATH"]])
        process = subprocess.Popen(
            command, env={**os.environ, "PATH": path}, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _wait_until_it_answers(engine, process)
        yield
    finally:
        _stop(engine, process)


def _wait_until_it_answers(engine: SecondEngine, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        # There is no event to wait for: the socket is there before the engine answers on it.
        done = subprocess.run(["docker", "info"], env=engine.environment(), capture_output=True)
        if done.returncode == 0:
            return
        time.sleep(0.2)
    tail = "\n".join(engine.log.read_text(errors="replace").splitlines()[-15:])
    raise EngineFailed(f"no second Docker engine within {_START_S:.0f} s; the end of {engine.log}:\n{tail}")


def _stop(engine: SecondEngine, process: subprocess.Popen[bytes]) -> None:
    # Containers first, where the engine still answers: so their cgroups go too.
    with suppress(subprocess.TimeoutExpired, AssertionError):
        containers = engine.docker("ps", "-aq", check=False).split()
        if containers:
            engine.docker("rm", "-f", *containers, check=False)
    process.kill()
    process.wait()
    _wait_for_the_end(engine)


def _wait_for_the_end(engine: SecondEngine) -> None:
    """Until the last process in the namespace is gone: then its files can be removed."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not _ip("netns", "pids", engine.netns).strip():
            return
        time.sleep(0.1)


def _need_containerd_store() -> None:
    version = subprocess.run(["dockerd", "--version"], capture_output=True, text=True, check=True).stdout
    number = version.partition("version ")[2].partition(",")[0]
    if int(number.partition(".")[0]) < _FIRST_WITH_CONTAINERD_STORE:
        raise ImageStoreUnsupported(f"Docker {number} has no containerd image store; 24 was the first")


def _in_namespace(name: str, function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def enter_and_call() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            with open(f"/run/netns/{name}") as file:
                if libc.setns(file.fileno(), _CLONE_NEWNET) != 0:
                    number = ctypes.get_errno()
                    raise OSError(number, f"network namespace {name}: {os.strerror(number)}")
            results.append(function())
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    # The namespace is a thread's own property, so the thread is not used for anything else.
    thread = threading.Thread(target=enter_and_call)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
