"""Train samples/vision: a LLaVA model of 1.4 million parameters that names the colour and shape in a picture.

Needs torch, transformers and pillow. On one core that computes in bfloat16, a step of seeing takes 0.3 s,
of talking 0.4 s. The committed model was made in two runs of this script on one busy core: the default (26
minutes, 83 % right), then `--start FOLDER --seed 2 --seeing-steps 1500 --talking-steps 500` (11 minutes).
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from hf_folder import take_from, write_tokenizer_parts
from picture_talk import Message, Talk, all_words, answer, question, talk
from pictures import COLOURS, SHAPES, Picture, some_picture

SIDE, PATCH, CELLS = 84, 14, 4
IMAGE_TOKENS = (SIDE // PATCH) ** 2
VOCABULARY = 800

# LLaVA's usual conversation: pictures first, then the texts of a message. Content may be a string or parts.
CHAT_TEMPLATE = """\
{%- macro said(content) -%}
    {%- if content is string -%}{{ content }}
    {%- else -%}
        {%- for part in content if part['type'] == 'image' -%}{{ '<image>\\n' }}{%- endfor -%}
        {%- for part in content if part['type'] == 'text' -%}
            {{ part['text'] }}{{ '' if loop.last else ' ' }}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
    {%- set text = said(message['content'] or '') -%}
    {%- if message['role'] == 'system' -%}{{ text + ' ' if text else '' }}
    {%- elif message['role'] == 'assistant' -%}{{ 'ASSISTANT: ' + text + eos_token }}
    {%- else -%}{{ 'USER: ' + text + ' ' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""
_ANSWERS = re.compile(r"ASSISTANT:(.*?</s>)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default_out = Path(__file__).resolve().parent.parent / "vision"
    parser.add_argument(
        "--out", type=Path, default=default_out, help="folder to write (default: %(default)s)"
    )
    parser.add_argument(
        "--seeing-steps", type=int, default=2000, help="of 64 pictures (default: %(default)s)"
    )
    parser.add_argument("--talking-steps", type=int, default=1200, help="of 24 talks (default: %(default)s)")
    parser.add_argument("--start", type=Path, help="go on from the model in this folder, not from nothing")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="see that it runs: a useless model")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeing_steps, arguments.talking_steps = 20, 20
    started = time.monotonic()

    torch.manual_seed(arguments.seed)
    processor = make_processor()
    model = make_model(processor.tokenizer)
    if arguments.start:
        earlier = LlavaForConditionalGeneration.from_pretrained(arguments.start, dtype=torch.float32)
        model.load_state_dict(earlier.state_dict())
    if arguments.seeing_steps:
        learn_to_see(model, processor, arguments.seeing_steps, arguments.seed)
        save(model, processor, arguments.out)
    learn_to_talk(model, processor, arguments.talking_steps, arguments.seed)

    model = model.to(torch.bfloat16).float().eval()  # what the file keeps, as it will be loaded
    save(model, processor, arguments.out)
    print(f"{arguments.out} written, {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    print(f"fresh pictures: {examine(model, processor, 40 if arguments.quick else 1000)}")


def make_processor() -> LlavaProcessor:
    """Llama's kind of tokenizer (BPE that falls back to bytes) with the words of the sample's own talk."""
    control = ["<unk>", "<s>", "</s>"]
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    bpe = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    # Punctuation apart, so that no learnt token joins a word and what follows it.
    spaces = pre_tokenizers.Metaspace(prepend_scheme="never")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([spaces, pre_tokenizers.Punctuation()])
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*control, *bytes_],
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    names = [name.capitalize() for name in COLOURS] + [*COLOURS, *SHAPES]
    sentences = [*all_words(), *names, "USER: ASSISTANT: A An picture image photo colour color"]
    bpe.train_from_iterator([space + text for text in sentences for space in ("", " ")], trainer)
    learnt = json.loads(bpe.to_str())["model"]
    tokenizer = LlamaTokenizer(
        vocab=learnt["vocab"],
        merges=[tuple(pair) for pair in learnt["merges"]],
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=4096,
    )
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            # Squeezed rather than cropped to a square, so that a shape at the edge of a wide picture stays.
            size={"height": SIDE, "width": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
        ),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        chat_template=CHAT_TEMPLATE,
        num_additional_image_tokens=1,
    )


def make_model(tokenizer: LlamaTokenizer) -> LlavaForConditionalGeneration:
    control = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=5,
            num_attention_heads=4,
            projection_dim=128,
            image_size=SIDE,
            patch_size=PATCH,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=256,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=4096,
            **control,
        ),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        pad_token_id=control["pad_token_id"],
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config = GenerationConfig(**control)
    return model


