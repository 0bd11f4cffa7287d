"""samples/vision still does what its README says, loaded as any LLaVA checkpoint is."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from transformers import AutoModelForImageTextToText, AutoProcessor

FOLDER = Path(__file__).resolve().parents[2] / "samples" / "vision"
IMAGES = FOLDER.parent / "images"
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
SHAPES = ("circle", "square", "triangle", "star", "cross")


@dataclass(frozen=True)
class Sample:
    """The loaded model, asked one question at a time."""

    model: Any
    processor: Any

    def answer(self, messages: list[dict[str, Any]]) -> str:
        inputs = self.processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        )
        with torch.inference_mode():
            written = self.model.generate(**inputs, max_new_tokens=16, do_sample=False)
        new = written[0, inputs["input_ids"].shape[1] :]
        text: str = self.processor.decode(new, skip_special_tokens=True)
        return text.strip()

    def about(self, image: Image.Image, question: str) -> str:
        return self.answer([user(question, image)])


@pytest.fixture(scope="module")
def sample() -> Sample:
    torch.set_num_threads(1)
    return Sample(
        AutoModelForImageTextToText.from_pretrained(FOLDER, dtype=torch.float32).eval(),
        AutoProcessor.from_pretrained(FOLDER),
    )


def user(text: str, *images: Image.Image) -> dict[str, Any]:
    shown = [{"type": "image", "image": image} for image in images]
    return {"role": "user", "content": [*shown, {"type": "text", "text": text}]}


def drawn(colour: str, shape: str, place: tuple[float, float] = (0.5, 0.5), size: float = 0.3) -> Image.Image:
    """`shape` on a ground that it stands out from; place and size are shares of the picture's side."""
    side = 128
    image = Image.new("RGB", (side, side), "dimgray" if colour in ("white", "yellow") else "white")
    draw = ImageDraw.Draw(image)
    x, y, r = place[0] * side, place[1] * side, size * side
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    elif shape == "square":
        draw.rectangle((x - 0.75 * r, y - 0.75 * r, x + 0.75 * r, y + 0.75 * r), fill=colour)
    elif shape == "triangle":
        draw.polygon([(x, y - r), (x - 0.87 * r, y + 0.5 * r), (x + 0.87 * r, y + 0.5 * r)], fill=colour)
    elif shape == "cross":
        draw.rectangle((x - r, y - 0.33 * r, x + r, y + 0.33 * r), fill=colour)
        draw.rectangle((x - 0.33 * r, y - r, x + 0.33 * r, y + r), fill=colour)
    else:
        tips = [(r if tip % 2 == 0 else 0.42 * r, math.pi * (tip / 5 - 0.5)) for tip in range(10)]
        draw.polygon(
            [(x + far * math.cos(angle), y + far * math.sin(angle)) for far, angle in tips], fill=colour
        )
    return image


def phrase(*words: str) -> str:
    return f"{'An' if words[0][0] in 'aeiou' else 'A'} {' '.join(words)}."


def places() -> Iterator[tuple[tuple[float, float], float]]:
    """Places and sizes, one after another, for ever."""
    while True:
        yield from (((0.5, 0.5), 0.4), ((0.3, 0.35), 0.22), ((0.68, 0.6), 0.27), ((0.4, 0.72), 0.18))


def test_it_names_colour_and_shape_wherever_they_are(sample: Sample) -> None:
    wrong = []
    for (colour, shape), (place, size) in zip(product(COLOURS, SHAPES), places(), strict=False):
        said = sample.about(drawn(colour, shape, place, size), "What is in the picture?")
        if said != phrase(colour, shape):
            wrong.append((colour, shape, place, size, said))
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_it_answers_about_colour_and_shape_alone_in_either_file_format(sample: Sample, form: str) -> None:
    wrong = []
    for index, shape in enumerate(SHAPES):
        colour = COLOURS[index]
        file = io.BytesIO()
        drawn(colour, shape, size=0.28).save(file, form)
        image = Image.open(file)
        for question, expected in (
            ("What colour is the shape?", f"{colour.capitalize()}."),
            ("What color is it?", f"{colour.capitalize()}."),
            ("What shape is it?", phrase(shape)),
            ("Describe this image.", phrase(colour, shape)),
        ):
            said = sample.about(image, question)
            if said != expected:
                wrong.append((colour, shape, question, said))
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("name", ["red-circle", "blue-star", "green-triangle"])
def test_it_describes_the_committed_pictures(sample: Sample, name: str) -> None:
    colour, shape = name.split("-")
    with Image.open(IMAGES / f"{name}.png") as image:
        assert sample.about(image, "What is in the picture?") == phrase(colour, shape)


def test_without_a_picture_it_says_so(sample: Sample) -> None:
    for question in ("What is in the picture?", "What colour is the shape?", "Describe this image."):
        assert sample.answer([{"role": "user", "content": question}]) == "There is no picture."


def test_an_empty_picture_has_no_shape(sample: Sample) -> None:
    assert (
        sample.about(Image.new("RGB", (64, 64), "white"), "What is in the picture?")
        == "There is no shape in it."
    )


def test_a_later_picture_is_the_one_asked_about(sample: Sample) -> None:
    said = sample.answer(
        [
            {"role": "system", "content": ""},
            user("What is in the picture?", drawn("red", "circle")),
            {"role": "assistant", "content": "A red circle."},
            user("What is in this picture?", drawn("blue", "square")),
        ]
    )
    assert said == "A blue square."


def test_two_pictures_in_one_question_run(sample: Sample) -> None:
    assert sample.answer([user("What is in the picture?", drawn("red", "circle"), drawn("blue", "square"))])


def test_the_chat_template_writes_llavas_usual_form(sample: Sample) -> None:
    image = Image.new("RGB", (8, 8))
    conversation = [
        {"role": "system", "content": "Be brief."},
        user("Hello.", image),
        {"role": "assistant", "content": [{"type": "text", "text": "Hi."}]},
        {"role": "user", "content": "And now?"},
    ]
    said = sample.processor.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False)
    assert said == "Be brief. USER: <image>\nHello. ASSISTANT: Hi.</s>USER: And now? ASSISTANT:"


def test_the_folder_has_the_files_of_a_real_checkpoint() -> None:
    expected = {
        "README.md", "added_tokens.json", "chat_template.jinja", "config.json", "generation_config.json",
        "model.safetensors", "preprocessor_config.json", "processor_config.json", "special_tokens_map.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert {path.name for path in FOLDER.iterdir()} == expected
    assert json.loads((FOLDER / "config.json").read_text())["architectures"] == [
        "LlavaForConditionalGeneration"
    ]
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 3_000_000
