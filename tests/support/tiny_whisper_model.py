"""A Whisper repository of a few kilobytes with random weights, made without a hub."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

LANGUAGES = ("en", "fr", "de")
WINDOW_S = 2
FRAMES = WINDOW_S * 50
LENGTH = 40


def make(folder: Path, *, timestamps: bool = True, multilingual: bool = True) -> Path:
    """Write the repository into `folder`: a window of WINDOW_S seconds, at most LENGTH tokens of text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["one two three four five six seven"] * 2, trainer)
    learnt = json.loads(bpe.to_str())["model"]
    vocabulary = {**learnt["vocab"], "<|endoftext|>": len(learnt["vocab"])}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[tuple(pair) for pair in learnt["merges"]])
    control = [
        "<|startoftranscript|>",
        *(f"<|{language}|>" for language in LANGUAGES if multilingual),
        *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"),
        "<|notimestamps|>",
    ]
    tokenizer.add_special_tokens({"additional_special_tokens": control})
    tokenizer.add_tokens([f"<|{tick * 0.02:.2f}|>" for tick in range(FRAMES + 1)])
    ids = tokenizer.convert_tokens_to_ids
    end = ids("<|endoftext|>")
    special = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": ids("<|startoftranscript|>"),
    }
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=len(tokenizer),
            d_model=32,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=64,
            decoder_ffn_dim=64,
            max_source_positions=FRAMES,
            max_target_positions=LENGTH,
            init_std=0.3,
            **special,
        )
    )
    extra = {
        "lang_to_id": {f"<|{language}|>": ids(f"<|{language}|>") for language in LANGUAGES},
        "task_to_id": {task: ids(f"<|{task}|>") for task in ("transcribe", "translate")},
    }
    model.generation_config = GenerationConfig(
        **special,
        **(extra if multilingual else {}),
        **({"no_timestamps_token_id": ids("<|notimestamps|>")} if timestamps else {}),
        is_multilingual=multilingual,
        prev_sot_token_id=ids("<|startofprev|>"),
        max_length=LENGTH,
        suppress_tokens=[ids(token) for token in control],
        begin_suppress_tokens=[end],
        return_timestamps=False,
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=WINDOW_S), tokenizer).save_pretrained(folder)
    return folder
