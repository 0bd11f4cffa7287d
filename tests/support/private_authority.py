"""A private certificate authority and a server's certificate by it, made with the `openssl` program."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Authority:
    """PEM files."""

    ca: Path
    certificate: Path
    key: Path


def make_authority(folder: Path, host: str, *, by_the_book: bool = False) -> Authority:
    """An authority, and a certificate for one host name or IPv4 address.

    As many private ones, it leaves out what RFC 5280 asks for and few clients check. A client that is strict
    by default, as Python's from 3.13 on, wants one `by_the_book`.
    """
    found = Authority(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    ca_key, request, extensions = folder / "ca.key", folder / "server.csr", folder / "extensions.cnf"
    kind = "IP" if host.replace(".", "").isdigit() else "DNS"
    identifier = "authorityKeyIdentifier=keyid\n" if by_the_book else ""
    extensions.write_text(f"subjectAltName={kind}:{host}\n{identifier}")
    usage = ["-addext", "keyUsage=critical,keyCertSign"] if by_the_book else []
    subject = ["-subj", "/CN=Private CA", "-days", "2", *usage]
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    _openssl("req", "-x509", *new_key, "-keyout", ca_key, "-out", found.ca, *subject)
    _openssl("req", *new_key, "-keyout", found.key, "-out", request, "-subj", f"/CN={host}")
    signer: list[str | Path] = ["-CA", found.ca, "-CAkey", ca_key, "-CAcreateserial", "-extfile", extensions]
    _openssl("x509", "-req", "-in", request, "-out", found.certificate, "-days", "2", *signer)
    return found


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
