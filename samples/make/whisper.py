"""Train samples/whisper: a Whisper model of 1.3 million parameters that writes down spoken English digits.

Needs torch, transformers and espeak-ng's library (`apt-get install espeak-ng`). A step takes 0.4 s on one
core that computes in bfloat16, so that 3,000 take 20 minutes. The committed model was made in two such runs,
22 minutes together: `--steps 5000`, ended when it had written its state after step 2,000, and then from that
state `--start FOLDER --steps 900 --rate 1e-3 --utterances 8 --seed 2`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

from hf_folder import write_bpe_parts, write_json, write_tokenizer_parts
from speech import ACCENTS, HELD_OUT, SAMPLE_RATE, TRAINED, Manner, speaker
from spoken_digits import DIGITS, WINDOW_S, Voices, Window, frame_labels, some_digits, spoken_by, window

FRAMES = 300  # encoder positions in a window: one each 20 ms
TIMESTAMP_S = WINDOW_S / FRAMES
MULTILINGUAL = list(LANGUAGES)[:99]  # those of whisper-base; the hundredth came with large-v3
BRITISH_TO_AMERICAN = {"centre": "center", "colour": "color", "grey": "gray", "metre": "meter"}
PUNCTUATION = '"#()*+/:;<=>@[\\]^_`{|}~'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default_out = Path(__file__).resolve().parent.parent / "whisper"
    parser.add_argument(
        "--out", type=Path, default=default_out, help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=3000, help="training steps (default: %(default)s)")
    parser.add_argument(
        "--utterances", type=int, default=14, help="clips of each voice (default: %(default)s)"
    )
    parser.add_argument("--start", type=Path, help="go on from the model in this folder, not from nothing")
    parser.add_argument(
        "--rate", type=float, default=1.5e-3, help="highest learning rate (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of everything random (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="see that it runs: 30 steps, a useless model")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.utterances = 30, 2
    started = time.monotonic()

    trained = [f"{accent}+{variant}" for variant in TRAINED for accent in ACCENTS]
    voices = spoken_by(trained, arguments.utterances, arguments.seed, processes=2)
    print(
        f"{sum(map(len, voices))} clips of {len(voices)} voices, {time.monotonic() - started:.0f} s",
        flush=True,
    )

    torch.manual_seed(arguments.seed)
    processor = make_processor()
    model = make_model(processor.tokenizer)
    if arguments.start:
        earlier = WhisperForConditionalGeneration.from_pretrained(arguments.start, dtype=torch.float32)
        model.load_state_dict(earlier.state_dict())
    exam = held_out_clips(24 if arguments.quick else 240)
    train(model, processor, voices, arguments, exam[:64])

    model = model.to(torch.bfloat16).float().eval()  # what the file keeps, as it will be loaded
    model.generation_config.alignment_heads = alignment_heads(model, processor, voices)
    save(model, processor, arguments.out)
    print(f"{arguments.out} written, {(time.monotonic() - started) / 60:.1f} minutes", flush=True)
    print(f"held-out voices: {examine(model, processor, exam)}")


def make_processor() -> WhisperProcessor:
    """Byte-level BPE whose only words are the ten digits; control tokens in whisper-base's order."""
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator([f" {digit}" for digit in DIGITS], trainer)
    learnt = json.loads(bpe.to_str())["model"]
    vocabulary: dict[str, int] = learnt["vocab"]
    vocabulary["<|endoftext|>"] = len(vocabulary)
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in learnt["merges"]])
    tokenizer.add_special_tokens(
        {
            "additional_special_tokens": [
                "<|startoftranscript|>",
                *(f"<|{language}|>" for language in MULTILINGUAL),
                *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nocaptions|>"),
                "<|notimestamps|>",
            ]
        }
    )
    tokenizer.add_tokens([f"<|{tick * TIMESTAMP_S:.2f}|>" for tick in range(FRAMES + 1)])
    return WhisperProcessor(WhisperFeatureExtractor(chunk_length=int(WINDOW_S)), tokenizer)


def make_model(tokenizer: WhisperTokenizer) -> WhisperForConditionalGeneration:
    identity = tokenizer.convert_tokens_to_ids
    end = identity("<|endoftext|>")
    control = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": identity("<|startoftranscript|>"),
    }
    # As whisper-base: no signs that nobody speaks, no control tokens inside a text. Other than there, a
    # text may end at once: that is how this model says that it heard no speech.
    unspoken = [identity(sign) for sign in PUNCTUATION] + [
        identity(f"<|{name}|>")
        for name in ("startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nocaptions")
    ]
    suppressed = {"suppress_tokens": sorted(unspoken), "begin_suppress_tokens": [identity("Ġ")]}
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=128,
        encoder_layers=3,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=512,
        decoder_ffn_dim=256,
        max_source_positions=FRAMES,
        max_target_positions=448,
        dropout=0.05,
        **control,
        **suppressed,
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        **control,
        **suppressed,
        max_length=448,
        is_multilingual=True,
        lang_to_id={f"<|{language}|>": identity(f"<|{language}|>") for language in MULTILINGUAL},
        task_to_id={task: identity(f"<|{task}|>") for task in ("transcribe", "translate")},
        no_timestamps_token_id=identity("<|notimestamps|>"),
        prev_sot_token_id=identity("<|startofprev|>"),
        max_initial_timestamp_index=FRAMES - 1,
        return_timestamps=False,
    )
    return model


