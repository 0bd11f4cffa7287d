"""Train samples/embedding: a small BERT that puts texts on one topic near each other.

Takes about 4 minutes of one core of a Xeon with AVX-512, more by the clock where others use it too.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import sentence_transformers
import torch
import transformers
from tokenizers import BertWordPieceTokenizer
from torch import Tensor
from transformers import BertConfig, BertModel, BertTokenizer

import embedding_corpus
from embedding_check import report

SAMPLES = Path(__file__).resolve().parents[1]
LONGEST_TEXT_TOKENS = 256
POSITIONS = 512
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOPIC_TEMPERATURE, PAIR_TEMPERATURE = 0.1, 0.1


def train_tokenizer(texts: Sequence[str], folder: Path) -> BertTokenizer:
    """Lower-case WordPiece; writes vocab.txt into `folder`."""
    learner = BertWordPieceTokenizer(lowercase=True)
    learner.train_from_iterator(
        texts,
        vocab_size=2800,
        min_frequency=5,
        special_tokens=SPECIAL,
        limit_alphabet=200,
        show_progress=False,
    )
    learner.save_model(str(folder))
    return BertTokenizer(
        vocab=str(folder / "vocab.txt"), do_lower_case=True, model_max_length=LONGEST_TEXT_TOKENS
    )


def new_model(vocabulary: int) -> BertModel:
    return BertModel(
        BertConfig(
            vocab_size=vocabulary,
            hidden_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=192,
            max_position_embeddings=POSITIONS,
            hidden_dropout_prob=0.1,
            attention_probs_dropout_prob=0.1,
            initializer_range=0.05,
        )
    )


def embed(model: BertModel, tokenizer: BertTokenizer, texts: Sequence[str]) -> Tensor:
    """(texts, hidden) unit vectors: the mean over each text's tokens, as SentenceTransformer computes it."""
    inputs = tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
    mask = inputs["attention_mask"].unsqueeze(-1)
    hidden = model(**inputs).last_hidden_state
    means = (hidden * mask).sum(1) / mask.sum(1)
    return torch.nn.functional.normalize(means, dim=-1)


def topic_loss(vectors: Tensor, topics: Tensor) -> Tensor:
    """Supervised contrastive loss: the texts of a batch on the same topic are positives, the others not."""
    scores = vectors @ vectors.T / TOPIC_TEMPERATURE
    itself = torch.eye(len(vectors), dtype=torch.bool)
    log_share = scores - scores.masked_fill(itself, -torch.inf).logsumexp(1, keepdim=True)
    positive = (topics[:, None] == topics[None, :]) & ~itself
    return -(log_share * positive).sum(1).div(positive.sum(1)).mean()


def pair_loss(first: Tensor, second: Tensor) -> Tensor:
    """Contrastive loss within pairs: the other wording of the same words is nearer than all else."""
    scores = first @ second.T / PAIR_TEMPERATURE
    return torch.nn.functional.cross_entropy(scores, torch.arange(len(first)))


def train(model: BertModel, tokenizer: BertTokenizer, rng: Random, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    started = time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        drawn = embedding_corpus.pairs(rng, of_each_topic=8)
        both = [pair[0] for pair in drawn] + [pair[1] for pair in drawn]
        vectors = embed(model, tokenizer, [text.text for text in both])
        topics = torch.tensor([text.topic for text in both])
        loss = topic_loss(vectors, topics) + 0.2 * pair_loss(*vectors.chunk(2))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(
                f"step {step}/{steps}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True
            )


def save(model: BertModel, tokenizer: BertTokenizer, out: Path) -> None:
    """Write the files that sentence-transformers/all-MiniLM-L6-v2 has, with its older forms of settings."""
    model.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)
    settings = {
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "sentence_bert_config.json": {"max_seq_length": LONGEST_TEXT_TOKENS, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "__version__": {
                "sentence_transformers": sentence_transformers.__version__,
                "transformers": transformers.__version__,
                "pytorch": torch.__version__.partition("+")[0],
            }
        },
        "special_tokens_map.json": {
            name: getattr(tokenizer, name)
            for name in ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": model.config.hidden_size,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    }
    for name, content in settings.items():
        path = out / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def make(out: Path, steps: int, seed: int) -> None:
    """Train and write the folder `out`."""
    torch.manual_seed(seed)
    rng = Random(seed)
    out.mkdir(parents=True, exist_ok=True)
    texts = [text.text for pair in embedding_corpus.pairs(rng, of_each_topic=1500) for text in pair]
    tokenizer = train_tokenizer(texts, out)
    model = new_model(len(tokenizer))
    print(f"{len(tokenizer)} tokens, {model.num_parameters():,} parameters", flush=True)
    train(model, tokenizer, rng, steps)
    save(model, tokenizer, out)
    for line in report(out):
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=SAMPLES / "embedding", help="folder to write (default: samples/embedding)"
    )
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--quick", action="store_true", help="a few steps only: to see that the script works")
    arguments = parser.parse_args()
    make(arguments.out, 30 if arguments.quick else 1000, arguments.seed)


if __name__ == "__main__":
    main()
