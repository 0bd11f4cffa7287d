"""The GPUs as the host sees them, and whether containers can get them."""

from collections.abc import Sequence

from msp_cli.doctor.facts import Compose, ComposeService, Facts
from msp_cli.doctor.findings import Code, Finding, ok, problem, unknown
from msp_cli.doctor.site import Unknown
from msp_cli.plan.inventory import PlanGpu

TOOLKIT = (
    "install the NVIDIA container toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker && "
    "sudo systemctl restart docker"
)


def wants_gpu(facts: Facts) -> bool:
    """Whether this installation is meant to use a GPU."""
    if facts.in_cluster_mode or facts.settings.get("WORKER_RUNTIME") == "nvidia":
        return True
    return facts.settings.get("WORKER_DEVICE") == "cuda"


def check_driver(facts: Facts) -> list[Finding]:
    """Whether nvidia-smi lists GPUs, where there are any or some are wanted."""
    found = facts.gpus
    if not isinstance(found, Unknown):
        named = ", ".join(f"{gpu.index} {gpu.name}" for gpu in found)
        return [ok(Code.NO_DRIVER, f"the driver sees {len(found)} GPU(s): {named}")]
    if not wants_gpu(facts) and facts.has_nvidia_card is False:
        return [ok(Code.NO_DRIVER, "this host has no NVIDIA GPU, and none is asked for")]
    if not wants_gpu(facts) and isinstance(facts.has_nvidia_card, Unknown):
        return [unknown(Code.NO_DRIVER, f"{found.why}; {facts.has_nvidia_card.why}")]
    card = "" if facts.has_nvidia_card is not False else "; no NVIDIA card is on the PCI bus either"
    return [problem(Code.NO_DRIVER, f"the driver does not answer: {found.why}{card}", _driver_remedy(found))]


def _driver_remedy(found: Unknown) -> str:
    said = found.why.lower()
    if found.absent:
        return "install the NVIDIA driver of this host's distribution and reboot; nvidia-smi comes with it"
    if "version mismatch" in said:
        return "the driver was updated under the running kernel module: reboot"
    if "communicate with the nvidia driver" in said:
        return (
            "the kernel module is not loaded: sudo modprobe nvidia; after a kernel update reinstall the "
            "driver (dkms status), with Secure Boot sign its module"
        )
    return "run nvidia-smi on the host and look at dmesg for NVRM lines"


def check_toolkit(facts: Facts) -> list[Finding]:
    """Whether Docker can hand a GPU to a container."""
    engine = facts.engine
    if isinstance(engine, Unknown):
        return [unknown(Code.NO_CONTAINER_TOOLKIT, "Docker could not be asked for its runtimes")]
    if "nvidia" in engine.runtimes or engine.has_cdi_gpus:
        how = "runtime nvidia" if "nvidia" in engine.runtimes else "CDI"
        return [ok(Code.NO_CONTAINER_TOOLKIT, f"Docker hands GPUs to containers ({how})")]
    if not wants_gpu(facts) and (isinstance(facts.gpus, Unknown) or not facts.gpus):
        return [ok(Code.NO_CONTAINER_TOOLKIT, "Docker knows no NVIDIA runtime, and no GPU is asked for")]
    runtimes = ", ".join(sorted(engine.runtimes)) or "none"
    return [
        problem(
            Code.NO_CONTAINER_TOOLKIT,
            f"Docker cannot hand GPUs to containers: its runtimes are {runtimes}, without nvidia",
            TOOLKIT,
        )
    ]


def check_device_ids(facts: Facts) -> list[Finding]:
    """Whether every pinned GPU is there."""
    compose = _pinned(facts, Code.WRONG_DEVICE_IDS)
    if isinstance(compose, Finding):
        return [compose]
    if isinstance(facts.gpus, Unknown):
        return [unknown(Code.WRONG_DEVICE_IDS, f"the host's GPUs are not known: {facts.gpus.why}")]
    there = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in facts.gpus)
    findings = [
        problem(
            Code.WRONG_DEVICE_IDS,
            f"{service.name} is pinned to the GPU {device!r}, which this host has not; it has {there}",
            f"put one of these into .env as the GPU of {service.name}, or into its device_ids in "
            "docker-compose.gpu-cluster.yml; msp plan --write does it for all",
        )
        for service in compose.services.values()
        for device in service.device_ids
        if not any(gpu.is_called(device) for gpu in facts.gpus)
    ]
    split = [service for service in compose.services.values() if len(service.device_ids) > 1]
    findings += [
        problem(
            Code.WRONG_DEVICE_IDS,
            f"{service.name} is given {len(service.device_ids)} GPUs; a worker serves on one",
            "name one in device_ids; a model that needs several is for vLLM (ENGINE=openai)",
        )
        for service in split
        if service.environment.get("ENGINE") != "openai"
    ]
    findings += [
        finding for service in compose.services.values() if (finding := _expected(facts.gpus, service))
    ]
    pinned = sum(bool(service.device_ids) for service in compose.services.values())
    return findings or [ok(Code.WRONG_DEVICE_IDS, f"the GPUs of all {pinned} pinned workers are there")]


