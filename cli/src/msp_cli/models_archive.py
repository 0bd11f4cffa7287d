"""`msp models import` and `export`: models that do not come from a hub, and models that travel."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import BaseModel
from rich.console import Console
from rich.filesize import decimal

from msp_cli import archive_receiving, archive_sending, archive_source
from msp_cli.archive_parts import JoinedParts
from msp_cli.archive_receiving import BadArchive, Incoming
from msp_cli.archive_source import Unsuitable
from msp_cli.authorities import authorities_for
from msp_cli.byte_board import ByteBoard
from msp_cli.exit_codes import ExitCode
from msp_cli.job_batch import Task, code_of
from msp_cli.models_session import (
    DEFAULT_URL,
    JsonOption,
    ModelArgument,
    RegistryOption,
    TokenOption,
    WaitOption,
    ask,
    end,
    run_one,
    show_json,
    tell,
)
from msp_cli.registry_api import ServiceAnsweredBadly
from msp_cli.registry_archives import ArchiveApi
from msp_common.contracts.jobs import ImportRequest
from msp_common.contracts.models import Manifest, ModelInfo


class Exported(BaseModel):
    """What an export made, as `--json` tells it."""

    id: str
    commit: str
    place: str
    files: int
    total_bytes: int


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("import")(import_model)
    app.command()(export)


def import_model(
    model: ModelArgument,
    source: Annotated[
        str,
        typer.Argument(
            help="Folder or tar as the registry sees it, below its REGISTRY_IMPORT_ROOTS, or "
            "s3://bucket/prefix; "
            "with --upload a folder or tar of this machine.",
            show_default=False,
        ),
    ],
    revision: Annotated[str, typer.Option(help="The name to import it under.")] = "main",
    upload: Annotated[
        bool, typer.Option("--upload", help="Send it from this machine, which the registry cannot look into.")
    ] = False,
    rest_from_store: Annotated[
        bool,
        typer.Option(
            "--rest-from-store",
            help="With --upload: files that the export's manifest lists and that are not there are taken "
            "from models in the store, by their hash.",
        ),
    ] = False,
    wait: WaitOption = True,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take a folder, a tar or an S3 prefix into the store.

    An exported model keeps its commit; anything else gets one that follows from its content.
    """
    if rest_from_store and not upload:
        end("--rest-from-store goes with --upload", ExitCode.USAGE)
    if upload:
        with interruptible("the upload"):
            sent = _send(registry, token, model, Path(source), revision, rest_from_store=rest_from_store)
        if as_json:
            show_json(sent)
        else:
            tell(f"imported {sent.id} at {sent.commit} ({sent.revision})")
        return
    # A relative path is meant from here, where it exists; else it is left to the registry to find.
    shown = source if "://" in source or not Path(source).exists() else str(Path(source).resolve())
    request = ImportRequest(source=shown, revision=revision)
    task = Task(model, revision, lambda api: api.import_source(model, request))
    run_one(registry, token, task, wait=wait, as_json=as_json)


def export(
    model: ModelArgument,
    dest: Annotated[
        Path,
        typer.Argument(help="What to make: NAME.tar, else a folder. It must not exist.", show_default=False),
    ],
    revision: Annotated[
        str | None, typer.Option(help="Branch, channel or commit; without it, what main names.")
    ] = None,
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Bring a model out of the store, with its manifest, as a tar or a folder of this machine.

    Every byte is compared with the manifest. Only a whole and right one gets the name DEST.
    """
    part = dest.with_name(f"{dest.name}.part")
    for place in (dest, part):
        if place.exists() or place.is_symlink():
            end(f"{place} exists already; delete it, or give another name", ExitCode.USAGE)
    if not dest.parent.is_dir():
        end(f"there is no folder {dest.parent}", ExitCode.USAGE)
    found = ask(registry, token, lambda api: api.info(model, revision))
    free = shutil.disk_usage(dest.parent).free
    if found.manifest.total_bytes > free:
        needed = decimal(found.manifest.total_bytes)
        end(f"{found.id} needs {needed}, and {dest.parent} has {decimal(free)} free", ExitCode.REFUSED)
    with interruptible("the export"):
        try:
            manifest = _receive(registry, token, found, part, as_tar=dest.suffix == ".tar")
            part.rename(dest)
        finally:
            _remove(part)
    if as_json:
        show_json(
            Exported(
                id=found.id,
                commit=manifest.commit,
                place=str(dest),
                files=len(manifest.files),
                total_bytes=manifest.total_bytes,
            )
        )
    else:
        size = decimal(manifest.total_bytes)
        tell(f"exported {found.id} at {manifest.commit} to {dest}: {len(manifest.files)} files, {size}")


def _send(
    registry: str, token: str, model: str, place: Path, revision: str, *, rest_from_store: bool
) -> ModelInfo:
    with (
        archive_source.opened(place) as opened,
        ByteBoard(Console(stderr=True)) as board,
        _client(registry) as client,
    ):
        source = JoinedParts(opened)
        files = source.files()
        api = ArchiveApi(client, registry, token or None)
        api.ask(model, revision)
        total = sum(file.size_bytes for file in files)
        manifest = archive_sending.carried_manifest(source, model, revision, rest_from_store=rest_from_store)
        if manifest is None:
            hashed = board.stage("hashing", total)
            manifest = archive_sending.hashed_manifest(source, model, revision, hashed)
        stream = archive_sending.tar_stream(manifest, source, files, board.stage("sending", total))
        length = archive_sending.tar_length(manifest, files)
        return api.send(model, revision, stream, length, rest_from_store=rest_from_store)


def _receive(registry: str, token: str, found: ModelInfo, part: Path, *, as_tar: bool) -> Manifest:
    with ByteBoard(Console(stderr=True)) as board, _client(registry) as client:
        api = ArchiveApi(client, registry, token or None)
        received = board.stage("receiving", found.manifest.total_bytes)
        # The commit, not the revision: a ref that moves meanwhile does not change what is exported.
        with api.receiving(found.id, found.commit) as chunks:
            if not as_tar:
                part.mkdir()
                return archive_receiving.receive(Incoming(chunks), found.commit, part, received)
            with part.open("xb") as copy:
                stream = Incoming(chunks, copy)
                manifest = archive_receiving.receive(stream, found.commit, None, received)
                stream.drain()
                copy.flush()
                os.fsync(copy.fileno())
            return manifest


def _client(url: str) -> httpx.Client:
    return httpx.Client(verify=authorities_for(url), trust_env=False)


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part)
    else:
        part.unlink(missing_ok=True)


@contextmanager
def interruptible(what: str) -> Iterator[None]:
    """Turn what can go wrong on the way into a message and an exit code."""
    try:
        yield
    except Unsuitable as error:
        end(str(error), ExitCode.USAGE)
    except BadArchive as error:
        end(f"{error}; nothing was kept", ExitCode.CORRUPT)
    except ServiceAnsweredBadly as error:
        end(str(error), code_of(error))
    except OSError as error:
        end(f"{what} broke off: {error}; nothing was kept", ExitCode.UNEXPECTED)
    except KeyboardInterrupt:
        end(f"{what} was stopped; nothing was kept", ExitCode.INTERRUPTED)
