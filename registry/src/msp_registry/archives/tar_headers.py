"""The headers of a tar, read strictly: regular files and folders only, no name that leads out. Pure.

The caller brings the blocks, from a stream or from a file by offset, so that neither needs the whole tar.
"""

import tarfile
from dataclasses import dataclass

from msp_registry.failures import BadArchive
from msp_registry.stores.store import BadKey, check_key

BLOCK_BYTES = 512

MAX_MEMBERS = 200_000
"""Headers of all kinds in one tar; a model has at most some thousand files."""

MAX_EXTENDED_BYTES = 1 << 20
"""A long name has at most 1024 bytes; some tools add attributes of files beside it."""

_ZEROS = bytes(BLOCK_BYTES)
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.GNUTYPE_LONGLINK: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}
_UTF8_PAX = b"ISO-IR 10646 2000 UTF-8"


@dataclass(frozen=True)
class Member:
    """A file or folder; its bytes follow, padded to whole blocks."""

    path: str
    """Relative, without a leading `./`; empty for the tar's own root."""
    size_bytes: int
    is_folder: bool


@dataclass(frozen=True)
class Extended:
    """A header whose data, so many bytes, belongs to the headers after it; see `TarHeaders.extend`."""

    kind: bytes
    size_bytes: int


class TarHeaders:
    """Reads one tar's headers in their order. All errors are BadArchive."""

    def __init__(self, *, max_members: int = MAX_MEMBERS) -> None:
        self._max_members = max_members
        self._headers = 0
        self._path: str | None = None
        self._size: int | None = None

    def read(self, block: bytes) -> Member | Extended | None:
        """What a header block says; None for the zeros that end a tar."""
        if block == _ZEROS:
            if self._path is not None or self._size is not None:
                raise BadArchive("the tar ends after a header for a member that does not come")
            return None
        self._headers += 1
        if self._headers > self._max_members:
            raise BadArchive(f"the tar has more than {self._max_members} members")
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        except (tarfile.HeaderError, ValueError) as error:
            raise BadArchive(
                f"header {self._headers} of the tar is damaged: {error}; pack or copy the tar again"
            ) from None
        if info.type in _EXTENDED:
            if not 0 <= info.size <= MAX_EXTENDED_BYTES:
                raise BadArchive(
                    f"a header of the tar announces {info.size} bytes of its own; at most "
                    f"{MAX_EXTENDED_BYTES} are read"
                )
            return Extended(info.type, info.size)
        return self._member(info)

    def extend(self, header: Extended, data: bytes) -> None:
        """Take the data of an extended header, without its padding."""
        if header.kind == tarfile.GNUTYPE_LONGNAME:
            self._path = _text(data.rstrip(b"\0"))
            return
        of_all = header.kind == tarfile.XGLTYPE
        for keyword, value in _pax_records(data):
            if keyword.startswith(b"GNU.sparse"):
                raise BadArchive("the tar holds a sparse file; pack it with plain files (tar without -S)")
            if keyword == b"hdrcharset" and value != _UTF8_PAX:
                raise BadArchive("the tar's names are not UTF-8; pack it with `tar --format=pax`")
            if of_all and keyword in (b"path", b"size"):
                raise BadArchive(f"the tar gives one {keyword.decode()} to all its members")
            if keyword == b"path":
                self._path = _text(value)
            elif keyword == b"size":
                if not value.isdigit() or len(value) > 19:
                    raise BadArchive(f"the tar announces a member of {value[:40]!r} bytes")
                self._size = int(value)

    def _member(self, info: tarfile.TarInfo) -> Member:
        path = info.name if self._path is None else self._path
        size = info.size if self._size is None else self._size
        self._path = self._size = None
        if info.type in _REFUSED:
            raise BadArchive(
                f"{path[:200]!r} is {_REFUSED[info.type]} in the tar; only files and folders are taken "
                "(tar --dereference packs what links lead to)"
            )
        if info.type not in (*_FILES, tarfile.DIRTYPE):
            raise BadArchive(f"{path[:200]!r} is of the unknown kind {info.type!r} in the tar")
        is_folder = info.type == tarfile.DIRTYPE
        if size < 0 or (is_folder and size):
            raise BadArchive(f"{path[:200]!r} is announced with {size} bytes in the tar")
        return Member(_checked(path, is_folder=is_folder), size, is_folder)


def padded(size_bytes: int) -> int:
    """The size in whole blocks."""
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def _checked(path: str, *, is_folder: bool) -> str:
    plain = path
    while plain.startswith("./"):
        plain = plain[2:]
    if is_folder:
        plain = plain.rstrip("/") if not plain.startswith("/") else plain
        if plain in ("", "."):
            return ""
    try:
        return check_key(plain)
    except BadKey as error:
        raise BadArchive(str(error).replace("is no key", "is no path that may stand in a tar")) from None


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise BadArchive(f"the name {name[:200]!r} in the tar is not UTF-8") from None


def _pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Records `length keyword=value\\n`, where the length counts the whole record."""
    found = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 8)
        digits = data[at:space] if space > at else b""
        end = at + int(digits) if digits.isdigit() else 0
        equals = data.find(b"=", space + 1, end)
        if not space < equals < end <= len(data) or data[end - 1] != ord("\n"):
            raise BadArchive("an extended header of the tar is damaged; pack or copy the tar again")
        found.append((data[space + 1 : equals], data[equals + 1 : end - 1]))
        at = end
    return found
