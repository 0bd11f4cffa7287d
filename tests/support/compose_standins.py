"""Stand-ins for the images of Chat UI and Mongo, under their very names, where those cannot be pulled.

They show that the compose file starts them, what it tells them and whom they reach, and nothing about the
real ones.
"""

import io
import json
import subprocess
import tarfile

from support.compose_stack import REPOSITORY
from support.mini_platform import BUSYBOX

CHAT_UI = "ghcr.io/huggingface/chat-ui:0.8.4"
MONGO = "mongo:7.0.28"
_APPLETS = ("sh", "sed", "echo", "httpd", "wget", "sleep", "cat")
_LABEL = "msp.stand-in"

_ENTRYPOINT = """#!/bin/sh
# Like the real one it reads its settings from a mounted file whenever it starts.
echo ok >/www/healthcheck
sed -n 's/^MODELS=//p' /app/.env.local >/www/settings
exec httpd -f -p 3000 -h /www
"""
_NODE = "#!/bin/sh\nexec wget -q -O /dev/null http://127.0.0.1:3000/healthcheck\n"
_PROGRAMS = {
    CHAT_UI: {"app/entrypoint.sh": _ENTRYPOINT, "bin/node": _NODE},
    MONGO: {"bin/mongod": "#!/bin/sh\nexec sleep 1000000\n", "bin/mongosh": "#!/bin/sh\n"},
}


def make_stand_ins() -> list[str]:
    """Makes those whose place no real image has; gives their names."""
    made = [ref for ref in _PROGRAMS if _is_free(ref)]
    for ref in made:
        command = ["-c", "ENV PATH=/bin", "-c", f"LABEL {_LABEL}=yes", "-c", 'CMD ["/app/entrypoint.sh"]']
        _docker("import", *command, "-", ref, given=_root(_PROGRAMS[ref]))
    return made


def remove_stand_ins(names: list[str]) -> None:
    """No later test must take them for the real ones."""
    for name in names:
        _docker("rmi", "-f", name)


def named_in_the_compose_file() -> set[str]:
    """Those of the stand-ins that are the file's own defaults."""
    text = (REPOSITORY / "docker-compose.chatui.yml").read_text()
    return {ref for ref in _PROGRAMS if f":-{ref}}}" in text}


def _is_free(ref: str) -> bool:
    done = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{json .Config.Labels}}", ref],
        capture_output=True,
        text=True,
    )
    return done.returncode != 0 or _LABEL in (json.loads(done.stdout) or {})


def _root(programs: dict[str, str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        contents = {"bin/busybox": BUSYBOX.read_bytes(), **{p: t.encode() for p, t in programs.items()}}
        for path, data in contents.items():
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        for folder in ("www", "tmp"):
            writable = tarfile.TarInfo(folder)
            writable.type, writable.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(writable)
    return buffer.getvalue()


def _docker(*arguments: str, given: bytes | None = None) -> None:
    subprocess.run(["docker", *arguments], input=given, check=True, capture_output=True)
