"""`msp bundle`: the commands."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.filesize import decimal

from msp_cli import models_file
from msp_cli.authorities import authorities_for
from msp_cli.bundle import bom, hub_sizes, partial_export, smoke_test
from msp_cli.byte_board import ByteBoard
from msp_cli.exit_codes import ExitCode
from msp_cli.models_archive import interruptible
from msp_cli.models_file import ModelsFileError
from msp_cli.models_session import DEFAULT_URL, ModelArgument, RegistryOption, TokenOption, ask, end, tell
from msp_cli.registry_api import RegistryApi
from msp_cli.registry_archives import ArchiveApi
from msp_common.contracts.models import ModelInfo

app = typer.Typer(
    name="bundle",
    help="What offline-setup.sh and offline-import.sh ask; made for scripts.",
    short_help="Steps of the scripts that carry everything across an air gap.",
    no_args_is_help=True,
)

FileArgument = Annotated[
    Path, typer.Option("--file", "-f", help="The file that declares the models.", show_default=False)
]


def register(msp: typer.Typer) -> None:
    """Add the group of commands."""
    msp.add_typer(app)


@app.command()
def has(
    model: ModelArgument,
    commit: str,
    at_least: Annotated[
        int, typer.Option("--bytes", help="How many bytes of this commit the bundle has.", show_default=False)
    ] = 0,
    registry: RegistryOption = DEFAULT_URL,
) -> None:
    """End with 0 if the registry holds this commit and every file of it is good.

    A commit may have been mirrored with fewer of its files; then it has fewer bytes.
    """
    found = ask(registry, "", lambda api: api.info(model, commit))
    if found.manifest.total_bytes < at_least:
        end(f"{found.id} has {found.manifest.total_bytes} bytes and not {at_least}", ExitCode.REFUSED)
    if found.quarantined:
        end(f"{found.id} has bad files: {', '.join(sorted(found.quarantined))}", ExitCode.CORRUPT)


@app.command()
def models(file: FileArgument, registry: RegistryOption = DEFAULT_URL) -> None:
    """Tell what the registry holds of the declared models: id, revision, commit, bytes, licence.

    One line for each, with tabs between.
    """
    for model, found in _held(file, registry):
        manifest = found.manifest
        licence = manifest.licence.name or manifest.licence.id or "not known"
        fields = (found.id, model.revision, found.commit, str(manifest.total_bytes), licence)
        typer.echo("\t".join(" ".join(field.split()) for field in fields))


@app.command()
def files(file: FileArgument, registry: RegistryOption = DEFAULT_URL) -> None:
    """Tell of each file of the declared models: sha256, bytes, id, commit, path.

    One line for each, with tabs between.
    """
    for _, found in _held(file, registry):
        for one in found.manifest.files:
            fields = (one.sha256, str(one.size_bytes), found.id, found.commit, one.path)
            typer.echo("\t".join(fields))


@app.command()
def export(
    model: ModelArgument,
    dest: Annotated[Path, typer.Argument(help="The folder to make.", show_default=False)],
    commit: Annotated[str, typer.Option("--commit", help="Which commit.", show_default=False)],
    leave_out: Annotated[
        Path, typer.Option(help="A list of sha256, one on a line: such files are not written.")
    ],
    registry: RegistryOption = DEFAULT_URL,
    token: TokenOption = "",
) -> None:
    """Bring those files of a model out of the store that an earlier bundle does not have.

    `msp models import --upload --rest-from-store` on the other side takes the rest from its store.
    """
    found = ask(registry, token, lambda api: api.info(model, commit))
    with interruptible("the export"):
        wanted = partial_export.files_to_carry(
            found.manifest, partial_export.hashes_in(leave_out.read_text())
        )
        total = sum(one.size_bytes for one in wanted)
        verify = authorities_for(registry)
        with ByteBoard(Console(stderr=True)) as board, httpx.Client(verify=verify, trust_env=False) as client:
            dest.mkdir()
            api = ArchiveApi(client, registry, token or None)
            partial_export.export(api, found.manifest, wanted, dest, board.stage("receiving", total))
    tell(f"exported {len(wanted)} of {len(found.manifest.files)} files of {found.id}, {decimal(total)}")


@app.command()
def plan(
    file: FileArgument,
    endpoint: Annotated[
        str, typer.Option("--hub", envvar="HF_ENDPOINT", help="The hub that is asked.")
    ] = "https://huggingface.co",
) -> None:
    """Ask the hub how large the declared models are and whether they may be fetched.

    A line for each: id, revision, commit, bytes, with tabs between. HF_TOKEN, HTTPS_PROXY and EXTRA_CA_FILE
    are minded. Nothing is fetched.
    """
    authorities = os.environ.get("EXTRA_CA_FILE") or None
    with hub_sizes.hub_client(authorities) as client:
        hub = hub_sizes.Hub(client, endpoint, os.environ.get("HF_TOKEN") or None)
        refused = False
        for model in _declared(file):
            if model.source is not None:
                tell(f"{model.id} comes from {model.source}; its size is not known here")
                continue
            try:
                found = hub.size_of(model)
            except hub_sizes.NotToBeHad as error:
                tell(str(error))
                refused = True
                continue
            typer.echo(f"{model.id}\t{model.revision}\t{found.commit}\t{found.total_bytes}")
    if refused:
        raise typer.Exit(ExitCode.REFUSED)


@app.command("bom")
def write_bom(
    place: Annotated[Path, typer.Argument(help="The bundle; its `bom` folder is written.")],
    version: Annotated[str, typer.Option(help="The platform's version.")],
) -> None:
    """Write the bills of materials: one for each image that has a package list, one for the models."""
    for path in bom.write(place, version):
        tell(f"wrote {path}")


@app.command()
def smoke(
    gateway: Annotated[
        str, typer.Option("--gateway", envvar="GATEWAY_URL", help="Where the gateway is.")
    ] = "http://127.0.0.1:8080",
    key: Annotated[
        str, typer.Option("--key", envvar="MSP_API_KEY", help="An API key.", show_default=False)
    ] = "",
) -> None:
    """Ask one question of each type of model that is ready, and show the answers."""
    with httpx.Client(verify=authorities_for(gateway), trust_env=False, timeout=120) as client:
        try:
            for line in smoke_test.run(client, gateway.rstrip("/"), key or None):
                tell(line)
        except smoke_test.SmokeFailed as error:
            end(str(error), ExitCode.FAILED)


def _held(file: Path, registry: str) -> Iterable[tuple[models_file.DeclaredModel, ModelInfo]]:
    declared = _declared(file)

    async def look(api: RegistryApi) -> list[ModelInfo]:
        return [await api.info(model.id, model.revision) for model in declared]

    return zip(declared, ask(registry, "", look), strict=True)


def _declared(file: Path) -> list[models_file.DeclaredModel]:
    try:
        return models_file.load(file).models
    except ModelsFileError as error:
        end(str(error), ExitCode.USAGE)
