"""A start from which a small transformer copies: the two attention heads that do it are laid out by hand.

Models of this size learn facts in minutes, but are slow to find the circuit that copies a name out of the
conversation: a head that looks one token back, and one in the next layer that looks for what followed the
same token before. Laid out at the start, it is there to build on; all weights stay trainable.
"""

import math

import torch
from torch import Tensor
from transformers import Qwen2ForCausalLM

NEXT_TO_EACH_OTHER = 4
"""How many of a head's rotary frequencies, the fastest, tell one token from its neighbours."""
SLOW_FROM = 6
"""The first frequency (at rope_theta 1e6) that turns so little that tokens hundreds apart still match."""


@torch.no_grad()
def lay_out_copying(model: Qwen2ForCausalLM) -> None:
    """Overwrite one query head per key-value head in the first two layers.

    First layer: attends to the token before (by biases alone) and writes its code beside the token's own.
    Second layer: asks with the own token's code for that written code, and passes on the token found there.
    """
    config = model.config
    size = config.hidden_size // config.num_attention_heads
    groups = config.num_key_value_heads
    basis, _ = torch.linalg.qr(torch.randn(config.hidden_size, config.hidden_size))
    read, written = basis[:, : size * groups].T, basis[:, size * groups : 2 * size * groups]
    first, second = (model.model.layers[nth].self_attn for nth in (0, 1))
    for group in range(groups):
        kv = slice(group * size, (group + 1) * size)
        head = group * config.num_attention_heads // groups
        query = slice(head * size, (head + 1) * size)
        own, code = read[kv], written[:, kv]

        here, before = _neighbour_biases(size, config.rope_parameters["rope_theta"])
        first.q_proj.weight[query], first.q_proj.bias[query] = 0.0, here
        first.k_proj.weight[kv], first.k_proj.bias[kv] = 0.0, before
        first.v_proj.weight[kv] = own
        first.o_proj.weight[:, query] = 0.2 * code

        slow = (torch.arange(size) % (size // 2) >= SLOW_FROM).float()[:, None]
        second.q_proj.weight[query] = 1.7 * slow * own
        second.k_proj.weight[kv] = 1.7 * slow * code.T
        second.v_proj.weight[kv] = own
        second.o_proj.weight[:, query] = 0.5 * own.T


def _neighbour_biases(size: int, theta: float) -> tuple[Tensor, Tensor]:
    """A query and a key, (size,) each, whose rotary score is highest when the key stands one place before."""
    half = size // 2
    turn = torch.tensor([theta ** (-nth / half) for nth in range(half)])
    strength = torch.where(torch.arange(half) < NEXT_TO_EACH_OTHER, math.sqrt(36.0), 0.0)
    query = torch.cat([strength, torch.zeros(half)])
    # Rotating the key on by one place makes it meet the query of the place after.
    key = torch.cat([strength * turn.cos(), strength * turn.sin()])
    return query, key