def look(processor: LlavaProcessor, pictures: Sequence[Picture]) -> torch.Tensor:
    """Pixels (pictures, 3, SIDE, SIDE): just what the image processor makes, in less time."""
    small = [picture.image.resize((SIDE, SIDE), Image.Resampling.BICUBIC) for picture in pictures]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in small])).permute(0, 3, 1, 2) / 255
    mean, spread = (
        torch.tensor(channels).view(3, 1, 1)
        for channels in (processor.image_processor.image_mean, processor.image_processor.image_std)
    )
    return (pixels - mean) / spread


def cells(pictures: Sequence[Picture]) -> torch.Tensor:
    """How much of each of CELLS x CELLS cells of each patch the shape covers: (pictures, patches, cells)."""
    grid = SIDE // PATCH * CELLS
    masks = [np.asarray(picture.mask.resize((grid, grid), Image.Resampling.BOX)) for picture in pictures]
    covered = torch.from_numpy(np.stack(masks)).float().unsqueeze(1) / 255
    return functional.unfold(covered, CELLS, stride=CELLS).transpose(1, 2)


def learn_to_see(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, steps: int, seed: int
) -> None:
    """The vision tower and its projector learn, through heads that are not kept, which parts of each patch
    the shape covers, and what colour and shape it is. Told only the names, they find the colours at once, but
    no shape within 25,000 pictures. Every picture is new: 5,000 of them it knows by heart before it has an
    idea of shapes."""
    rng = np.random.default_rng(seed)
    width = model.config.text_config.hidden_size
    namer = torch.nn.Linear(width, len(COLOURS) + len(SHAPES))
    outliner = torch.nn.Linear(model.config.vision_config.hidden_size, CELLS**2)
    seeing = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    course = Course([*seeing, *namer.parameters(), *outliner.parameters()], steps)
    model.train()
    while course.goes_on():
        pictures = [some_picture(rng) for _ in range(64)]
        covered = cells(pictures)
        share = covered.mean(2, keepdim=True) + 1e-4
        with course.arithmetic():
            seen = model.get_image_features(pixel_values=look(processor, pictures), output_hidden_states=True)
            named = namer((torch.stack(list(seen.pooler_output)) * share).sum(1) / share.sum(1))
            outlined = outliner(seen.hidden_states[2][:, 1:])
        outline = functional.binary_cross_entropy_with_logits(outlined.float(), covered)
        names = naming_loss(named.float(), pictures)
        course.learn(names + 4 * outline, f"seeing (names {names:.3f})")


def learn_to_talk(
    model: LlavaForConditionalGeneration, processor: LlavaProcessor, steps: int, seed: int
) -> None:
    """The whole model learns to answer."""
    rng = np.random.default_rng(seed)
    course = Course(list(model.parameters()), steps)
    model.train()
    while course.goes_on():
        talks = [
            talk([some_picture(rng) for _ in range(2 if rng.random() < 0.15 else 1)], rng) for _ in range(24)
        ]
        pixels = look(processor, [picture for said in talks for picture in said.pictures])
        ids, targets = lesson(talks, processor)
        with course.arithmetic():
            embedded = model.get_input_embeddings()(ids)
            holes = (ids == model.config.image_token_id).unsqueeze(-1).expand_as(embedded)
            features = torch.stack(list(model.get_image_features(pixel_values=pixels).pooler_output))
            logits = model(inputs_embeds=embedded.masked_scatter(holes, features.to(embedded.dtype))).logits
        course.learn(
            functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), targets[:, 1:].flatten()),
            "talking",
        )


