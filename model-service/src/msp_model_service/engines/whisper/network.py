"""The forward passes: windows through the encoder, rows of tokens through the decoder.

Each row is one window that is being written down, at a position of its own. What attention needs of a row is
kept in place; rows in use are always the first ones, so that a pass works on views.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

_CPU_ROWS, _GPU_ROWS = 8, 16
_CPU_BYTES = 1 << 30
"""For what rows keep, on a CPU."""

_GPU_SHARE = 0.5
"""Of the memory that is free after loading, for what rows keep."""


class Network:
    """A loaded Whisper model as passes over rows. Not for several threads."""

    def __init__(self, model: Any) -> None:
        self._model, self._decoder = model, model.model.decoder
        config = model.config
        self._heads: int = config.decoder_attention_heads
        self._width: int = config.d_model // self._heads
        self._layers: int = config.decoder_layers
        self._own_length, self._heard_length = config.max_target_positions, config.max_source_positions
        self._on_gpu = model.device.type == "cuda"
        self._kept: list[torch.Tensor] = []
        self._capacity = 0
        self.max_rows = self._rows_that_fit()
        self.windows_per_pass = 4 if self._on_gpu else 1
        """A CPU is busy with one window; a GPU is not."""

    @torch.inference_mode()
    def encode(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """What the encoder makes of windows: each (1, frames, width)."""
        batch = torch.cat(list(features)).to(self._model.device, self._model.dtype)
        return list(self._model.model.encoder(batch).last_hidden_state.split(1))

    @torch.inference_mode()
    def hear(self, row: int, encoded: torch.Tensor) -> None:
        """Give the row a window to attend to."""
        self._make_room(row + 1)
        for number, layer in enumerate(self._decoder.layers):
            keys, values = self._heard(number)
            keys[row] = self._by_head(layer.encoder_attn.k_proj(encoded))[0]
            values[row] = self._by_head(layer.encoder_attn.v_proj(encoded))[0]

    @torch.inference_mode()
    def move(self, source: int, target: int, length: int) -> None:
        """Put what a row keeps, `length` tokens of its own, in another row's place."""
        for number in range(self._layers):
            for kept in self._heard(number):
                kept[target] = kept[source]
            for kept in self._own(number):
                kept[target, :, :length] = kept[source, :, :length]

    @torch.inference_mode()
    def read(self, row: int, tokens: Sequence[int], wanted: Sequence[int]) -> torch.Tensor:
        """Logits after the tokens at the places `wanted`, the row's earlier tokens forgotten."""
        ids = torch.tensor([list(tokens)], device=self._model.device)
        states = self._forward(row, ids, [0], {}, [])
        return self._logits(states[0, list(wanted)])

    @torch.inference_mode()
    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> torch.Tensor:
        """Logits after one more token of each of the first rows: (rows, vocabulary)."""
        ids = torch.tensor(tokens, device=self._model.device)[:, None]
        return self._logits(self._forward(0, ids, positions, {}, [])[:, 0])

    @torch.inference_mode()
    def attention(
        self, row: int, tokens: Sequence[int], heads: Mapping[int, Sequence[int]], frames: int
    ) -> torch.Tensor:
        """How much each token attends to each of the first `frames`: (heads, tokens, frames).

        `heads` are layer → heads. Forgets the row's tokens.
        """
        seen: list[torch.Tensor] = []
        ids = torch.tensor([list(tokens)], device=self._model.device)
        self._forward(row, ids, [0], heads, seen)
        return torch.cat(seen)[..., :frames].float().softmax(-1).cpu()

    def _forward(
        self,
        first: int,
        ids: torch.Tensor,
        positions: Sequence[int],
        watched: Mapping[int, Sequence[int]],
        seen: list[torch.Tensor],
    ) -> torch.Tensor:
        count, length = ids.shape
        rows, device = slice(first, first + count), ids.device
        places = torch.tensor(positions, device=device)[:, None] + torch.arange(length, device=device)
        owners = torch.arange(first, first + count, device=device)[:, None]
        until = max(positions) + length
        visible = torch.arange(until, device=device) <= places[:, None, :, None]
        states = self._decoder.embed_tokens(ids) + self._decoder.embed_positions.weight[places]
        for number, layer in enumerate(self._decoder.layers):
            normed = layer.self_attn_layer_norm(states)
            keys, values = self._own(number)
            keys[owners, :, places] = self._split(layer.self_attn.k_proj(normed))
            values[owners, :, places] = self._split(layer.self_attn.v_proj(normed))
            asked = self._asked(layer.self_attn, normed)
            found = functional.scaled_dot_product_attention(
                asked, keys[rows, :, :until], values[rows, :, :until], attn_mask=visible, scale=1.0
            )
            states = states + layer.self_attn.out_proj(found.transpose(1, 2).flatten(2))
            asked = self._asked(layer.encoder_attn, layer.encoder_attn_layer_norm(states))
            keys, values = (kept[rows] for kept in self._heard(number))
            if number in watched:
                chosen = list(watched[number])
                seen.append(asked[0, chosen] @ keys[0, chosen].transpose(-1, -2))
            found = functional.scaled_dot_product_attention(asked, keys, values, scale=1.0)
            states = states + layer.encoder_attn.out_proj(found.transpose(1, 2).flatten(2))
            inner = layer.activation_fn(layer.fc1(layer.final_layer_norm(states)))
            states = states + layer.fc2(inner)
        result: torch.Tensor = self._decoder.layer_norm(states)
        return result

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model.proj_out(states)
        return logits.float()

    def _asked(self, attention: Any, states: torch.Tensor) -> torch.Tensor:
        return self._by_head(attention.q_proj(states) * attention.scaling)

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        return states.view(*states.shape[:-1], self._heads, self._width)

    def _by_head(self, states: torch.Tensor) -> torch.Tensor:
        return self._split(states).transpose(1, 2)

    def _own(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._kept[4 * layer], self._kept[4 * layer + 1]

    def _heard(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._kept[4 * layer + 2], self._kept[4 * layer + 3]

    def _make_room(self, rows: int) -> None:
        """Memory grows with the load, and is kept."""
        if rows <= self._capacity:
            return
        capacity = min(self.max_rows, max(rows, 2 * self._capacity))
        lengths = [self._own_length, self._own_length, self._heard_length, self._heard_length]
        for index in range(4 * self._layers):
            # Zeros: what a mask hides must still be a number.
            larger = torch.zeros(
                (capacity, self._heads, lengths[index % 4], self._width),
                dtype=self._model.dtype,
                device=self._model.device,
            )
            if self._kept[index : index + 1]:
                larger[: self._capacity] = self._kept[index]
                self._kept[index] = larger
            else:
                self._kept.append(larger)
        self._capacity = capacity

    def _rows_that_fit(self) -> int:
        size: int = self._model.dtype.itemsize
        lengths: int = 2 * (self._own_length + self._heard_length)
        row_bytes: int = self._layers * self._heads * self._width * lengths * size
        if not self._on_gpu:
            return max(1, min(_CPU_ROWS, _CPU_BYTES // row_bytes))
        free, _ = torch.cuda.mem_get_info(self._model.device)
        return max(1, min(_GPU_ROWS, int(free * _GPU_SHARE) // row_bytes))
