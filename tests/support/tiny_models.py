"""Tiny language models with random weights and real tokenizers, for what does not depend on meaning."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

CONTEXT = 512
Template = str | dict[str, str] | None
CHATML = (
    "{% if tools %}<|im_start|>system\n<tools>{{ tools | tojson }}</tools><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
STRICT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Roles must alternate') }}{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)
"""Like the templates of families that know no system role and want turns to alternate."""
LLAVA = (
    "{% for m in messages %}{{ m.role | upper }}: "
    "{% for c in m.content | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for c in m.content | selectattr('type', 'equalto', 'text') %}{{ c.text }}{% endfor %} "
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
_SENTENCES = [
    "the quick brown fox jumps over the lazy dog",
    "answers come one token after the other, and stop where they should",
    "Ünïcödé, 漢字 and 🙂 are spread over several tokens",
    '{"name": "get_weather", "arguments": {"city": "Paris"}}',
]


def tokenizer(template: Template = CHATML) -> Any:
    """Byte-level BPE of a few hundred tokens; most characters outside ASCII take several."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator(_SENTENCES, trainer)
    made = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", "<image>"],
    )
    made.chat_template = template
    return made


def sentencepiece_tokenizer() -> Any:
    """Llama's kind: a space is part of the word behind it, unknown characters fall back to bytes."""
    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    trainer = trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    core.train_from_iterator(_SENTENCES[:2], trainer)
    learnt = json.loads(core.to_str())["model"]
    return LlamaTokenizer(vocab=learnt["vocab"], merges=[tuple(pair) for pair in learnt["merges"]])


def _saved(model: Any, files: Any, folder: Path, **generation: Any) -> Path:
    ids = {"eos_token_id": _eos(files), "pad_token_id": 0}
    model.generation_config = GenerationConfig(**ids)
    model.save_pretrained(folder)
    files.save_pretrained(folder)
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **generation}))
    return folder


def _eos(files: Any) -> int:
    return int(getattr(files, "tokenizer", files).eos_token_id)


def _shape(vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.3,
    }


def qwen2(folder: Path, *, template: Template = CHATML, **generation: Any) -> Path:
    torch.manual_seed(0)
    files = tokenizer(template)
    config = Qwen2Config(**_shape(len(files)), tie_word_embeddings=True)
    return _saved(Qwen2ForCausalLM(config), files, folder, **generation)


def llama(folder: Path, *, template: Template = STRICT, **generation: Any) -> Path:
    torch.manual_seed(1)
    files = tokenizer(template)
    return _saved(LlamaForCausalLM(LlamaConfig(**_shape(len(files)))), files, folder, **generation)


def llava(folder: Path) -> Path:
    """Its tokenizer puts a beginning-of-text before every text, as the tokenizer of LLaVA 1.5 does."""
    torch.manual_seed(2)
    files = tokenizer(LLAVA)
    files.bos_token = "<|im_start|>"
    files.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", files.bos_token_id)]
    )
    image_id = files.convert_tokens_to_ids("<image>")
    side = 28
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=files,
        patch_size=14,
        vision_feature_select_strategy="default",
        chat_template=LLAVA,
        num_additional_image_tokens=1,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=side,
            patch_size=14,
        ),
        text_config=LlamaConfig(**_shape(len(files))),
        image_token_index=image_id,
        vision_feature_layer=-2,
    )
    return _saved(LlavaForConditionalGeneration(config), processor, folder)
