"""Runs one command and ends it when standard input closes: `guardian.py GRACE_S COMMAND ARGUMENT...`

A worker that is killed cannot stop its server, which would keep the GPU's memory from the next worker. This
program can: it holds the other end of a pipe that closes with the worker, however that ends. The server has a
process group of its own, so that its helpers end with it. Only the standard library is imported: it is run by
its path, in isolated mode, whatever the server's environment says of Python.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading

CANNOT_START = 127
"""Exit code when the program does not exist or may not be run, as shells have it."""


def exit_code(returncode: int) -> int:
    """As shells have it: 128 + the signal's number for what a signal ended."""
    return returncode if returncode >= 0 else 128 - returncode


def main(grace_s: float, command: list[str]) -> int:
    """Run `command` to its end; the exit code is its own."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler, and not SIG_IGN, which the server would inherit: it could then only be killed.
        signal.signal(number, lambda number, frame: None)
    try:
        server = subprocess.Popen(  # noqa: S603 - the operator's own command line
            command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        return CANNOT_START
    threading.Thread(target=_stop_when_alone, args=(server, grace_s), daemon=True).start()
    code = exit_code(server.wait())
    _kill_group(server)
    return code


def _stop_when_alone(server: "subprocess.Popen[bytes]", grace_s: float) -> None:
    os.read(sys.stdin.fileno(), 1)
    server.terminate()
    try:
        server.wait(grace_s)
    except subprocess.TimeoutExpired:
        _kill_group(server)


def _kill_group(server: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(server.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
