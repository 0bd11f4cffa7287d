"""What a server says of itself: whether it is ready, what it calls its model, how busy it is."""

import re
from dataclasses import dataclass
from typing import Any

import httpx

from msp_common.contracts.workers import WorkerLoad
from msp_model_service.engines.figures import EngineFigures

# The first of these that a server has: vLLM, SGLang, llama-server.
_RUNNING = ("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing")
_WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred")
_KV_USED = (
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "sglang:token_usage",
    "llamacpp:kv_cache_usage_ratio",
)
_SAMPLE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{[^}]*\})?\s+(\S+)", re.MULTILINE)
_CONTEXT_FIELDS = ("max_model_len", "context_length", "max_context_length", "context_window")


@dataclass(frozen=True)
class KnownModel:
    """A model in a server's list."""

    name: str
    context_length: int | None = None


class NoModelName(Exception):
    """Which name the server has for the model cannot be told; the message says what to do."""


class Probe:
    """Asks a server. Calls block; each has a time limit."""

    def __init__(self, url: str, *, ready_path: str, base_path: str, api_key: str | None) -> None:
        self._ready_path, self._models_path = ready_path, f"{base_path}/models"
        self._responses_path = f"{base_path}/responses"
        # A connection for each question: a kept one may have died between two of them.
        headers = {"Connection": "close", **({"Authorization": f"Bearer {api_key}"} if api_key else {})}
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=url, headers=headers, limits=limits, trust_env=False)

    def close(self) -> None:
        """Close what is open."""
        self._http.close()

    def unready(self, within_s: float) -> str | None:
        """Why it is not ready; null when it is."""
        try:
            answer = self._http.get(self._ready_path, timeout=within_s)
        except httpx.TransportError as error:
            return f"GET {self._ready_path}: {type(error).__name__}: {error}"
        if answer.is_success:
            return None
        return f"GET {self._ready_path}: status {answer.status_code}"

    def models(self, within_s: float) -> list[KnownModel]:
        """Its list; empty where it has none or what it sends is none."""
        try:
            answer = self._http.get(self._models_path, timeout=within_s)
            return known_models(answer.json()) if answer.is_success else []
        except (httpx.TransportError, ValueError):
            return []

    def has_responses(self, within_s: float) -> bool:
        """Whether it answers `/responses`: it then complains of a request that asks nothing."""
        try:
            status = self._http.post(self._responses_path, json={}, timeout=within_s).status_code
        except httpx.TransportError:
            return False
        return status in (200, 400, 413, 422)

    def figures(self, within_s: float) -> "ServerFigures | None":
        """What its metrics say; null where it has none."""
        try:
            answer = self._http.get("/metrics", timeout=within_s)
        except httpx.TransportError:
            return None
        return read_metrics(answer.text) if answer.is_success else None


def known_models(page: Any) -> list[KnownModel]:
    """OpenAI's list of models, with the context length under the names that servers give it."""
    items = page.get("data") if isinstance(page, dict) else None
    found = []
    for item in items if isinstance(items, list) else []:
        if isinstance(item, dict) and isinstance(item.get("id"), str):
            meta = item.get("meta")
            of_meta = meta.get("n_ctx") if isinstance(meta, dict) else None
            lengths = [*(item.get(name) for name in _CONTEXT_FIELDS), of_meta]
            length = next((n for n in lengths if isinstance(n, int) and n > 0), None)
            found.append(KnownModel(item["id"], length))
    return found


def model_named(wanted: str | None, model_id: str, known: list[KnownModel]) -> KnownModel:
    """What the server calls our model: what the operator said, else our id, else the only one that it has.

    Raises NoModelName.
    """
    by_name = {model.name: model for model in known}
    if wanted is not None:
        # A server may know a name that it does not list; it will say so itself if it does not.
        only = known[0].context_length if len(known) == 1 else None
        return by_name.get(wanted, KnownModel(wanted, only))
    if model_id in by_name:
        return by_name[model_id]
    if len(known) == 1:
        return known[0]
    listed = ", ".join(sorted(by_name)[:8]) or "none"
    raise NoModelName(
        f"the server lists {listed}, and none of them is {model_id}; set ENGINE_MODEL_NAME to its name for it"
    )


@dataclass(frozen=True)
class ServerFigures:
    """How busy a server says it is; null where it does not say."""

    running: int | None = None
    waiting: int | None = None
    kv_used: float | None = None

    def as_engine_figures(self) -> EngineFigures:
        """In the worker's terms."""
        return EngineFigures(batch_rows=self.running, kv_used=self.kv_used)

    def onto(self, load: WorkerLoad) -> WorkerLoad:
        """The worker's own count, corrected by what the server says waits in its own queue."""
        if self.waiting is None:
            return load
        waiting = min(self.waiting, load.in_flight)
        return load.model_copy(
            update={"in_flight": load.in_flight - waiting, "queued": load.queued + waiting}
        )


def read_metrics(page: str) -> ServerFigures:
    """The figures in a page of Prometheus's text form. Several series of one name are summed up."""
    sums: dict[str, float] = {}
    for name, value in _SAMPLE.findall(page):
        if ":" in name:
            try:
                sums[name] = sums.get(name, 0.0) + float(value)
            except ValueError:
                continue

    def first(names: tuple[str, ...]) -> float | None:
        return next((sums[name] for name in names if name in sums), None)

    running, waiting = first(_RUNNING), first(_WAITING)
    return ServerFigures(
        running=None if running is None else int(running),
        waiting=None if waiting is None else int(waiting),
        kv_used=first(_KV_USED),
    )
