"""The parts that import, over a store in memory, and tars that no tool would make."""

import io
import tarfile
from collections.abc import AsyncGenerator, Iterable, Sequence
from pathlib import Path
from typing import Literal

from msp_common.contracts.jobs import ImportRequest
from msp_common.contracts.models import Manifest
from msp_registry.archives.archives import Archives
from msp_registry.catalogue import Catalogue
from msp_registry.imports.importing import Importer
from msp_registry.imports.intake import Intake
from msp_registry.imports.places import ImportPlaces
from msp_registry.imports.s3_prefix import OtherS3
from msp_registry.transfers.transfer import Transfer
from msp_registry.upkeep.quarantine import Quarantine
from support.registry_memory_store import MemoryStore
from support.registry_progress import ToldProgress

TarForm = Literal[0, 1, 2]
"""ustar, GNU, pax: tarfile's own numbers."""


class Importing:
    """An importer and archives over one store."""

    def __init__(
        self,
        roots: Sequence[Path] = (),
        *,
        s3: OtherS3 | None = None,
        quota_bytes: int | None = None,
        store: MemoryStore | None = None,
        part_bytes: int = 4096,
    ) -> None:
        self.store = store or MemoryStore()
        self.catalogue = Catalogue(self.store)
        self.quarantine = Quarantine(self.store)
        transfer = Transfer(self.store, part_bytes_of=lambda _: part_bytes)
        intake = Intake(self.store, self.catalogue, transfer, self.quarantine, quota_bytes=quota_bytes)
        self.importer = Importer(ImportPlaces(roots, s3), intake)
        self.archives = Archives(self.store, self.quarantine, intake)

    async def take(self, source: Path | str, revision: str = "main", repo_id: str = "org/tiny") -> str:
        """Import and give the commit."""
        progress = ToldProgress()
        request = ImportRequest(source=str(source), revision=revision)
        await self.importer.take(repo_id, request, progress)
        assert progress.commit is not None
        assert progress.bytes_done == sum(progress.expected.values())
        return progress.commit

    async def take_tar(
        self, data: bytes, revision: str = "main", repo_id: str = "org/tiny", step: int = 700
    ) -> Manifest:
        """Import a tar stream that comes in pieces of `step` bytes."""
        return await self.archives.take(repo_id, revision, pieces(data, step))

    async def export(self, repo_id: str = "org/tiny") -> bytes:
        """The tar of a model."""
        length, stream = await self.archives.export(await self.catalogue.find(repo_id))
        data = b"".join([chunk async for chunk in stream])
        assert len(data) == length
        return data


async def pieces(data: bytes, step: int) -> AsyncGenerator[bytes, None]:
    """The data in pieces, as a network brings it."""
    for start in range(0, len(data), step):
        yield data[start : start + step]


def member(path: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    """A member of `raw_tar`; fields are TarInfo's, such as `type` and `linkname`."""
    info = tarfile.TarInfo(path)
    info.size = len(data)
    for name, value in fields.items():
        setattr(info, name, value)
    return info, data


def raw_tar(members: Iterable[tuple[tarfile.TarInfo, bytes]], *, form: TarForm = tarfile.PAX_FORMAT) -> bytes:
    """A tar of members as they are, whatever their headers claim."""
    out = io.BytesIO()
    for info, data in members:
        out.write(info.tobuf(form, "utf-8", "surrogateescape"))
        out.write(data + bytes(-len(data) % 512))
    return out.getvalue() + bytes(1024)


def tar_of(files: dict[str, bytes], *, form: TarForm = tarfile.PAX_FORMAT) -> bytes:
    """A tar of files."""
    return raw_tar([member(path, data) for path, data in files.items()], form=form)


def files_below(folder: Path) -> dict[str, bytes | str]:
    """Everything below a folder, links by where they lead; to be compared with later."""
    found: dict[str, bytes | str] = {}
    for place in sorted(folder.rglob("*")):
        name = str(place.relative_to(folder))
        if place.is_symlink():
            found[name] = str(place.readlink())
        elif place.is_file():
            found[name] = place.read_bytes()
        else:
            found[name] = "folder"
    return found
