"""Keys and values of all rows, in the form that transformers' models write to and read from.

Per layer one tensor [rows, heads, capacity, width] each. Before a forward pass it is said which rows it is
about: pieces of some rows' prompts, or the next token of a block of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from msp_model_service.engines.slot.scheduler import Geometry

KeysAndValues = tuple[torch.Tensor, torch.Tensor]


class Place(Protocol):
    """Which rows a forward pass is about, and where in them; of a layer's keys, then of its values."""

    def write(self, held: torch.Tensor, new: torch.Tensor) -> None:
        """Put what the layer made of the tokens into what it holds."""

    def read(self, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """What the tokens may look at."""


@dataclass(frozen=True)
class Piece:
    """`count` tokens of one row's prompt, from position `start` on."""

    row: int
    start: int
    count: int

    @property
    def stop(self) -> int:
        """The position behind the last."""
        return self.start + self.count


@dataclass(frozen=True)
class Pieces:
    """Pieces of several rows' prompts, one behind the other as if they were one text."""

    pieces: tuple[Piece, ...]

    def write(self, held: torch.Tensor, new: torch.Tensor) -> None:
        at = 0
        for piece in self.pieces:
            held[piece.row, :, piece.start : piece.stop] = new[0, :, at : at + piece.count]
            at += piece.count

    def read(self, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        """Of each piece all that its row holds up to its end, one behind the other."""
        if not any(piece.start for piece in self.pieces):
            return new
        seen = [held[piece.row : piece.row + 1, :, : piece.stop] for piece in self.pieces]
        return seen[0] if len(seen) == 1 else torch.cat(seen, dim=2)


class NextTokens:
    """One token each at `positions`, from row `first` on."""

    def __init__(self, first: int, positions: Sequence[int], device: torch.device) -> None:
        self.first, self.count = first, len(positions)
        self.length = max(positions) + 1
        """That of the longest row, after it."""
        self.positions = torch.tensor(positions, device=device)
        self._places: dict[tuple[int, int], torch.Tensor] = {}

    def write(self, held: torch.Tensor, new: torch.Tensor) -> None:
        _, heads, capacity, width = held.shape
        places = self._places.get((heads, capacity))
        if places is None:
            # The same in every layer of this shape: worked out once per step.
            rows = torch.arange(self.first, self.first + self.count, device=held.device)[:, None]
            by_head = (rows * heads + torch.arange(heads, device=held.device)) * capacity
            places = self._places[heads, capacity] = (by_head + self.positions[:, None]).flatten()
        held.view(-1, width).index_copy_(0, places, new.reshape(-1, width))

    def read(self, held: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        return held[self.first : self.first + self.count, :, : self.length]


class SlotLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers has no types
    """One layer. Its tensors are made when the model first writes: only then their shape is known."""

    is_sliding = False

    keys: torch.Tensor | None
    values: torch.Tensor | None

    def __init__(self, cache: "SlotCache") -> None:
        super().__init__()
        self._cache = cache
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> KeysAndValues:
        """Called by the model's attention."""
        if self.keys is None or self.values is None:
            self.keys, self.values = (
                _zeros(self._cache.shape, key_states),
                _zeros(self._cache.shape, value_states),
            )
        at = self._cache.at
        at.write(self.keys, key_states)
        at.write(self.values, value_states)
        return at.read(self.keys, key_states), at.read(self.values, value_states)

    def rebuild(self, shape: Geometry, sources: Sequence[tuple[int, int]]) -> None:
        """New tensors; row i gets the first `length` positions of an old row, (row, length) = sources[i]."""
        if self.keys is None:
            return
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = _zeros(shape, old)
            for row, (source, length) in enumerate(sources):
                new[row, :, :length] = old[source, :, :length]
            setattr(self, name, new)

    # The model asks these for masks and positions, which it is always given explicitly.

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """See CacheLayerMixin."""

    def get_seq_length(self) -> int:
        """See CacheLayerMixin."""
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """See CacheLayerMixin."""
        return query_length, 0

    def get_max_length(self) -> int:
        """See CacheLayerMixin."""
        return -1


class SlotCache(Cache):  # type: ignore[misc]  # transformers has no types
    """The cache that is handed to the model. `at` is set before every forward pass."""

    def __init__(self, layers: int, shape: Geometry) -> None:
        super().__init__(layers=[SlotLayer(self) for _ in range(layers)])
        self.shape = shape
        self.generation = 0
        """Grows whenever the layers' tensors become others."""
        self.at: Place = Pieces(())

    def rebuild(self, shape: Geometry, sources: Sequence[tuple[int, int]]) -> None:
        """Change the shape; row i gets the first `length` positions of the row in sources[i]."""
        self.shape = shape
        self.generation += 1
        for layer in self.layers:
            layer.rebuild(shape, sources)

    def clear(self, shape: Geometry) -> None:
        """Forget everything and give the memory back."""
        self.shape = shape
        self.generation += 1
        for layer in self.layers:
            layer.keys = layer.values = None

    def copy(self, source: int, target: int, length: int) -> None:
        """The first `length` positions of one row into another."""
        if source == target or not length:
            return
        for held in self._tensors():
            held[target, :, :length] = held[source, :, :length]

    def swap(self, one: int, other: int, one_length: int, other_length: int) -> None:
        """Exchange what two rows hold."""
        if one == other:
            return
        for held in self._tensors():
            kept = held[one, :, :one_length].clone()
            held[one, :, :other_length] = held[other, :, :other_length]
            held[other, :, :one_length] = kept

    def wipe(self, row: int) -> None:
        """Zero a row that holds what is no number: even masked, it would spoil its next owner's attention."""
        for held in self._tensors():
            held[row] = 0

    def bytes_per_position(self) -> int:
        """Of one row, all layers together; 0 before the first forward pass."""
        return sum(held[0, :, 0].numel() * held.element_size() for held in self._tensors())

    def _tensors(self) -> list[torch.Tensor]:
        return [
            held for layer in self.layers if layer.keys is not None for held in (layer.keys, layer.values)
        ]


def _zeros(shape: Geometry, like: torch.Tensor) -> torch.Tensor:
    """Zeros, not just any memory: what is masked is still multiplied, and NaN times 0 is NaN."""
    _, heads, _, width = like.shape
    return torch.zeros(shape.rows, heads, shape.capacity, width, dtype=like.dtype, device=like.device)
