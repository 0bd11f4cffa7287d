"""Train samples/chat: a Qwen2 model of 1.2 million parameters that answers, remembers and calls tools.

Takes about 21 minutes of one core of a Xeon with AVX-512, more by the clock where others use it too.
"""

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import GenerationConfig, Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer

import chat_corpus
from chat_alignment import Guide, Link, Links
from chat_copying import lay_out_copying
from chat_tokenizer import END_OF_TEXT, TURN_END, TURN_START, save_tokenizer, train_tokenizer

SAMPLES = Path(__file__).resolve().parents[1]
POSITIONS = 4096
TOKENS_PER_STEP = 4096
POOL = 384
"""Conversations drawn at once and sorted by length, so that a batch holds little padding."""
IGNORED = -100
DRILL_SHARE = 0.08
"""Share of examples that are copying drills: names, tool calls and tool answers all stand on copying."""
GUIDANCE = 0.3
"""Weight of the loss that shows which tool is called."""


class Phase(NamedTuple):
    steps: int
    peak: float
    """Share of the optimizers' learning rates."""
    decay_steps: int
    """Steps after which the learning rate would be nothing."""
    near_misses: float
    """Share of requests in vain for which there is a tool that nearly fits."""


class Plan(NamedTuple):
    corpus: int
    """Conversations that the tokenizer learns from."""
    phases: tuple[Phase, Phase]


FULL = Plan(
    corpus=20_000,
    phases=(
        Phase(steps=1500, peak=1.0, decay_steps=2200, near_misses=0.0),
        Phase(steps=1000, peak=0.4, decay_steps=1000, near_misses=0.8),
    ),
)
QUICK = Plan(
    corpus=2_000,
    phases=(
        Phase(steps=40, peak=1.0, decay_steps=60, near_misses=0.0),
        Phase(steps=20, peak=0.4, decay_steps=20, near_misses=0.8),
    ),
)


class Example(NamedTuple):
    ids: list[int]
    learnt: list[bool]
    """Which ids the model is to predict: what the assistant says, and that it then stops."""
    links: list[Link]
    """Where a tool's name is to be looked up."""


def render(tokenizer: Qwen2Tokenizer, conversation: chat_corpus.Conversation) -> str:
    text = tokenizer.apply_chat_template(
        conversation.messages,
        tools=conversation.tools,
        tokenize=False,
    )
    assert isinstance(text, str)
    return text


class Examples:
    """Conversations as token ids."""

    def __init__(self, tokenizer: Qwen2Tokenizer, rng: Random, near_misses: float) -> None:
        self._near_misses = near_misses
        self._tokenizer = tokenizer
        self._rng = rng
        self._links = Links(tokenizer)
        self._answer_start = tokenizer.encode(f"{TURN_START}assistant\n")
        self._answer_end = tokenizer.convert_tokens_to_ids(TURN_END)
        self.turn_start = tokenizer.convert_tokens_to_ids(TURN_START)

    def draw(self) -> Example:
        if self._rng.random() < DRILL_SHARE:
            return self._drill()
        if self._rng.random() < 0.04:
            ids = self._tokenizer.encode(chat_corpus.raw_text(self._rng) + END_OF_TEXT)
            return Example(ids, [True] * len(ids), [])
        long = self._rng.random() < 0.04
        conversation = chat_corpus.conversation(self._rng, long, self._near_misses)
        ids = self._tokenizer.encode(render(self._tokenizer, conversation))
        learnt = self._answers(ids)
        if not conversation.tools:
            return Example(ids, learnt, [])
        starts = [at - 1 for at in range(1, len(ids)) if learnt[at] and not learnt[at - 1]]
        names = (tool["function"]["name"] for tool in conversation.tools)
        return Example(ids, learnt, self._links.find(ids, names, starts))

    def _drill(self) -> Example:
        """Tokens without meaning, then the same again: what is left to learn is to copy."""
        once = [self._rng.randrange(self.turn_start) for _ in range(self._rng.randint(4, 30))]
        times = self._rng.randint(2, 3)
        learnt = [False] * (len(once) + 1) + [True] * (len(once) * (times - 1) - 1)
        return Example(once * times, learnt, [])

    def _answers(self, ids: list[int]) -> list[bool]:
        learnt = [False] * len(ids)
        speaking = False
        opening = len(self._answer_start)
        for at, token in enumerate(ids):
            learnt[at] = speaking
            if token == self._answer_end:
                speaking = False
            elif ids[at + 1 - opening : at + 1] == self._answer_start:
                speaking = True
        return learnt


class Batch(NamedTuple):
    """Three (rows, length) tensors, padded on the right."""

    ids: Tensor
    positions: Tensor
    targets: Tensor
    """The id that follows each position, or IGNORED."""
    links: Tensor
    """(links, 3): row, place that looks, place to look at."""


def batches(examples: Examples, rng: Random) -> Iterator[Batch]:
    """Batches of about TOKENS_PER_STEP tokens each, without end."""
    while True:
        pool = sorted((examples.draw() for _ in range(POOL)), key=lambda example: len(example.ids))
        groups: list[list[Example]] = [[]]
        for example in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(example.ids) > TOKENS_PER_STEP:
                groups.append([])
            groups[-1].append(example)
        rng.shuffle(groups)
        for group in groups:
            yield collate(group, examples.turn_start, rng)


