"""All checks: each takes the facts and gives its findings, and knows nothing of how the facts were had."""

from collections.abc import Callable

from msp_cli.doctor.checks import (
    chat_ui,
    docker,
    env,
    gpu_host,
    gpu_workers,
    host,
    platform,
    proxy,
    registration,
)
from msp_cli.doctor.facts import Facts
from msp_cli.doctor.findings import Finding

Check = Callable[[Facts], list[Finding]]

ALL: tuple[Check, ...] = (
    docker.check,
    gpu_host.check_driver,
    gpu_host.check_toolkit,
    gpu_host.check_device_ids,
    gpu_host.check_shared,
    env.check,
    host.check_permissions,
    host.check_ports,
    host.check_disk,
    host.check_clock,
    platform.check_gateway,
    platform.check_store,
    platform.check_services,
    platform.check_models,
    gpu_workers.check_lost,
    gpu_workers.check_detected,
    proxy.check,
    platform.check_keys,
    registration.check,
    chat_ui.check,
)
"""In the order in which things depend on each other: what fails first explains what follows."""


def examine(facts: Facts) -> list[Finding]:
    """What all checks find."""
    return [finding for check in ALL for finding in check(facts)]
