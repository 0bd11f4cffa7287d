"""The best engine that fits: slot, and where that cannot serve the model, generate."""

import logging
from collections.abc import Sequence
from pathlib import Path

from msp_common.contracts.model_type import ModelType
from msp_common.contracts.workers import Capabilities, WorkerLoad
from msp_model_service.chat.conversation import Conversation
from msp_model_service.engines.chat import ChatEngine, Generation, GenerationRequest, PreparedPrompt
from msp_model_service.engines.figures import EngineFigures, TellsFigures
from msp_model_service.engines.generate_chat import GenerateChatEngine
from msp_model_service.engines.lifecycle import EngineOptions, OnPhase
from msp_model_service.engines.model_facts import ModelFacts, TellsModelFacts
from msp_model_service.engines.slot.fitness import SlotUnfit
from msp_model_service.engines.slot.slot_chat import SlotChatEngine

log = logging.getLogger(__name__)


class AutoChatEngine:
    """A ChatEngine that is another one; which, and why, its `capabilities` say."""

    def __init__(self, options: EngineOptions, model_type: ModelType) -> None:
        self._options = options
        self._model_type = model_type
        self._engine: ChatEngine = SlotChatEngine(options, model_type)
        self.name = self._engine.name
        self._note: str | None = None

    def load(self, folder: Path, on_phase: OnPhase) -> None:
        """See Engine."""
        try:
            self._engine.load(folder, on_phase)
        except SlotUnfit as error:
            log.warning("falling back to generate, one request at a time: %s", error)
            self._note = f"requests are answered one at a time: {error}"
        else:
            return
        # Outside the handler: the error's traceback holds the first model in memory.
        self._engine.unload()
        self._engine = GenerateChatEngine(self._options, self._model_type)
        self.name = self._engine.name
        self._engine.load(folder, on_phase)

    def unload(self) -> None:
        """See Engine."""
        self._engine.unload()

    def capabilities(self) -> Capabilities:
        """See Engine."""
        able = self._engine.capabilities()
        return able.model_copy(update={"engine_note": self._note or able.engine_note})

    def load_now(self) -> WorkerLoad:
        """See Engine."""
        return self._engine.load_now()

    def figures(self) -> EngineFigures:
        """See TellsFigures."""
        return self._engine.figures() if isinstance(self._engine, TellsFigures) else EngineFigures()

    def model_facts(self) -> ModelFacts:
        """See TellsModelFacts."""
        return self._engine.model_facts() if isinstance(self._engine, TellsModelFacts) else ModelFacts()

    def problem(self) -> str | None:
        """See Engine."""
        return self._engine.problem()

    async def prepare_chat(self, conversation: Conversation) -> PreparedPrompt:
        """See ChatEngine."""
        return await self._engine.prepare_chat(conversation)

    async def prepare_text(self, prompt: str | Sequence[int]) -> PreparedPrompt:
        """See ChatEngine."""
        return await self._engine.prepare_text(prompt)

    def generate(self, request: GenerationRequest) -> Generation:
        """See ChatEngine."""
        return self._engine.generate(request)
