"""Found by every Python that has this folder in PYTHONPATH: only the registry can be reached.

Attempts to reach anything else fail as in an air gap, and are written to AIRGAP_LOG.
"""

import os
import sys
from typing import Any
from urllib.parse import urlsplit

_ALLOWED = urlsplit(os.environ["HF_ENDPOINT"]).hostname, urlsplit(os.environ["HF_ENDPOINT"]).port


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.getaddrinfo":
        place = arguments[:2]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        place = arguments[1][:2]
    else:
        return
    if (place[0], int(place[1] or 0)) != _ALLOWED:
        with open(os.environ["AIRGAP_LOG"], "a") as log:
            log.write(f"{place[0]}:{place[1]}\n")
        raise OSError(f"the air gap refuses {place[0]}:{place[1]}")


sys.addaudithook(_watch)
