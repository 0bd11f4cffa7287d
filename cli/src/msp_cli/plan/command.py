"""`msp plan`."""

import asyncio
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from msp_cli import models_file
from msp_cli.authorities import authorities_for
from msp_cli.exit_codes import ExitCode
from msp_cli.job_batch import code_of
from msp_cli.models_session import DEFAULT_URL, JsonOption, RegistryOption, end, finish, say, show_json, tell
from msp_cli.plan import report
from msp_cli.plan.choices import Asked, BadChoice, Choices, check_used, read_choices
from msp_cli.plan.compose_file import NAME, NotAClusterFile, compose_text, env_values
from msp_cli.plan.env_file import read_env, with_values
from msp_cli.plan.facts import FactsMissing, ModelFacts
from msp_cli.plan.folder_facts import folder_facts
from msp_cli.plan.inventory import QUERY, BadInventory, PlanGpu, read_inventory
from msp_cli.plan.placement import Plan, Rules, Wanted, place
from msp_cli.plan.registry_facts import RegistryFacts
from msp_cli.plan.services import Service, assign, pinned_in_env
from msp_cli.plan.worker_settings import WorkerSettings, read_settings
from msp_cli.plan.writing import Change, read_if_there
from msp_cli.registry_api import ServiceAnsweredBadly
from msp_common.model_ids import InvalidModelId, parse_model_id

_SMI_TIMEOUT_S = 30

ModelsArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Model ids; one that is named twice gets two workers.", show_default=False),
]
FileOption = Annotated[
    Path | None, typer.Option("--file", "-f", help="YAML file that declares models (models.example.yaml).")
]
GpusOption = Annotated[
    Path | None,
    typer.Option(
        "--gpus",
        help="File with the GPUs, as nvidia-smi prints them; without it nvidia-smi is run.",
    ),
]
ContextOption = Annotated[
    int, typer.Option(min=128, help="Tokens of one request, prompt and answer, for which there must be room.")
]
FractionOption = Annotated[
    float | None,
    typer.Option(
        "--gpu-memory-fraction",
        min=0.05,
        max=1.0,
        help="Share of a GPU that a worker may take; without it what .env says, else 0.9.",
        show_default=False,
    ),
]
QuantizationOption = Annotated[
    list[str] | None,
    typer.Option("--quantization", help="MODEL=bnb-8bit or MODEL=bnb-4bit. May be repeated."),
]
TypeOption = Annotated[
    list[str] | None,
    typer.Option("--type", help="MODEL=TYPE, where its configuration does not tell. May be repeated."),
]
PinOption = Annotated[
    list[str] | None, typer.Option("--pin", help="MODEL=GPU, by index or UUID. May be repeated.")
]
FolderOption = Annotated[
    list[str] | None,
    typer.Option("--folder", help="MODEL=PATH: a local folder instead of the registry. May be repeated."),
]
IgnoreUsedOption = Annotated[
    bool,
    typer.Option("--ignore-used", help="Plan as if nothing ran on the GPUs, as when it is the platform."),
]
RepinOption = Annotated[
    bool, typer.Option("--repin", help="Choose GPUs anew, also where .env has one already.")
]
WriteOption = Annotated[bool, typer.Option("--write", help=f"Write {NAME} and .env.")]
ForceOption = Annotated[bool, typer.Option("--force", help="With --write: also over what is there.")]
RootOption = Annotated[
    Path, typer.Option("--root", help="The folder of the compose files and .env.", file_okay=False)
]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    models: ModelsArgument = None,
    file: FileOption = None,
    gpus: GpusOption = None,
    context: ContextOption = 4096,
    gpu_memory_fraction: FractionOption = None,
    quantization: QuantizationOption = None,
    model_type: TypeOption = None,
    pin: PinOption = None,
    folder: FolderOption = None,
    ignore_used: IgnoreUsedOption = False,
    repin: RepinOption = False,
    write: WriteOption = False,
    force: ForceOption = False,
    root: RootOption = Path(),
    registry: RegistryOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Work out which model fits on which GPU, and what that leaves for requests.

    Counts with what .env says to workers: GPU_MEMORY_FRACTION, KV_MEMORY_FRACTION, MAX_RUNNING,
    PREFILL_TOKENS and QUANTIZATION.

    What cannot fit is refused with the numbers, and the command ends with 4. With --write the plan becomes
    the cluster's compose file and .env; what is there is shown as a diff, and replaced with --force alone.
    """
    try:
        asked = _asked(models or [], file)
        choices = read_choices(model_type or [], quantization or [], pin or [], folder or [])
        check_used(choices, asked)
        inventory = read_inventory(_inventory_text(gpus))
        env_text = read_if_there(root / ".env")
        env = read_env(env_text or "")
        settings = read_settings(env)
        _check_quantizations(choices, settings)
    except (BadChoice, BadInventory, models_file.ModelsFileError) as error:
        end(str(error), ExitCode.USAGE)
    except (OSError, UnicodeDecodeError) as error:
        end(f"cannot be read: {error}", ExitCode.USAGE)
    facts = _facts(asked, choices, registry)
    try:
        types = [one.type(choices.types.get(one.id)) for one in facts]
    except FactsMissing as error:
        end(str(error), ExitCode.REFUSED)
    services = assign([(one.id, kind) for one, kind in zip(facts, types, strict=True)], env)
    wanted = [
        Wanted(
            service.name,
            one,
            kind,
            choices.quantizations.get(one.id, settings.quantization if kind.chats else "none"),
            choices.pins.get(one.id) or (None if repin else pinned_in_env(service, one.id, env)),
        )
        for one, kind, service in zip(facts, types, services, strict=True)
    ]
    there = [_unused(gpu) for gpu in inventory] if ignore_used else inventory
    rules = Rules(
        context=context,
        fraction=gpu_memory_fraction or settings.gpu_memory_fraction,
        kv_share=settings.kv_share,
        max_rows=settings.max_rows,
        prefill_tokens=settings.prefill_tokens,
    )
    made = place(wanted, there, rules)
    _show(made, as_json=as_json)
    if made.refused:
        if write:
            say("nothing was written: not all models have a GPU")
        finish(ExitCode.REFUSED)
    if write:
        by_name = {service.name: service for service in services}
        values = env_values(made, by_name)
        if gpu_memory_fraction is not None:
            values["GPU_MEMORY_FRACTION"] = f"{gpu_memory_fraction:g}"
        _write(made, by_name, values, root, env_text, force=force)


def _asked(models: Sequence[str], file: Path | None) -> list[Asked]:
    if bool(models) == (file is not None):
        raise BadChoice("name models, or a file of them with --file; either, not both")
    if file is not None:
        return [Asked(model.id, model.revision) for model in models_file.load(file).models]
    try:
        return [Asked(parse_model_id(model)) for model in models]
    except InvalidModelId as error:
        raise BadChoice(str(error)) from None


def _inventory_text(file: Path | None) -> str:
    if file is not None:
        return file.read_text(encoding="utf-8")
    try:
        done = subprocess.run(  # noqa: S603  (a fixed command)
            QUERY, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise BadInventory(
            "nvidia-smi is not here; run it on the GPU host and hand its output in with --gpus FILE: "
            + " ".join(QUERY)
        ) from None
    except subprocess.TimeoutExpired:
        raise BadInventory(f"nvidia-smi gave no answer within {_SMI_TIMEOUT_S} s: the driver hangs") from None
    if done.returncode:
        raise BadInventory(f"nvidia-smi failed: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def _check_quantizations(choices: Choices, settings: WorkerSettings) -> None:
    for model, chosen in choices.quantizations.items():
        if chosen == "none" != settings.quantization:
            raise BadChoice(
                f"--quantization {model}=none: .env has QUANTIZATION={settings.quantization} for all chat "
                "models; empty it there, and name those that are to have it"
            )


def _facts(asked: Sequence[Asked], choices: Choices, registry: str) -> list[ModelFacts]:
    async def talk() -> list[ModelFacts]:
        async with httpx.AsyncClient(verify=authorities_for(registry), trust_env=False, timeout=30) as client:
            source = RegistryFacts(client, registry)
            return [
                folder_facts(one.id, choices.folders[one.id])
                if one.id in choices.folders
                else await source.of(one.id, one.revision)
                for one in asked
            ]

    try:
        return asyncio.run(talk())
    except FactsMissing as error:
        end(str(error), ExitCode.REFUSED)
    except ServiceAnsweredBadly as error:
        end(str(error), code_of(error))


def _unused(gpu: PlanGpu) -> PlanGpu:
    return PlanGpu(gpu.index, gpu.uuid, gpu.name, gpu.total_bytes, 0)


def _show(made: Plan, *, as_json: bool) -> None:
    notes = [note for placed in made.placed for note in report.notes_of(placed)]
    if as_json:
        show_json(report.answer(made, notes))
        return
    if made.placed:
        Console().print(report.shown(made))
    for refused in made.refused:
        tell(report.refusal_text(refused))
    for note in notes:
        tell(f"note: {note}")
    for gpu in made.free:
        tell(f"GPU {gpu.index} ({gpu.name}) stays free")


def _write(
    made: Plan,
    services: dict[str, Service],
    values: dict[str, str],
    root: Path,
    env_text: str | None,
    *,
    force: bool,
) -> None:
    if env_text is None:
        end(
            f"there is no {root / '.env'}; make one with secrets first: ./scripts/init-env.sh", ExitCode.USAGE
        )
    try:
        compose = root / NAME
        there = read_if_there(compose)
        if there is None:
            end(f"there is no {compose}; name the platform's folder with --root", ExitCode.USAGE)
        changes = [
            Change(compose, there, compose_text(made, services, there)),
            Change(root / ".env", env_text, with_values(env_text, values), context=0),
        ]
        for change in (change for change in changes if change.is_one):
            say(change.diff())
        if any(change.replaces for change in changes) and not force:
            end(
                "nothing was written: the files above are there already; --force replaces them",
                ExitCode.REFUSED,
            )
        for change in (change for change in changes if change.is_one):
            change.write()
            say(f"wrote {change.path}")
    except NotAClusterFile as error:
        end(str(error), ExitCode.USAGE)
    except OSError as error:
        end(f"cannot be written: {error}", ExitCode.UNEXPECTED)
    if not any(change.is_one for change in changes):
        say("the files say this already")