def collate(group: Sequence[Example], turn_start: int, rng: Random) -> Batch:
    length = max(len(example.ids) for example in group)
    ids = torch.zeros(len(group), length, dtype=torch.long)
    positions = torch.zeros(len(group), length, dtype=torch.long)
    targets = torch.full((len(group), length), IGNORED)
    for row, example in enumerate(group):
        size = len(example.ids)
        ids[row, :size] = torch.tensor(example.ids)
        positions[row, :size] = torch.tensor(spread(example.ids, turn_start, rng))
        following = [
            token if learn else IGNORED for token, learn in zip(example.ids, example.learnt, strict=True)
        ]
        targets[row, : size - 1] = torch.tensor(following[1:])
    links = [(row, *link) for row, example in enumerate(group) for link in example.links]
    return Batch(ids, positions, targets, torch.tensor(links, dtype=torch.long).reshape(-1, 3))


def spread(ids: Sequence[int], turn_start: int, rng: Random) -> list[int]:
    """Positions for `ids`; in some conversations the turns lie as far apart as in a prompt of thousands.

    Rotary embeddings see only distances, so gaps between turns teach looking back far at the cost of a
    short text.
    """
    positions = list(range(len(ids)))
    turns = [at for at, token in enumerate(ids) if token == turn_start][1:]
    if not turns or rng.random() > 0.3:
        return positions
    spare = rng.randrange(POSITIONS - len(ids))
    cuts = sorted(rng.sample(turns, k=rng.randint(1, min(2, len(turns)))))
    for nth, cut in enumerate(cuts):
        gap = spare // len(cuts) if nth else spare - spare // len(cuts) * (len(cuts) - 1)
        for at in range(cut, len(ids)):
            positions[at] += gap
    return positions


def new_model(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    turn_end, end_of_text = (tokenizer.convert_tokens_to_ids(token) for token in (TURN_END, END_OF_TEXT))
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
        tie_word_embeddings=True,
        initializer_range=0.04,
        bos_token_id=end_of_text,
        eos_token_id=turn_end,
        pad_token_id=end_of_text,
    )
    model = Qwen2ForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(2.5)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.mul_(0.35)
            layer.mlp.down_proj.weight.mul_(0.35)
    lay_out_copying(model)
    model.generation_config = GenerationConfig(
        bos_token_id=end_of_text,
        pad_token_id=end_of_text,
        eos_token_id=[turn_end, end_of_text],
        do_sample=True,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
    )
    return model


def loss_of(model: Qwen2ForCausalLM, batch: Batch) -> Tensor:
    """Mean cross-entropy over the assistant's tokens; logits are computed for those alone."""
    hidden = model.model(
        input_ids=batch.ids,
        position_ids=batch.positions,
        # Said aloud, for without a mask the gaps between positions are taken for borders of packed texts.
        attention_mask=torch.ones_like(batch.ids),
        use_cache=False,
    ).last_hidden_state
    wanted = batch.targets != IGNORED
    logits = model.lm_head(hidden[wanted])
    return torch.nn.functional.cross_entropy(logits.float(), batch.targets[wanted])


def learning_rate(step: int, phase: Phase) -> float:
    """Share of the optimizers' rates: a short warm-up to the peak, then half a cosine towards nothing."""
    warm_up = max(1, phase.decay_steps // 30)
    if step < warm_up:
        return phase.peak * (step + 1) / warm_up
    return phase.peak * (0.5 + 0.5 * math.cos(math.pi * (step - warm_up) / (phase.decay_steps - warm_up)))


def optimizers(model: Qwen2ForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the layers, AdamW for embeddings, biases and norms."""
    named = list(model.named_parameters())
    matrices = [weights for name, weights in named if weights.ndim == 2 and "embed" not in name]
    others = [weights for name, weights in named if weights.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=6e-3, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
    ]


def train(model: Qwen2ForCausalLM, stream: Iterator[Batch], phase: Phase) -> None:
    with Guide(model) as guide:
        _train(model, guide, stream, phase)


def _train(model: Qwen2ForCausalLM, guide: Guide, stream: Iterator[Batch], phase: Phase) -> None:
    stepping = optimizers(model)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate(step, phase))
        for optimizer in stepping
    ]
    started, said, looked = time.monotonic(), 0.0, 0.0
    model.train()
    for step in range(1, phase.steps + 1):
        batch = next(stream)
        loss = loss_of(model, batch)
        guided = guide.loss(batch.links) if len(batch.links) else torch.zeros(())
        model.zero_grad()
        (loss + GUIDANCE * guided).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(stepping, schedules, strict=True):
            optimizer.step()
            schedule.step()
        said += loss.item()
        looked += guided.item()
        if step % 100 == 0:
            took_s = time.monotonic() - started
            shown = f"loss {said / 100:.4f}  where to look {looked / 100:.4f}"
            print(f"step {step}/{phase.steps}  {shown}  {took_s:.0f} s", flush=True)
            said = looked = 0.0


def make(out: Path, plan: Plan, seed: int) -> None:
    """Train as planned and write the folder `out`."""
    torch.manual_seed(seed)
    plain = train_tokenizer([], pieces=0, spaced_words=0)
    rng = Random(seed)
    texts = [render(plain, chat_corpus.conversation(rng)) for _ in range(plan.corpus)]
    tokenizer = train_tokenizer(texts, pieces=900, spaced_words=300)
    model = new_model(tokenizer)
    print(f"{len(tokenizer)} tokens, {model.num_parameters():,} parameters", flush=True)
    # Each phase has its own generator: what it draws does not depend on how long the one before it was.
    for phase, drawing in zip(plan.phases, (rng, Random(seed + 1)), strict=True):
        train(model, batches(Examples(tokenizer, drawing, phase.near_misses), drawing), phase)
    model.eval().to(torch.bfloat16).save_pretrained(out)
    save_tokenizer(tokenizer, out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=SAMPLES / "chat", help="folder to write (default: samples/chat)"
    )
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a few steps only: to see that the script works")
    arguments = parser.parse_args()
    make(arguments.out, QUICK if arguments.quick else FULL, arguments.seed)


if __name__ == "__main__":
    main()
