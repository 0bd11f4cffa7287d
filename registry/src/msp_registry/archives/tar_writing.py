"""The blocks of a tar that is the same for the same files: no times, no owners, one mode. Pure."""

import tarfile

from msp_registry.archives.tar_headers import padded

END = bytes(2 * tarfile.BLOCKSIZE)
"""What a tar ends with."""


def member_header(path: str, size_bytes: int) -> bytes:
    """The header blocks of one file; pax's where the name or the size is long."""
    info = tarfile.TarInfo(path)
    info.size = size_bytes
    info.mode = 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def padding(size_bytes: int) -> bytes:
    """What comes after a file's bytes."""
    return bytes(padded(size_bytes) - size_bytes)


def tar_bytes(files: list[tuple[str, int]]) -> int:
    """The length of a tar of these files, given as (path, size)."""
    return len(END) + sum(len(member_header(path, size)) + padded(size) for path, size in files)