def _expected(gpus: Sequence[PlanGpu], service: ComposeService) -> Finding | None:
    """EXPECTED_GPU_UUID must be the UUID of a GPU that the worker is given, or it loads nothing."""
    expected = service.environment.get("EXPECTED_GPU_UUID")
    given = [gpu for gpu in gpus if any(gpu.is_called(device) for device in service.device_ids)]
    if not expected or not given or any(gpu.uuid == expected for gpu in given):
        return None
    return problem(
        Code.WRONG_DEVICE_IDS,
        f"{service.name} is pinned to {given[0].uuid} (index {given[0].index}), and its EXPECTED_GPU_UUID is "
        f"{expected!r}: it will refuse to load its model",
        f"write {given[0].uuid} for both; a file that `msp plan` wrote takes both from .env",
    )


def check_shared(facts: Facts) -> list[Finding]:
    """Whether each pinned worker has its GPU to itself, indices and UUIDs told apart."""
    if not facts.in_cluster_mode and facts.settings.get("WORKER_RUNTIME") == "nvidia":
        return [_shared_standard(facts.standard)]
    compose = _pinned(facts, Code.SHARED_GPU)
    if isinstance(compose, Finding):
        return [compose]
    gpus = [] if isinstance(facts.gpus, Unknown) else facts.gpus
    users: dict[str, list[str]] = {}
    for service in compose.services.values():
        for device in service.device_ids:
            uuid = next((gpu.uuid for gpu in gpus if gpu.is_called(device)), device)
            users.setdefault(uuid, []).append(service.name)
    findings = [
        problem(
            Code.SHARED_GPU,
            f"{' and '.join(names)} are pinned to one GPU ({uuid}): each takes up to 90 % of its memory",
            "give each a GPU of its own in .env, or set GPU_MEMORY_FRACTION so that the shares add up to "
            "less than 1",
        )
        for uuid, names in users.items()
        if len(names) > 1 and not _shares_fit(compose, names)
    ]
    if findings:
        return findings
    mixed = isinstance(facts.gpus, Unknown) and len({d.startswith("GPU-") for d in users}) > 1
    if mixed:
        return [
            unknown(
                Code.SHARED_GPU, "some workers are pinned by index and some by UUID, and nvidia-smi is silent"
            )
        ]
    return [ok(Code.SHARED_GPU, "no two workers are pinned to one GPU without sharing its memory")]


def _shared_standard(compose: Compose | Unknown) -> Finding:
    """All workers of the standard mode have one GPU."""
    if isinstance(compose, Unknown):
        return unknown(Code.SHARED_GPU, f"docker-compose.yml: {compose.why}")
    names = [service.name for service in compose.services.values() if service.runtime == "nvidia"]
    if len(names) < 2 or _shares_fit(compose, names):
        return ok(Code.SHARED_GPU, f"the shares of {' and '.join(names) or 'no worker'} fit one GPU")
    return problem(
        Code.SHARED_GPU,
        f"{' and '.join(names)} share one GPU, and their GPU_MEMORY_FRACTION add up to 1 or more",
        f"GPU_MEMORY_FRACTION={0.9 / len(names):.2f} in .env, or one GPU for each by cluster mode",
    )


def _shares_fit(compose: Compose, names: list[str]) -> bool:
    total = 0.0
    for name in names:
        try:
            total += float(compose.services[name].environment.get("GPU_MEMORY_FRACTION") or 0.9)
        except ValueError:
            return False
    return total < 1


def _pinned(facts: Facts, code: Code) -> Compose | Finding:
    """The cluster's configuration; where there is none to look at, the finding that says so."""
    if not facts.in_cluster_mode:
        return ok(code, "cluster mode is not in use (doctor --cluster looks at its file anyway)")
    if isinstance(facts.cluster, Unknown):
        return unknown(code, f"docker-compose.gpu-cluster.yml: {facts.cluster.why}")
    return facts.cluster
