"""`msp doctor` and `msp support-bundle`."""

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from msp_cli.doctor import airgap, checks, report, support_bundle
from msp_cli.doctor.facts import Facts
from msp_cli.doctor.findings import Code, Finding, Level, exit_code
from msp_cli.doctor.gathering import DEFAULT_GATEWAY, addresses_of, gather
from msp_cli.doctor.host_site import HostSite
from msp_cli.doctor.site import Site
from msp_cli.exit_codes import ExitCode
from msp_cli.models_session import DEFAULT_URL, JsonOption, RegistryOption, end, finish, say, show_json

GatewayOption = Annotated[str, typer.Option("--gateway", envvar="GATEWAY_URL", help="Where the gateway is.")]
RootOption = Annotated[
    Path, typer.Option("--root", help="The folder of the compose files and .env.", file_okay=False)
]
RecordedOption = Annotated[
    Path | None,
    typer.Option(
        "--recorded", help="What ./scripts/msp ran on the host before; nothing is run then.", hidden=True
    ),
]
ClusterOption = Annotated[
    bool, typer.Option("--cluster", help="Look at the GPU cluster's file, also before it is in use.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(doctor)
    app.command("support-bundle")(bundle)


def doctor(
    prove_airgap: Annotated[
        bool,
        typer.Option("--airgap", help="Try to get out, from here and every container; all must fail."),
    ] = False,
    cluster: ClusterOption = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End with 6 also for warnings and for what was not checked.")
    ] = False,
    root: RootOption = Path(),
    gateway: GatewayOption = DEFAULT_GATEWAY,
    registry: RegistryOption = DEFAULT_URL,
    recorded: RecordedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find what is wrong with this installation, and say what to do. Changes nothing.

    Ends with 0 when no problem was found, with 6 when one was. What could not be checked is said. With
    --airgap it also ends with 6 where an attempt to get out could not be made: that proves nothing.
    """
    site = HostSite(root.resolve(), recorded)
    addresses = addresses_of(site, gateway, registry)
    facts = gather(site, str(root.resolve()), addresses, cluster=cluster)
    findings = checks.examine(facts)
    if prove_airgap:
        findings += _airgap(site, facts)
    code = exit_code(findings, strict=strict)
    if any(finding.code is Code.EGRESS and finding.level is Level.UNKNOWN for finding in findings):
        code = ExitCode.FAILED
    if as_json:
        show_json(report.Findings(findings=findings, exit_code=code))
    else:
        report.show(findings, Console())
    finish(code)


def bundle(
    output: Annotated[
        Path | None,
        typer.Argument(help="The archive to make; it must not exist. Default: msp-support-TIME.tar.gz here."),
    ] = None,
    root: RootOption = Path(),
    gateway: GatewayOption = DEFAULT_GATEWAY,
    registry: RegistryOption = DEFAULT_URL,
    recorded: RecordedOption = None,
) -> None:
    """Make one archive of findings, settings, answers and logs, with all secrets taken out.

    For a site that cannot share a screen. Look through it before it leaves the site.
    """
    site = HostSite(root.resolve(), recorded)
    addresses = addresses_of(site, gateway, registry)
    facts = gather(site, str(root.resolve()), addresses)
    findings = checks.examine(facts)
    target = output or Path(time.strftime("msp-support-%Y%m%d-%H%M%S.tar.gz"))
    data = support_bundle.build(site, facts, findings, addresses, version("msp-cli"))
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    except FileExistsError:
        end(f"{target} is there already; name another one", ExitCode.USAGE)
    except OSError as error:
        end(f"{target} cannot be written: {error.strerror}", ExitCode.UNEXPECTED)
    say(report.summary(findings))
    typer.echo(str(target))


def _airgap(site: Site, facts: Facts) -> list[Finding]:
    running = [container for container in facts.ours if container.runs]
    # Our own images have Python; those of others may not.
    ours = (c.image for c in running if c.service in ("gateway", "registry", "service-registry"))
    places = site.probes([container.name for container in running], next(ours, None))
    return airgap.judge(places, facts)
