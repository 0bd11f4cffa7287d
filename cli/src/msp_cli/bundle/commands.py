"""`msp bundle`: the commands."""

import os
from pathlib import Path
from typing import Annotated

import httpx
import typer

from msp_cli import models_file
from msp_cli.bundle import bom, hub_sizes, smoke_test
from msp_cli.exit_codes import ExitCode
from msp_cli.models_file import ModelsFileError
from msp_cli.models_session import DEFAULT_URL, ModelArgument, RegistryOption, ask, end, tell
from msp_cli.registry_api import RegistryApi
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


@app.command()
def has(model: ModelArgument, commit: str, registry: RegistryOption = DEFAULT_URL) -> None:
    """End with 0 if the registry holds this commit and every file of it is good."""
    found = ask(registry, "", lambda api: api.info(model, commit))
    if found.quarantined:
        end(f"{found.id} has bad files: {', '.join(sorted(found.quarantined))}", ExitCode.CORRUPT)


@app.command()
def models(file: FileArgument, registry: RegistryOption = DEFAULT_URL) -> None:
    """Tell what the registry holds of the declared models: id, revision, commit, bytes, licence.

    One line for each, with tabs between.
    """
    declared = _declared(file)

    async def look(api: RegistryApi) -> list[ModelInfo]:
        return [await api.info(model.id, model.revision) for model in declared]

    for model, found in zip(declared, ask(registry, "", look), strict=True):
        manifest = found.manifest
        licence = manifest.licence.name or manifest.licence.id or "not known"
        fields = (found.id, model.revision, found.commit, str(manifest.total_bytes), licence)
        typer.echo("\t".join(" ".join(field.split()) for field in fields))


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
    with httpx.Client(trust_env=False, timeout=120) as client:
        try:
            for line in smoke_test.run(client, gateway.rstrip("/"), key or None):
                tell(line)
        except smoke_test.SmokeFailed as error:
            end(str(error), ExitCode.FAILED)


def _declared(file: Path) -> list[models_file.DeclaredModel]:
    try:
        return models_file.load(file).models
    except ModelsFileError as error:
        end(str(error), ExitCode.USAGE)
