"""`python -m msp_common.healthcheck [URL]`: exit code 0 if the URL answers 200. Images need no curl.

Certificates are not checked: a program asks itself here, by an address that no certificate names.
"""

import os
import ssl
import sys
import urllib.error
import urllib.request


def main() -> int:
    """Ask the URL given as argument, else `HEALTHCHECK_URL`, else port 8000's `/health`."""
    url = (
        sys.argv[1]
        if len(sys.argv) > 1
        else os.environ.get("HEALTHCHECK_URL", "http://127.0.0.1:8000/health")
    )
    if not url.startswith(("http://", "https://")):
        sys.stderr.write(f"healthcheck: {url!r} is no http(s) URL\n")
        return 2
    unchecked = ssl._create_unverified_context() if url.startswith("https") else None  # noqa: S323
    try:
        with urllib.request.urlopen(url, timeout=5, context=unchecked) as answer:  # noqa: S310
            return 0 if answer.status == 200 else 1
    except (urllib.error.URLError, OSError) as error:
        sys.stderr.write(f"healthcheck: {url}: {error}\n")
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
