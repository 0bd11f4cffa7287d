"""Which of the GPUs that NVML sees are this worker's, and whether they are the right ones. Pure."""

from collections.abc import Sequence

from msp_common.contracts.gpus import Gpu, GpuReport


def visible(gpus: Sequence[Gpu], cuda_visible_devices: str | None) -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; all of them when it is not set.

    As CUDA reads it: indices or (prefixes of) UUIDs; what follows the first entry that fits none is ignored.
    """
    if cuda_visible_devices is None:
        return list(gpus)
    chosen: list[Gpu] = []
    for entry in (e.strip() for e in cuda_visible_devices.split(",")):
        named = [
            g
            for g in gpus
            if entry and (entry == str(g.index) or (not entry.isdigit() and g.uuid.startswith(entry)))
        ]
        if len(named) != 1:
            break
        chosen += named
    return chosen


def pinning_problem(
    report: GpuReport, *, device: str, expected_uuid: str | None, may_split: bool = False
) -> str | None:
    """Why the worker must not load a model on what it sees; null when it may.

    `device` is `auto`, `cpu` or `cuda`. Unless the engine may split one model over GPUs (`may_split`), two
    are refused: it would fill the first and leave the other one idle, or taken from another worker.
    """
    gpus = report.gpus or []
    if device == "cpu":
        return "EXPECTED_GPU_UUID is set, but DEVICE is cpu; unset one of them" if expected_uuid else None
    if not gpus:
        if device == "cuda" or expected_uuid:
            wanted = f"the GPU {expected_uuid}" if expected_uuid else "a GPU"
            return (
                f"{wanted} is demanded, but none is seen ({report.reason}); check the container's device_ids"
            )
        return None
    seen = ", ".join(f"{g.index} {g.name} {g.uuid}" for g in gpus)
    if len(gpus) > 1 and not may_split:
        return (
            f"{len(gpus)} GPUs are seen ({seen}), but a worker serves on one; pin it with device_ids: ['N'] "
            "or CUDA_VISIBLE_DEVICES=N (a model that needs several is for vLLM)"
        )
    if expected_uuid and gpus[0].uuid != expected_uuid:
        return (
            f"pinned to the GPU {expected_uuid}, but what is seen is {seen}; check the container's device_ids"
        )
    return None
