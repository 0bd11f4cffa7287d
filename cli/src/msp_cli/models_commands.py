"""`msp models`: what the registry holds."""

from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from msp_cli import exit_codes, models_archive, models_jobs, models_pull, models_refs, models_upkeep
from msp_cli.models_session import (
    DEFAULT_URL,
    JsonOption,
    ModelArgument,
    RegistryOption,
    ask,
    show_json,
    tell,
)
from msp_cli.tables import cells, table
from msp_common.contracts.models import Licence, ModelInfo

app = typer.Typer(
    name="models",
    help=f"Models that the registry holds.\n\n{exit_codes.described()}",
    short_help="Models that the registry holds.",
    no_args_is_help=True,
)


def register(msp: typer.Typer) -> None:
    """Add the group of commands."""
    msp.add_typer(app)


@app.command("list")
def list_models(registry: RegistryOption = DEFAULT_URL, as_json: JsonOption = False) -> None:
    """List all models that are in the store, whole and verified."""
    models = ask(registry, "", lambda api: api.models())
    if as_json:
        show_json(models)
        return
    bad = ["state"] if any(model.quarantined for model in models.models) else []
    shown = table("model", "commit", "revisions", "size", "format", "parameters", *bad)
    for model in models.models:
        parameters = f"{model.parameters:,}" if model.parameters is not None else "-"
        state = ["has bad files" if model.quarantined else "ok" for _ in bad]
        size = decimal(model.total_bytes)
        shown.add_row(
            *cells(model.id, model.commit[:12], ", ".join(model.refs), size, model.format, parameters, *state)
        )
    Console().print(shown)


@app.command()
def info(
    model: ModelArgument,
    revision: Annotated[str | None, typer.Option(help="Branch, channel or commit.")] = None,
    registry: RegistryOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Show one model: its licence, format, size, who uses it, what its refs name, and its files."""
    found = ask(registry, "", lambda api: api.info(model, revision))
    if as_json:
        show_json(found)
        return
    facts = table("", "")
    facts.show_header = False
    for name, text in _facts(found):
        facts.add_row(*cells(name, text))
    Console().print(facts)
    bad = ["state"] if found.quarantined else []
    shown = table("file", "size", "sha256", *bad)
    for file in found.manifest.files:
        state = ["not served" if file.path in found.quarantined else "ok"]
        size = decimal(file.size_bytes)
        shown.add_row(*cells(file.path, size, file.sha256[:16], *(state if bad else [])))
    Console().print(shown)
    for path, why in sorted(found.quarantined.items()):
        tell(f"{path} is not served: {why}")
    if found.quarantined:
        tell(f"{len(found.quarantined)} bad files; try: msp models verify {found.id}")


def _facts(found: ModelInfo) -> list[tuple[str, str]]:
    manifest = found.manifest
    facts = [
        ("model", found.id),
        ("commit", found.commit),
        ("revision", found.revision),
        ("refs", ", ".join(f"{ref} = {commit[:12]}" for ref, commit in sorted(found.refs.items())) or "none"),
        ("from", manifest.source),
        ("size", f"{decimal(manifest.total_bytes)} in {len(manifest.files)} files"),
        ("format", manifest.format),
        ("dtype", manifest.dtype or "not known"),
        ("parameters", "not known" if manifest.parameters is None else f"{manifest.parameters:,}"),
        ("licence", _licence(manifest.licence)),
        ("used by", "not known" if found.used_by is None else ", ".join(found.used_by) or "nobody"),
    ]
    if manifest.hub is not None and manifest.hub.gated:
        facts.append(("gated", f"yes ({manifest.hub.gated}): whoever serves it must keep to its licence"))
    if manifest.requires_remote_code:
        facts.append(("remote code", "wants to run program files of its own"))
    return facts


def _licence(licence: Licence) -> str:
    name = licence.name or licence.id or "not known"
    texts = f" (text in {', '.join(sorted(licence.text_sha256))})" if licence.text_sha256 else ""
    return f"{name}{f', {licence.link}' if licence.link else ''}{texts}"


models_pull.register(app)
models_archive.register(app)
models_jobs.register(app)
models_refs.register(app)
models_upkeep.register(app)
