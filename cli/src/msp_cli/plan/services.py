"""The compose services of the cluster's workers: names, ports, and the variables that choose for them. Pure.

The first model of a type, and the second language model, get the services that the platform's own cluster
file has; further ones get services of their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msp_common.contracts.model_type import ModelType

FIRST_FREE_PORT = 8005


@dataclass(frozen=True)
class Service:
    """One worker's place in the compose file."""

    name: str
    base: str
    """The service of docker-compose.yml that it extends."""
    port: int
    model_variable: str
    gpu_variable: str
    alias: str | None = None
    """Another name that it answers to on the stack's network."""
    shipped_gpu: str | None = None
    """The value that .env.example gives: an operator who left it there has chosen nothing."""

    @property
    def is_shipped(self) -> bool:
        """Whether the platform's own cluster file has it."""
        return self.shipped_gpu is not None


SHIPPED: tuple[tuple[ModelType, Service], ...] = (
    (ModelType.LLM, Service("llm-primary", "llm", 8000, "LLM_MODEL", "LLM_PRIMARY_GPU", "llm", "0")),
    (
        ModelType.LLM,
        Service("llm-secondary", "tinyllama", 8001, "TINYLLAMA_MODEL", "LLM_SECONDARY_GPU", "tinyllama", "1"),
    ),
    (
        ModelType.MULTIMODAL,
        Service("multimodal", "multimodal", 8003, "MULTIMODAL_MODEL", "MULTIMODAL_GPU", None, "2"),
    ),
    (
        ModelType.EMBEDDING,
        Service("embedding", "embedding", 8002, "EMBEDDING_MODEL", "EMBEDDING_GPU", None, "3"),
    ),
    (
        ModelType.TRANSCRIPTION,
        Service(
            "transcription", "transcription", 8004, "TRANSCRIPTION_MODEL", "TRANSCRIPTION_GPU", None, "4"
        ),
    ),
)

STANDARD_WORKERS = ("llm", "tinyllama", "embedding", "multimodal", "transcription")
"""Workers of docker-compose.yml, which make way in cluster mode unless a pinned one has the same name."""

_BASES = {
    ModelType.LLM: "llm",
    ModelType.MULTIMODAL: "multimodal",
    ModelType.EMBEDDING: "embedding",
    ModelType.TRANSCRIPTION: "transcription",
}


def assign(models: Sequence[tuple[str, ModelType]], env: Mapping[str, str]) -> list[Service]:
    """A service for each (id, type). A model stays where .env has it already, so that plans are stable."""
    chosen: dict[int, Service] = {}
    for number, (model_id, model_type) in enumerate(models):
        for kind, service in SHIPPED:
            if (
                kind is model_type
                and env.get(service.model_variable) == model_id
                and service not in chosen.values()
            ):
                chosen[number] = service
                break
    for number, (_, model_type) in enumerate(models):
        if number not in chosen:
            left = [s for kind, s in SHIPPED if kind is model_type and s not in chosen.values()]
            if left:
                chosen[number] = left[0]
    extra = 0
    for number, (_, model_type) in enumerate(models):
        if number not in chosen:
            chosen[number] = _further(model_type, models[: number + 1], extra)
            extra += 1
    return [chosen[number] for number in range(len(models))]


def pinned_in_env(service: Service, model_id: str, env: Mapping[str, str]) -> str | None:
    """The GPU that .env gives this model's worker, if somebody chose it: not the example's own value."""
    gpu = env.get(service.gpu_variable)
    if not gpu or gpu == service.shipped_gpu or env.get(service.model_variable) != model_id:
        return None
    return gpu


def _further(model_type: ModelType, so_far: Sequence[tuple[str, ModelType]], extra: int) -> Service:
    base = _BASES[model_type]
    nth = sum(kind is model_type for _, kind in so_far)
    name = f"{base}-{nth}"
    variable = name.replace("-", "_").upper()
    return Service(name, base, FIRST_FREE_PORT + extra, f"{variable}_MODEL", f"{variable}_GPU")
