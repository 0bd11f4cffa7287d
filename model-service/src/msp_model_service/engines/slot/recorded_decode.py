"""Decode steps that are recorded once and repeated: small models wait for launches more than for sums.

Used on GPUs only. A recording holds addresses of the cache's tensors, so it ends with them.
"""

import logging
from collections.abc import Callable, Sequence

import torch

from msp_model_service.engines.slot.kv_cache import SlotCache
from msp_model_service.engines.slot.masks import Masks
from msp_model_service.engines.slot.static_step import (
    NextLogits,
    StaticRows,
    StaticStep,
    rows_for,
    view_for,
)
from msp_model_service.engines.slot.step_recorder import StepRecorder

log = logging.getLogger(__name__)

MOST_STEPS = 64
"""Forms of the step (rows, view) that are kept; one more, and all are met anew."""


class RecordedDecode:
    """Decodes as long as nothing stands in the way; from then on it leaves that to whoever asked."""

    def __init__(
        self,
        recorder: StepRecorder,
        *,
        cache: SlotCache,
        masks: Masks,
        next_logits: NextLogits,
        device: torch.device,
        most: int = MOST_STEPS,
    ) -> None:
        self.note: str | None = None
        """Why steps are not recorded (any more); None while they are."""
        self.repeated = 0
        """Steps that were repeated from a recording."""
        self.most = most
        self._recorder = recorder
        self._cache, self._masks, self._next_logits = cache, masks, next_logits
        self._device = device
        self._generation = cache.generation
        self._rows: dict[int, StaticRows] = {}
        self._steps: dict[tuple[int, int], StaticStep] = {}
        if masks.additive or masks.window is not None:
            self.give_up("its layers do not all look at everything through one mask")

    def decode(self, token_ids: Sequence[int], positions: Sequence[int]) -> torch.Tensor | None:
        """Logits [rows, vocabulary] of the cache's first rows, until the next call; None: do it yourself.

        What a recording raises when it is repeated is raised here, and it is not repeated again.
        """
        if self.note is not None:
            return None
        repeat: Callable[[], None] | None
        try:
            step, is_new = self._step(len(token_ids), max(positions) + 1)
            step.rows.fill(token_ids, positions)
            if is_new:
                # Many forms are met only once; and what models and libraries make at first use is made now.
                step.run()
                repeat = None
            else:
                repeat = step.repeat = step.repeat or self._recorder.record(step.run)
        except Exception as error:  # noqa: BLE001 - if it is more than the recording, so will the plain step say
            self.give_up(f"recording one failed: {_in_a_line(error)}")
            return None
        if repeat is not None:
            self._repeat(repeat)
        logits = step.rows.logits
        return None if logits is None else logits[: len(token_ids)]

    def give_up(self, reason: str) -> None:
        """For good. Told once."""
        if self.note is None:
            self.note = f"decode steps run without CUDA graphs: {reason}"
            log.warning("%s", self.note)
        self._forget()

    def _repeat(self, repeat: Callable[[], None]) -> None:
        try:
            repeat()
        except Exception as error:
            self.give_up(f"repeating one failed: {_in_a_line(error)}")
            raise
        self.repeated += 1

    def _step(self, count: int, length: int) -> tuple[StaticStep, bool]:
        """The step for so many rows, the longest so long after it; and whether it was not met before."""
        if self._generation != self._cache.generation:
            self._forget()
        shape = self._cache.shape
        form = rows_for(count, shape.rows), view_for(length, shape.capacity)
        step = self._steps.get(form)
        if step is not None:
            return step, False
        if len(self._steps) >= self.most:
            # All of them: the memory that recordings share is only given back as a whole.
            self._forget()
        rows = self._rows.get(form[0])
        if rows is None:
            rows = self._rows[form[0]] = StaticRows(form[0], self._device)
        step = self._steps[form] = StaticStep(
            rows, form[1], cache=self._cache, masks=self._masks, next_logits=self._next_logits
        )
        return step, True

    def _forget(self) -> None:
        """All forms: the tensors whose places they know are gone."""
        self._generation = self._cache.generation
        if self._steps:
            self._steps.clear()
            self._rows.clear()
            self._recorder.forget()


def _in_a_line(error: Exception) -> str:
    """CUDA's errors come with pages of advice for programmers."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
