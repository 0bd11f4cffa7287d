"""What records a decode step, so that the GPU can repeat it without being told every kernel anew."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import torch


class StepRecorder(Protocol):
    """Records steps that read and write the same tensors every time."""

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """What repeats `step`, as a function without Python in it: later, only tensors' contents may differ.

        Runs `step` at least once, or not at all if it raises; what it wrote by then is not to be relied on.
        Raises whatever stands in the way, a wait for the device in the middle of the step above all.
        """

    def forget(self) -> None:
        """Nothing that was recorded so far will be repeated again."""


class CudaStepRecorder:
    """CUDA graphs, all in one pool of memory: they never run at the same time. For one thread at a time."""

    def __init__(self, device: torch.device) -> None:
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        """See StepRecorder."""
        here = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(here)
        try:
            # This context too: where the end of a failed capture raises, that of the capture does not give
            # the stream back.
            with torch.cuda.stream(self._stream):
                # Libraries make their workspaces in the first pass on a stream, which cannot be recorded.
                with _refusing_to_wait():
                    step()
                graph = self._captured(step)
        finally:
            here.wait_stream(self._stream)
        return graph.replay

    def _captured(self, step: Callable[[], None]) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(
                graph,
                pool=self._pool,
                stream=self._stream,
                # Only this thread's doings concern the capture.
                capture_error_mode="thread_local",
            ):
                step()
        except BaseException:
            # The end of an invalid capture raises before the allocator hears of it, which would then never
            # again give back what it keeps when memory is short. It refuses where it did hear.
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(self._stream.device_index, self._pool)
            raise
        return graph

    def forget(self) -> None:
        """See StepRecorder."""
        # A pool whose last graph is gone cannot be used again.
        self._pool = torch.cuda.graph_pool_handle()


@contextmanager
def _refusing_to_wait() -> Iterator[None]:
    """What waits for the GPU raises. In a capture it would too, but leave that and the allocator in disorder.

    Holds for all threads; in a worker, no other one waits for the GPU while its engine works.
    """
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def recorder_for(device: torch.device) -> StepRecorder | None:
    """None where steps are not worth recording: a CPU launches nothing."""
    return CudaStepRecorder(device) if device.type == "cuda" else None
