"""A repository as large as whisper-base.en, with random weights that write a set number of tokens.

Random weights never end by themselves. From a certain place on, the decoder's position embedding points to
the end token, so that every engine writes the same number of tokens, as many as speech has.
"""

import json
from pathlib import Path

import torch
from tokenizers import pre_tokenizers
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)
from transformers.models.whisper.tokenization_whisper import LANGUAGES

WORDS = 50_257
WINDOW_S = 30


def make(folder: Path, *, tokens: int) -> Path:
    """Write the repository into `folder`; each window is written down in `tokens` tokens."""
    tokenizer = _tokenizer()
    ids = tokenizer.convert_tokens_to_ids
    end = ids("<|endoftext|>")
    special = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": ids("<|startoftranscript|>"),
    }
    torch.manual_seed(0)
    config = WhisperConfig(
        vocab_size=len(tokenizer),
        d_model=512,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=8,
        decoder_attention_heads=8,
        encoder_ffn_dim=2048,
        decoder_ffn_dim=2048,
        init_std=0.05,
        **special,
    )
    model = WhisperForConditionalGeneration(config)
    decoder = model.model.decoder
    with torch.no_grad():
        # It pads as well, and such embeddings are zero.
        decoder.embed_tokens.weight[end].normal_(std=config.init_std)
        towards_end = torch.nn.functional.normalize(decoder.embed_tokens.weight[end], dim=0)
        # The start and "no timestamps" stand before the text.
        decoder.embed_positions.weight[2 + tokens - 1 :] += 1000 * towards_end
    control = [token for token in tokenizer.all_special_tokens if token != "<|endoftext|>"]
    model.generation_config = GenerationConfig(
        **special,
        no_timestamps_token_id=ids("<|notimestamps|>"),
        is_multilingual=False,
        prev_sot_token_id=ids("<|startofprev|>"),
        max_length=config.max_target_positions,
        suppress_tokens=[ids(token) for token in control],
        begin_suppress_tokens=[end],
        return_timestamps=False,
        alignment_heads=[[layer, 0] for layer in range(3, 6)],
    )
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=WINDOW_S), tokenizer).save_pretrained(folder)
    # Some engines read the audio's properties from a file of its own.
    (folder / "preprocessor_config.json").write_text(json.dumps(WhisperFeatureExtractor().to_dict()))
    return folder


def _tokenizer() -> WhisperTokenizer:
    """With as many words as the published vocabularies; most of them nobody could type."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*alphabet, *(f"Ġw{number}" for number in range(WORDS - len(alphabet)))]
    vocabulary = {word: number for number, word in enumerate(words)} | {"<|endoftext|>": WORDS}
    tokenizer = WhisperTokenizer(vocab=vocabulary, merges=[])
    control = [
        "<|startoftranscript|>",
        *(f"<|{code}|>" for code in LANGUAGES),
        *("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>"),
        "<|notimestamps|>",
    ]
    tokenizer.add_special_tokens({"additional_special_tokens": control})
    tokenizer.add_tokens([f"<|{tick * 0.02:.2f}|>" for tick in range(WINDOW_S * 50 + 1)])
    return tokenizer