@dataclass(frozen=True)
class Script:
    """What the decoder reads and what it should say next at each place; -100 where nothing is asked."""

    inputs: list[int]
    targets: list[int]


def script(said: Window, tokenizer: WhisperTokenizer, rng: np.random.Generator) -> Script:
    """The decoder's text of a window, in one of Whisper's forms: with or without timestamps, sometimes after
    an earlier text. A wrong language or task leads to the same text, so that neither setting breaks it."""
    identity = tokenizer.convert_tokens_to_ids
    words = [identity(f"Ġ{word}") for word in said.words]
    zero = identity("<|0.00|>")

    def at(sample: int) -> int:
        return int(zero + round(sample / SAMPLE_RATE / TIMESTAMP_S))

    if rng.random() < 0.5:
        text = [identity("<|notimestamps|>"), *words]
    elif not words:
        text = [zero] if said.cut_at is None else [zero, at(said.cut_at), at(said.cut_at)]
    else:
        text = [at(said.spans[0][0]), *words, at(said.spans[-1][1])]
        text += [] if said.cut_at is None else [at(said.cut_at)]
    text.append(identity("<|endoftext|>"))

    usual = rng.random() < 0.75
    language = "en" if usual else str(rng.choice(MULTILINGUAL))
    task = "transcribe" if usual or rng.random() < 0.7 else "translate"
    earlier: list[int] = []
    if rng.random() < 0.15:
        spoken = [identity(f"Ġ{word}") for _ in range(4) for word in some_digits(rng)]
        letters = [int(letter) for letter in rng.integers(0, 256, 24)]
        earlier = [
            identity("<|startofprev|>"),
            *(spoken if rng.random() < 0.5 else letters)[: rng.integers(1, 24)],
        ]
    heard = "<|en|>" if said.words or said.cut_at is not None else "<|nocaptions|>"
    head = [*earlier, identity("<|startoftranscript|>"), identity(f"<|{language}|>"), identity(f"<|{task}|>")]
    targets = [-100] * len(earlier) + [identity(heard) if usual else -100, -100]
    return Script([*head, *text[:-1]], [*targets, *text])


def train(
    model: WhisperForConditionalGeneration,
    processor: WhisperProcessor,
    voices: Voices,
    arguments: argparse.Namespace,
    exam: Sequence[Window],
    batch: int = 16,
) -> None:
    """The decoder learns to write; a second head on the encoder (not kept) learns which digit sounds in each
    frame. Without that help the decoder learns for a long time only how many digits there are."""
    rng = np.random.default_rng(arguments.seed)
    pad = model.config.pad_token_id
    listener = torch.nn.Linear(model.config.d_model, 1 + len(DIGITS))
    parameters = [*model.parameters(), *listener.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, arguments.rate, total_steps=arguments.steps, pct_start=0.1
    )
    fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    started = time.monotonic()
    for step in range(1, arguments.steps + 1):
        model.train()
        progress = step / arguments.steps
        windows = [window(voices, rng, long_share=min(0.4, 1.5 * progress)) for _ in range(batch)]
        features = masked(listen(processor, [w.audio for w in windows]), rng)
        scripts = [script(w, processor.tokenizer, rng) for w in windows]
        sounding = torch.from_numpy(np.stack([frame_labels(w, FRAMES) for w in windows]))
        with torch.autocast("cpu", torch.bfloat16, enabled=fast):
            answer = model(
                input_features=features,
                decoder_input_ids=padded([s.inputs for s in scripts], pad),
            )
            frames = listener(answer.encoder_last_hidden_state)
        targets = padded([s.targets for s in scripts], -100)
        writing = functional.cross_entropy(answer.logits.float().flatten(0, 1), targets.flatten())
        hearing = functional.cross_entropy(frames.float().flatten(0, 1), sounding.flatten())
        (writing + hearing).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == arguments.steps:
            rate = (time.monotonic() - started) / step
            print(f"{step:5d} writing {writing:.3f} hearing {hearing:.3f} {rate:.2f} s a step", flush=True)
        if step % 500 == 0:
            print(f"{step:5d} {examine(model.eval(), processor, exam)}", flush=True)
            save(model, processor, arguments.out)  # an interrupted run leaves its last state


def listen(processor: WhisperProcessor, audio: Sequence[NDArray[np.float32]]) -> torch.Tensor:
    """Log-mel spectrograms (clips, 80, 600)."""
    heard = processor.feature_extractor(list(audio), sampling_rate=SAMPLE_RATE, return_tensors="pt")
    features: torch.Tensor = heard.input_features
    return features


