"""The chat sample's tokenizer: byte-level BPE in which a name has the same tokens wherever it stands."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

TEMPLATE = Path(__file__).with_name("chat_template.jinja")
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPACE = "Ġ"
"""How byte-level BPE spells a space."""
LONGEST_PROMPT_TOKENS = 4096


def train_tokenizer(texts: Sequence[str], pieces: int, spaced_words: int) -> Qwen2Tokenizer:
    """Learn `pieces` merged tokens, then up to `spaced_words` more that are a frequent word with its space.

    The first merges never join letters with what stands before them. So `Mara` is cut alike in ` Mara` and
    in `"Mara`, and to copy it from a sentence into a tool call's JSON is to repeat the same tokens. Only
    lower-case words that the corpus repeats a lot, hence seldom names, are joined with their space.
    """
    letters_apart = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
            pre_tokenizers.Split(Regex(r"\p{L}+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = letters_apart
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + pieces, initial_alphabet=alphabet, show_progress=False, min_frequency=20
    )
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocab: dict[str, int] = learned["vocab"]
    merges = [(left, right) for left, right in learned["merges"]]

    spaced = Counter(word for text in texts for word in re.findall(r" ([a-z]{2,})\b", text))
    for word, _ in [pair for pair in spaced.most_common() if pair[0] in vocab][:spaced_words]:
        merges.append((SPACE, word))
        vocab[SPACE + word] = len(vocab)

    tokenizer = Qwen2Tokenizer(
        vocab=vocab,
        merges=merges,
        eos_token=TURN_END,
        pad_token=END_OF_TEXT,
        extra_special_tokens=[TURN_START],
        model_max_length=LONGEST_PROMPT_TOKENS,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens(
        [AddedToken(text, special=False, normalized=False) for text in ("<tool_call>", "</tool_call>")]
    )
    tokenizer.chat_template = TEMPLATE.read_text(encoding="utf-8")
    return tokenizer


def save_tokenizer(tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Write the files that Qwen2.5 has: the template inside tokenizer_config.json, vocab.json, merges.txt."""
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    tokenizer.backend_tokenizer.model.save(str(folder))
