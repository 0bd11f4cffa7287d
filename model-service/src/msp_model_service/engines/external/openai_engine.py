"""An external server as the worker's engine: started, watched and stopped, and asked over OpenAI's wire."""

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_common.errors import TooManyRequests, Unavailable
from msp_model_service.engines.external.child_environment import child_environment
from msp_model_service.engines.external.probing import KnownModel, NoModelName, Probe, model_named
from msp_model_service.engines.external.server_plan import LISTENS_ON, ServerPlan
from msp_model_service.engines.external.server_process import ServerProcess, free_port
from msp_model_service.engines.external.upstream import HttpAnswer, Upstream
from msp_model_service.engines.external.watch import Watch
from msp_model_service.engines.figures import EngineFigures
from msp_model_service.engines.lifecycle import EngineLoadFailed, OnPhase
from msp_model_service.engines.speed import Speed
from msp_model_service.engines.wire_engine import WireRequest

log = logging.getLogger(__name__)

_ASK_WHILE_STARTING_EVERY_S = 0.25
_RESPONSES = "/v1/responses"
"""Not all servers have it."""


@dataclass
class _Server:
    """A server that is being loaded, or serves."""

    probe: Probe
    process: ServerProcess | None = None
    upstream: Upstream | None = None
    watch: Watch | None = None
    model: KnownModel = field(default_factory=lambda: KnownModel(""))
    has_responses: bool = False


class OpenAiEngine:
    """See WireEngine. `ours` are the names of the worker's settings, which no server gets to see."""

    name = "openai"

    def __init__(
        self,
        plan: ServerPlan,
        model_type: ModelType,
        *,
        ours: Collection[str] = (),
        inherited: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan = plan
        self._type = model_type
        self._ours = ours
        self._inherited = inherited
        self._clock = clock
        self._server: _Server | None = None
        self._unloaded = threading.Event()
        self._open = 0
        self._speed = Speed(clock)

    # Engine

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """See Engine: start the server, wait until it is ready, and learn what it calls the model."""
        plan = self._plan
        on_phase("server start", None)
        port = 0 if plan.url else free_port()
        url = plan.url or f"http://{LISTENS_ON}:{port}"
        probe = Probe(url, ready_path=plan.ready_path, base_path=plan.base_path, api_key=plan.api_key)
        server = self._server = _Server(probe)
        if not plan.url:
            server.process = ServerProcess(
                plan.command_for(folder, port),
                self._environment(),
                plan.pace.stop_within_s,
                # What the watch asks every other second is no news in the server's access log.
                quiet=[f"GET {path} " for path in (plan.ready_path, "/metrics")],
            )
        on_phase("server ready", None)
        self._wait_until_ready(server)
        on_phase("server models", None)
        try:
            server.model = model_named(
                plan.model_name_for(folder, port), plan.model_id, probe.models(plan.pace.answer_within_s)
            )
        except NoModelName as error:
            raise EngineLoadFailed(str(error)) from None
        server.has_responses = self._type.chats and probe.has_responses(plan.pace.answer_within_s)
        server.upstream = Upstream(url, base_path=plan.base_path, api_key=plan.api_key)
        server.watch = Watch(probe, plan.pace)
        server.watch.start()
        log.info("the server at %s serves %s as %r", url, plan.model_id, server.model.name)

    def unload(self) -> None:
        """See Engine."""
        self._unloaded.set()
        server, self._server = self._server, None
        if server is None:
            return
        # First the process: what it is still asked fails at once then, and the watch need not wait for it.
        if server.process is not None:
            server.process.stop()
        if server.watch is None or server.watch.stop():
            server.probe.close()

    def capabilities(self) -> Capabilities:
        """See Engine. What a server cannot say of itself, the operator says."""
        features, server = self._plan.features, self._server
        known = server.model.context_length if server is not None else None
        return Capabilities(
            paths=[
                path
                for path in self._type.paths
                if path != _RESPONSES or (server is not None and server.has_responses)
            ],
            input_modalities=_modalities(self._type),
            context_length=self._plan.context_length or known,
            tools="tools" in features,
            json_schema="json_schema" in features,
            logprobs="logprobs" in features,
        )

    def load_now(self) -> WorkerLoad:
        """See Engine: the worker's own count; where the server tells its queue, that too."""
        slots = self._plan.slots
        load = WorkerLoad(
            in_flight=min(self._open, slots),
            queued=max(0, self._open - slots),
            slots=slots,
            tokens_per_s=self._speed.tokens_per_s(),
        )
        figures = self._server.watch.figures() if self._server and self._server.watch else None
        return figures.onto(load) if figures is not None else load

    def problem(self) -> str | None:
        """See Engine."""
        server = self._server
        if server is None:
            return None
        ended = server.process.ended() if server.process is not None else None
        return ended or (server.watch.problem() if server.watch is not None else None)

    def figures(self) -> EngineFigures:
        """See TellsFigures."""
        server = self._server
        figures = server.watch.figures() if server is not None and server.watch is not None else None
        return figures.as_engine_figures() if figures is not None else EngineFigures()

    # WireEngine

    @property
    def model_name(self) -> str:
        """See WireEngine."""
        return self._server.model.name if self._server is not None else self._plan.model_id

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """See WireEngine."""
        limit = self._plan.slots + self._plan.max_queued
        if self._open >= limit:
            raise TooManyRequests(
                f"{self._open} requests are being worked on or wait; try again later.", retry_after_s=1
            )
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    def note_tokens(self, tokens: int) -> None:
        """See WireEngine."""
        self._speed.note(tokens)

    async def open(self, request: WireRequest) -> HttpAnswer:
        """See WireEngine."""
        server = self._server
        if server is None or server.upstream is None:
            raise Unavailable("The model's server has been stopped.")
        return await server.upstream.open(request, model_name=server.model.name, model_id=self._plan.model_id)

    # Its parts

    def _environment(self) -> dict[str, str]:
        # Read only now: the worker sets variables for libraries at its own start, which a server needs too.
        inherited = os.environ if self._inherited is None else self._inherited
        return child_environment(inherited, ours=self._ours, given=self._plan.environment)

    def _wait_until_ready(self, server: _Server) -> None:
        plan = self._plan
        began = self._clock()
        while True:
            if server.process is not None and (ended := server.process.ended()):
                raise EngineLoadFailed(f"{ended}; check ENGINE_COMMAND")
            unready = server.probe.unready(plan.pace.answer_within_s)
            if unready is None:
                return
            if self._clock() - began > plan.start_timeout_s:
                raise EngineLoadFailed(
                    f"the server was not ready within {plan.start_timeout_s:g} s: {unready}; "
                    "see ENGINE_START_TIMEOUT_S and ENGINE_READY_PATH"
                )
            if self._unloaded.wait(_ASK_WHILE_STARTING_EVERY_S):
                raise EngineLoadFailed("the worker ends")


def _modalities(model_type: ModelType) -> list[Literal["text", "image", "audio"]]:
    match model_type:
        case ModelType.MULTIMODAL:
            return ["text", "image"]
        case ModelType.TRANSCRIPTION:
            return ["audio"]
        case _:
            return ["text"]