def masked(features: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Half of the spectrograms lose a band of up to 12 mel bins, so that no voice is known by one band."""
    for spectrogram in features:
        if rng.random() < 0.5:
            low, width = int(rng.integers(0, 76)), int(rng.integers(1, 13))
            spectrogram[low : low + width] = spectrogram.mean()
    return features


def padded(rows: list[list[int]], filler: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [filler] * (longest - len(row)) for row in rows])


def held_out_clips(count: int) -> list[Window]:
    """Clips of voices that training never hears, at usual speeds, with a little silence around."""
    rng = np.random.default_rng(7)
    clips = []
    for index in range(count):
        voice = f"{('en-us', 'en', 'en-gb-x-rp')[index % 3]}+{HELD_OUT[index % len(HELD_OUT)]}"
        manner = Manner(rate=int(rng.integers(140, 200)), pitch=int(rng.integers(35, 65)))
        said = speaker().say(some_digits(rng), voice, manner)
        lead = int(rng.integers(0, SAMPLE_RATE // 2))
        audio = np.zeros(lead + len(said.audio) + SAMPLE_RATE // 4, np.float32)
        audio[lead : lead + len(said.audio)] = said.audio / 32768
        spans = tuple((a + lead, b + lead) for a, b in zip(said.starts, said.ends, strict=True))
        clips.append(Window(audio, said.words, spans, None))
    return clips


@torch.inference_mode()
def examine(
    model: WhisperForConditionalGeneration, processor: WhisperProcessor, clips: Sequence[Window]
) -> str:
    """Share of clips written down exactly, without and with timestamps, and how far off those are."""
    exact = {False: 0, True: 0}
    off_s: list[float] = []
    for timestamps in exact:
        for begin in range(0, len(clips), 32):
            group = clips[begin : begin + 32]
            written = model.generate(
                listen(processor, [clip.audio for clip in group]),
                language="en",
                task="transcribe",
                return_timestamps=timestamps,
                max_length=48,
            )
            texts = processor.batch_decode(written, skip_special_tokens=True)
            exact[timestamps] += sum(
                text.split() == list(clip.words) for text, clip in zip(texts, group, strict=True)
            )
            if timestamps:
                zero = processor.tokenizer.convert_tokens_to_ids("<|0.00|>")
                for row, clip in zip(written.tolist(), group, strict=True):
                    ticks = [(token - zero) * TIMESTAMP_S for token in row if token >= zero] or [0.0]
                    off_s += [
                        abs(ticks[0] - clip.spans[0][0] / SAMPLE_RATE),
                        abs(ticks[-1] - clip.spans[-1][1] / SAMPLE_RATE),
                    ]
    return (
        f"{exact[False] / len(clips):.1%} exact, {exact[True] / len(clips):.1%} with timestamps, which are "
        f"{np.median(off_s):.2f} s off (median; 95 %: {np.quantile(off_s, 0.95):.2f} s)"
    )


@torch.inference_mode()
def alignment_heads(
    model: WhisperForConditionalGeneration, processor: WhisperProcessor, voices: Voices
) -> list[list[int]]:
    """The cross-attention heads [layer, head] that look at a word's own sound while it is written: what word
    timestamps are read from."""
    rng = np.random.default_rng(3)
    windows = [w for w in (window(voices, rng, long_share=0) for _ in range(64)) if w.words]
    identity = processor.tokenizer.convert_tokens_to_ids
    head = [identity(f"<|{name}|>") for name in ("startoftranscript", "en", "transcribe", "notimestamps")]
    rows = [[*head, *(identity(f"Ġ{word}") for word in w.words)] for w in windows]
    model.set_attn_implementation("eager")
    answer = model(
        input_features=listen(processor, [w.audio for w in windows]),
        decoder_input_ids=padded(rows, model.config.pad_token_id),
        output_attentions=True,
    )
    model.set_attn_implementation("sdpa")
    looked = torch.stack(answer.cross_attentions)  # layer, clip, head, written, frame
    samples = SAMPLE_RATE * TIMESTAMP_S
    shares = []
    for clip, said in enumerate(windows):
        for place, (begin, end) in enumerate(said.spans):
            own = slice(int(begin / samples), int(end / samples) + 1)
            shares.append(looked[:, clip, :, len(head) - 1 + place, own].sum(-1))
    share = torch.stack(shares).mean(0)
    print(f"attention to the word being written, by layer and head:\n{share.numpy().round(2)}")
    return [[int(layer), int(number)] for layer, number in (share > 0.6 * share.max()).nonzero()]


def save(model: WhisperForConditionalGeneration, processor: WhisperProcessor, out: Path) -> None:
    """The files of openai/whisper-base: what transformers writes, and the older tokenizer files beside it."""
    out.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(__file__).with_name("whisper_card.md"), out / "README.md")
    kept = WhisperForConditionalGeneration(model.config)
    kept.load_state_dict(model.state_dict())
    kept.generation_config = model.generation_config
    kept.to(torch.bfloat16).save_pretrained(out)
    processor.tokenizer.save_pretrained(out)
    processor.feature_extractor.save_pretrained(out)
    write_tokenizer_parts(processor.tokenizer, out)
    write_bpe_parts(out)
    write_json(out / "normalizer.json", BRITISH_TO_AMERICAN)


if __name__ == "__main__":
    main()
