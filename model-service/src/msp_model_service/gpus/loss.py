"""What a failed NVML call means for the operator, and the remedy. Pure."""

from collections.abc import Sequence

from msp_common.contracts.gpus import Gpu

_UNKNOWN, _NO_PERMISSION, _NOT_FOUND, _LOST, _RESET_REQUIRED = 999, 4, 6, 15, 16

RECREATE = (
    "the container has lost its GPU, as happens when systemd on the host reloads (`systemctl daemon-reload`);"
    " make it anew with `docker compose up -d --force-recreate`; for good, give containers their devices by"
    " CDI, or set native.cgroupdriver=cgroupfs in the host's /etc/docker/daemon.json"
)
"""nvidia-container-toolkit issues 48 and 1227: the device rules of running containers are written anew."""


def explained(what: str, code: int, error: object, had: Sequence[Gpu]) -> str:
    """The fault with its remedy, where one is known. `had` are the GPUs that were seen before it."""
    said = f"{what}: {error}"
    if code in (_UNKNOWN, _NO_PERMISSION) or (had and code == _NOT_FOUND):
        return f"{said}; {RECREATE}"
    if code == _LOST:
        return f"{said}; it has fallen off the bus: look for Xid in the host's `dmesg`, then reset the host"
    if code == _RESET_REQUIRED:
        return f"{said}; stop what uses it and run `nvidia-smi --gpu-reset` on the host"
    return said
