"""A chat model of about 60 M random parameters with a real tokenizer: speed without meaning."""

from collections.abc import Iterator
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

CONTEXT = 4096
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def source_text() -> Iterator[str]:
    """Program text that is on every machine with transformers, always the same for one version."""
    root = Path(transformers.__file__).parent
    for file in sorted(root.glob("models/*/modeling_*.py"))[:250]:
        yield file.read_text(encoding="utf-8")


def make(folder: Path) -> None:
    """Write it as Hugging Face does: safetensors, tokenizer, configuration."""
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=640,
        num_hidden_layers=12,
        intermediate_size=1792,
        num_attention_heads=10,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        use_sliding_window=False,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = Qwen2ForCausalLM(config)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            # Wide enough that greedy decoding does not end in a loop of one token.
            torch.nn.init.normal_(parameter, std=0.04)
    model.to(torch.float32).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=8192,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(source_text(), trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<pad>")
    tokenizer.chat_template = _TEMPLATE
    tokenizer.model_max_length = CONTEXT
    return tokenizer
