"""The models as `GET /v1/models` shows them. Pure: a function of what is known."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Verdict, Worker
from msp_gateway.catalogue import Catalogue, nearest_to_ready

_ORDER = (ModelType.LLM, ModelType.MULTIMODAL, ModelType.EMBEDDING, ModelType.TRANSCRIPTION)
_OUTPUTS = {
    ModelType.LLM: ["text"],
    ModelType.MULTIMODAL: ["text"],
    ModelType.EMBEDDING: ["embeddings"],
    ModelType.TRANSCRIPTION: ["text"],
}
_INPUTS = {
    ModelType.LLM: ["text"],
    ModelType.MULTIMODAL: ["text", "image"],
    ModelType.EMBEDDING: ["text"],
    ModelType.TRANSCRIPTION: ["audio"],
}


class Architecture(BaseModel):
    """What goes in and what comes out."""

    input_modalities: list[str]
    output_modalities: list[str]


class Provider(BaseModel):
    """Chat UI reads the context budget and whether tools may be used from here."""

    provider: str = "msp"
    status: Literal["live", "staging"]
    supports_tools: bool
    context_length: int | None = None


class ModelCard(BaseModel):
    """One model. What is not known is left out: clients fail on a description that is null."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    id: str
    object: Literal["model"] = "model"
    created: int
    """When its first worker started, or the gateway, in seconds since the epoch."""
    owned_by: str
    type: ModelType
    state: str
    """The verdict on its best replica; `absent` where no worker serves it."""
    replicas: int
    architecture: Architecture
    context_length: int | None = None
    aliases: list[str] | None = None
    progress: float | None = None
    providers: list[Provider] | None = None


class ModelCards(BaseModel):
    """Answer of `GET /v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


def model_cards(known: Catalogue, started_at: float) -> list[ModelCard]:
    """All known models: by type, LLMs first, since clients take the first for their default chat model."""
    return [
        _card(model_id, kind, known.replicas(model_id), started_at)
        for kind in _ORDER
        for model_id in sorted(known.ids_of(kind), key=lambda i: (i != known.defaults.get(kind), i))
    ]


def _card(model_id: str, kind: ModelType, replicas: Sequence[Worker], started_at: float) -> ModelCard:
    best = nearest_to_ready(replicas)
    can = best.lease.capabilities if best else None
    # Until it has loaded, a worker knows no more of its model than the type.
    inputs: Sequence[str] = can.input_modalities if best and can and best.verdict.routable else _INPUTS[kind]
    lengths = [length for w in replicas if (length := w.lease.capabilities.context_length) is not None]
    context_length = min(lengths, default=None)
    loading = best is not None and best.verdict in (Verdict.FETCHING, Verdict.LOADING)
    provider = Provider(
        status="live" if best is not None and best.verdict.routable else "staging",
        supports_tools=bool(can and can.tools),
        context_length=context_length,
    )
    owner, slash, _ = model_id.partition("/")
    return ModelCard(
        id=model_id,
        created=int(min((w.lease.started_at for w in replicas), default=started_at)),
        owned_by=owner if slash else "local",
        type=kind,
        state=best.verdict.value if best else "absent",
        replicas=len(replicas),
        architecture=Architecture(input_modalities=list(inputs), output_modalities=_OUTPUTS[kind]),
        context_length=context_length,
        aliases=sorted({alias for w in replicas for alias in w.lease.model.aliases}) or None,
        progress=best.lease.progress if best and loading else None,
        providers=[provider] if kind.chats else None,
    )
