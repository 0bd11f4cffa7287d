"""A sentence-transformers repository of a few kilobytes with random weights, made without a hub."""

from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, BertTokenizer

WORDS = [
    *("the", "a", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "cat", "sat", "on", "mat"),
    *("query", "passage", ":", "hello", "world"),
]
CONTEXT = 24
DIMENSIONS = 32


def make(
    folder: Path,
    *,
    prompt: str | None = None,
    include_prompt: bool = True,
    normalise: bool = True,
    pooling_mode: str = "mean",
    padding_side: str = "right",
    dtype: torch.dtype = torch.float32,
    truncate_dim: int | None = None,
    **config: Any,
) -> Path:
    """Write the repository into `folder`: BERT, mean pooling, normalisation, at most CONTEXT tokens.

    `config` goes into the network's config.json.
    """
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *letters, *(f"##{c}" for c in letters)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    words = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    words.normalizer = normalizers.BertNormalizer(lowercase=True)
    words.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    words.post_processor = processors.BertProcessing(
        ("[SEP]", vocabulary["[SEP]"]), ("[CLS]", vocabulary["[CLS]"])
    )
    tokenizer = BertTokenizer(tokenizer_object=words, model_max_length=CONTEXT, padding_side=padding_side)
    torch.manual_seed(0)
    network = BertModel(
        BertConfig(
            vocab_size=len(vocabulary),
            hidden_size=DIMENSIONS,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
            initializer_range=0.5,
            **config,
        )
    ).to(dtype)
    plain = folder / "plain"
    network.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    transformer = Transformer(str(plain), max_seq_length=CONTEXT, model_kwargs={"dtype": dtype})
    pooling = Pooling(DIMENSIONS, pooling_mode=pooling_mode, include_prompt=include_prompt)
    modules = [transformer, pooling, *([Normalize()] if normalise else [])]
    prompts = {} if prompt is None else {"document": prompt}
    model = SentenceTransformer(
        modules=modules,
        device="cpu",
        prompts=prompts,
        default_prompt_name=None if prompt is None else "document",
        truncate_dim=truncate_dim,
    )
    repository = folder / "repository"
    model.save(str(repository), create_model_card=False)
    return repository