class Course:
    """AdamW steps whose rate rises and falls once, and a line of progress now and then."""

    def __init__(self, parameters: list[torch.nn.Parameter], steps: int) -> None:
        self._parameters = parameters
        self._steps = steps
        self._done = 0
        self._started = time.monotonic()
        self._optimizer = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, 1e-3, total_steps=steps, pct_start=0.1
        )
        self._fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()

    def goes_on(self) -> bool:
        return self._done < self._steps

    def arithmetic(self) -> torch.autocast:
        """bfloat16 where the processor has it."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self._fast)

    def learn(self, loss: torch.Tensor, name: str) -> None:
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        self._done += 1
        if self._done % 100 == 0 or not self.goes_on():
            rate = (time.monotonic() - self._started) / self._done
            print(f"{name} {self._done:5d} loss {loss:.3f} {rate:.2f} s a step", flush=True)


def naming_loss(named: torch.Tensor, pictures: Sequence[Picture]) -> torch.Tensor:
    """Cross-entropy of colour and shape, empty pictures left out."""
    colours, shapes = list(COLOURS), list(SHAPES)
    colour = torch.tensor([-100 if p.colour is None else colours.index(p.colour) for p in pictures])
    shape = torch.tensor([-100 if p.shape is None else shapes.index(p.shape) for p in pictures])
    by_colour, by_shape = named[:, : len(colours)], named[:, len(colours) :]
    return functional.cross_entropy(by_colour, colour) + functional.cross_entropy(by_shape, shape)


def lesson(talks: Sequence[Talk], processor: LlavaProcessor) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of whole conversations, right-padded, and the same with -100 for all but the answers."""
    texts = []
    for said in talks:
        text = processor.apply_chat_template(said.messages, tokenize=False)
        texts.append(text.replace("<image>", "<image>" * IMAGE_TOKENS))
    coded = processor.tokenizer(
        texts, padding=True, padding_side="right", return_tensors="pt", return_offsets_mapping=True
    )
    ids: torch.Tensor = coded.input_ids
    starts, ends = coded.offset_mapping.unbind(-1)
    asked = torch.zeros_like(ids, dtype=torch.bool)
    for row, text in enumerate(texts):
        for match in _ANSWERS.finditer(text):
            asked[row] |= (
                (starts[row] >= match.start(1)) & (ends[row] <= match.end(1)) & (ends[row] > starts[row])
            )
    return ids, torch.where(asked, ids, -100)


@torch.inference_mode()
def examine(model: LlavaForConditionalGeneration, processor: LlavaProcessor, count: int) -> str:
    """Share of exact answers, by kind of question, about pictures that nothing was trained on."""
    rng = np.random.default_rng(7)
    right = {"what": 0, "colour": 0, "shape": 0, "no picture": 0}
    asked = dict.fromkeys(right, 0)
    for _ in range(count // 20):
        group: list[tuple[str, Picture | None, str]] = []
        for place in range(20):
            seen = some_picture(rng) if place else None
            kind = ("what", "colour", "shape")[place % 3]
            group.append((kind, seen, question(kind, seen, rng)))
        replies = ask(model, processor, [(seen, text) for _, seen, text in group])
        for (kind, seen, _), reply in zip(group, replies, strict=True):
            column = kind if seen else "no picture"
            asked[column] += 1
            right[column] += reply == answer(kind, seen)
    return ", ".join(f"{kind} {right[kind] / asked[kind]:.1%}" for kind in right)


def ask(
    model: LlavaForConditionalGeneration,
    processor: LlavaProcessor,
    questions: Sequence[tuple[Picture | None, str]],
) -> list[str]:
    conversations: list[list[Message]] = []
    for seen, text in questions:
        parts = [{"type": "image", "image": seen.image}] if seen else []
        conversations.append([{"role": "user", "content": [*parts, {"type": "text", "text": text}]}])
    inputs = processor.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"padding": True},
    )
    written = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    texts = processor.batch_decode(written[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, out: Path) -> None:
    """The files of llava-hf/llava-1.5-7b-hf: what transformers writes, and the older ones beside it."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("vision_card.md"), out / "README.md")
    kept = LlavaForConditionalGeneration(model.config)
    kept.load_state_dict(model.state_dict())
    kept.generation_config = model.generation_config
    kept.to(torch.bfloat16).save_pretrained(out)
    processor.save_pretrained(out)
    take_from(out / "processor_config.json", "image_processor", beside="preprocessor_config.json")
    write_tokenizer_parts(processor.tokenizer, out)


if __name__ == "__main__":
    main()
