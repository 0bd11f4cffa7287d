"""An image with a shell and little else, for a second engine that has nothing."""

import io
import subprocess
import tarfile

from support.mini_platform import BUSYBOX
from support.second_engine import SecondEngine

_APPLETS = (
    "sh", "echo", "head", "httpd", "nc", "nslookup", "ping", "printf", "sleep", "tail", "tftp", "timeout",
    "tr", "wget",
)  # fmt: skip
PAGE = b"inner"
"""What `httpd -h /www` tells."""


def import_busybox(engine: SecondEngine, ref: str) -> None:
    """Makes the image there."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        page = tarfile.TarInfo("www/index.html")
        page.size = len(PAGE)
        tar.addfile(page, io.BytesIO(PAGE))
    command = ["docker", "import", "-c", "ENV PATH=/bin", "-", ref]
    done = subprocess.run(command, input=buffer.getvalue(), env=engine.environment(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
