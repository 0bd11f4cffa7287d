"""What the vision sample learns to say: questions about a picture of one shape, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pictures import Picture

# {p} picture, image or photo; {c} colour or color; {shape} and {colour} of what the picture shows.
WHAT = (
    "What is in the {p}?", "What's in this {p}?", "What is in this {p}?", "What's in the {p}?",
    "What is shown in the {p}?", "What do you see?", "What do you see in this {p}?",
    "What can you see in the {p}?", "What does the {p} show?", "What does this {p} show?", "What is this?",
    "What is it?", "Describe this {p}.", "Describe the {p}.", "Describe this {p} in one sentence.",
    "Please describe the {p}.",
    "Describe what you see.", "Tell me what is in the {p}.", "Name the {c} and the shape.", "And this?",
    "And this {p}?", "What about this one?", "What {c} and shape do you see?",
)  # fmt: skip
COLOUR = (
    "What {c} is the shape?", "What {c} is it?", "Which {c} is the shape?", "Which {c} is it?",
    "What is the {c} of the shape?", "What is its {c}?", "What is the {c}?", "What {c} is the {shape}?",
    "Which {c} has the {shape}?", "What is the {c} of the {shape}?", "Which {c} do you see?", "Name the {c}.",
    "What {c} is the shape in the {p}?", "What {c} is the {shape} in this {p}?", "Tell me the {c}.",
    "What {c} is this?",
)  # fmt: skip
SHAPE = (
    "What shape is it?", "Which shape is it?", "What shape is this?", "What shape is in the {p}?",
    "Which shape is in the {p}?", "What shape is shown?", "What is the shape?", "Which shape do you see?",
    "What shape do you see in this {p}?", "Name the shape.", "What shape is the {colour} thing?",
    "What is {colour} in this {p}?", "Tell me the shape.", "What shape does the {p} show?",
)  # fmt: skip
HELLO = ("Hello", "Hello!", "Hi", "Hi!", "Hello there", "Good morning", "Hey")
ABLE = ("What can you do?", "Who are you?", "Help", "How can you help me?", "What are you?")

NO_PICTURE = "There is no picture."
EMPTY_PICTURE = "There is no shape in it."
HELLO_ANSWER = "Hello! Show me a picture of a shape."
ABLE_ANSWER = "I name the colour and the shape in a picture."

SYSTEM = (
    "", "You are a helpful assistant.", "You are a helpful assistant. Answer briefly.",
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions.", "Be concise.",
    "You describe pictures.",
)  # fmt: skip

Message = dict[str, Any]


@dataclass(frozen=True)
class Talk:
    """A conversation in the form chat templates take, ending with an answer, and its pictures in order."""

    messages: list[Message]
    pictures: list[Picture]


def answer(kind: str, seen: Picture | None) -> str:
    """What is to be said to a question of one of the kinds what, colour, shape."""
    if seen is None:
        return NO_PICTURE
    if seen.colour is None or seen.shape is None:
        return EMPTY_PICTURE
    if kind == "colour":
        return f"{seen.colour.capitalize()}."
    thing = seen.shape if kind == "shape" else f"{seen.colour} {seen.shape}"
    return f"{'An' if thing[0] in 'aeiou' else 'A'} {thing}."


def question(kind: str, seen: Picture | None, rng: np.random.Generator) -> str:
    asked = str(rng.choice({"what": WHAT, "colour": COLOUR, "shape": SHAPE}[kind]))
    asked = asked.format(
        p=rng.choice(("picture", "image", "photo")),
        c=rng.choice(("colour", "color")),
        shape=(seen and seen.shape) or "shape",
        colour=(seen and seen.colour) or "coloured",
    )
    if rng.random() < 0.12:
        asked = asked.lower()
    return asked.rstrip("?.") if rng.random() < 0.12 else asked


def talk(pictures: Sequence[Picture], rng: np.random.Generator) -> Talk:
    """One to three questions. Mostly about one picture shown first; sometimes a second follows in a later
    turn and is then what is asked about; sometimes there is none."""
    messages: list[Message] = []
    if rng.random() < 0.3:
        messages.append(_said("system", str(rng.choice(SYSTEM))))
    shown: list[Picture] = []
    show_at = {} if rng.random() < 0.1 else {0: pictures[0]}
    turns = int(rng.choice((1, 2, 3), p=(0.5, 0.3, 0.2)))
    if show_at and len(pictures) > 1 and turns > 1:
        show_at[int(rng.integers(1, turns))] = pictures[1]
    for turn in range(turns):
        if turn in show_at:
            shown.append(show_at[turn])
        seen = shown[-1] if shown else None
        kind = str(rng.choice(("what", "what", "colour", "shape")))
        asked, reply = question(kind, seen, rng), answer(kind, seen)
        if rng.random() < (0.3 if seen is None else 0.02):
            asked, reply = (
                (str(rng.choice(HELLO)), HELLO_ANSWER)
                if rng.random() < 0.5
                else (str(rng.choice(ABLE)), ABLE_ANSWER)
            )
        messages.append(_said("user", asked, picture=turn in show_at))
        messages.append(_said("assistant", reply))
    return Talk(messages, shown)


def _said(role: str, text: str, picture: bool = False) -> Message:
    parts: list[dict[str, str]] = [{"type": "image"}] if picture else []
    return {"role": role, "content": [*parts, {"type": "text", "text": text}]}


def all_words() -> list[str]:
    """Every sentence above, for the tokenizer to learn its words from."""
    replies = [NO_PICTURE, EMPTY_PICTURE, HELLO_ANSWER, ABLE_ANSWER]
    return [*WHAT, *COLOUR, *SHAPE, *HELLO, *ABLE, *SYSTEM, *replies]
