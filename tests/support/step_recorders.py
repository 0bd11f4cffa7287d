"""Step recorders that need no GPU, and are as blind as one to Python and to any but the same tensors."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Step = Callable[[], None]

_WAITS = (
    *("item", "_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "unique_consecutive"),
    *("_unique2", "bincount", "lift_fresh", "lift_fresh_copy"),
)
"""Operations that make a GPU wait for the host, the other way round, or shape tensors by contents."""


class NotRecordable(RuntimeError):
    """A step does what a CUDA graph cannot hold."""


@dataclass
class Rerunning:
    """Records nothing: runs the step again, Python and all."""

    recorded: int = 0
    repeated: int = 0
    forgotten: int = 0

    def record(self, step: Step) -> Step:
        """See StepRecorder."""
        self.recorded += 1
        step()
        return lambda: self._repeat(step)

    def forget(self) -> None:
        """See StepRecorder."""
        self.forgotten += 1

    def _repeat(self, step: Step) -> None:
        self.repeated += 1
        step()


@dataclass
class Refusing(Rerunning):
    """Every recording fails, after the step has run."""

    error: Exception = field(default_factory=lambda: torch.OutOfMemoryError("no memory for a graph"))

    def record(self, step: Step) -> Step:
        """See StepRecorder."""
        super().record(step)
        raise self.error


class BreakingLater(Rerunning):
    """Recordings can be repeated a few times only."""

    def __init__(self, repeats: int, error: Exception) -> None:
        super().__init__()
        self._left, self._error = repeats, error

    def _repeat(self, step: Step) -> None:
        if not self._left:
            raise self._error
        self._left -= 1
        super()._repeat(step)


class Forgetful(Rerunning):
    """A recorder that is broken: what it repeats does nothing."""

    def _repeat(self, step: Step) -> None:
        self.repeated += 1


class Taping(Rerunning):
    """What a CUDA graph is, on a CPU: operations with their tensors, repeated in order without any Python.

    What lay between them is spoilt before they are repeated.
    """

    def record(self, step: Step) -> Step:
        """See StepRecorder. Raises NotRecordable."""
        self.recorded += 1
        step()
        tape = _Tape()
        with tape:
            step()
        return lambda: self._play(tape)

    def _play(self, tape: "_Tape") -> None:
        self.repeated += 1
        tape.play()


class Elsewhere(Rerunning):
    """For models on the `meta` device, which stands for a GPU: a step may not take anything from the host."""

    def record(self, step: Step) -> Step:
        """See StepRecorder. Raises NotRecordable."""
        self.recorded += 1
        step()
        with _NothingMade(), _OnOneDevice():  # type: ignore[no-untyped-call]
            step()
        return lambda: self._repeat(step)


class _OnOneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types there
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = _tensors((args, kwargs or {}))
        if func._opname in _WAITS or any(one.device.type == "cpu" for one in given):
            raise NotRecordable(f"{func} in a step")
        return func(*args, **(kwargs or {}))


class _NothingMade(TorchFunctionMode):
    """`torch.tensor` on `meta` is no operation that could be seen."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.tolist):
            raise NotRecordable(f"{func} in a step")
        return func(*args, **(kwargs or {}))


@dataclass
class _Operation:
    run: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    out: Any
    made: list[bool]
    """Which of its tensors are new memory, not a view of something or what was written in place."""


class _Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types there
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations: list[_Operation] = []
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        by_contents = func._opname == "index" and any(
            one.dtype is torch.bool for one in given[1:] if one is not None
        )
        if func._opname in _WAITS or by_contents:
            raise NotRecordable(f"{func} in a step")
        self._known |= {_memory(one) for one in given}
        out = func(*args, **kwargs)
        made = [_memory(one) not in self._known for one in _tensors(out)]
        self._known |= {_memory(one) for one in _tensors(out)}
        # Keeping everything keeps addresses apart, as a graph's own pool of memory does.
        self._operations.append(_Operation(func, args, kwargs, out, made))
        return out

    def play(self) -> None:
        for one in self._operations:
            for tensor, made in zip(_tensors(one.out), one.made, strict=True):
                if made:
                    tensor.fill_(float("nan") if tensor.is_floating_point() else 1)
        for one in self._operations:
            fresh = one.run(*one.args, **one.kwargs)
            for old, new, made in zip(_tensors(one.out), _tensors(fresh), one.made, strict=True):
                if made:
                    old.copy_(new)


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _memory(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
