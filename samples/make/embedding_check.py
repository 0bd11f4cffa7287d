"""Measure how far the embedding sample keeps topics apart, on texts that it was not trained on."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from sentence_transformers import SentenceTransformer

from embedding_corpus import Text, held_out_sentences, held_out_texts


class Separation(NamedTuple):
    """Cosines between texts on one topic and on two."""

    same: float
    """Mean within topics."""
    cross: float
    """Mean across topics."""
    ordered: float
    """Share of triples (text, one on its topic, one on another) in which the first two are nearer."""
    nearest: float
    """Share of texts whose nearest neighbour is on their topic."""


def separation(model: SentenceTransformer, texts: Sequence[Text]) -> Separation:
    vectors = model.encode([text.text for text in texts], normalize_embeddings=True, convert_to_numpy=True)
    cosines = vectors @ vectors.T
    topics = np.array([text.topic for text in texts])
    itself = np.eye(len(texts), dtype=bool)
    same = (topics[:, None] == topics[None, :]) & ~itself
    cross = topics[:, None] != topics[None, :]
    won = [
        float((cosines[row][same[row]][:, None] > cosines[row][cross[row]][None, :]).mean())
        for row in range(len(texts))
    ]
    neighbours = np.where(itself, -1.0, cosines).argmax(1)
    return Separation(
        same=float(cosines[same].mean()),
        cross=float(cosines[cross].mean()),
        ordered=float(np.mean(won)),
        nearest=float((topics[neighbours] == topics).mean()),
    )


def report(folder: Path) -> Iterable[str]:
    model = SentenceTransformer(str(folder), device="cpu")
    sets = {
        "held-out wordings and pairs of words": held_out_texts(Random(7), of_each_topic=20),
        "natural sentences": held_out_sentences(),
    }
    for name, texts in sets.items():
        seen = separation(model, texts)
        yield (
            f"{name} ({len(texts)}): same topic {seen.same:.2f}, other topics {seen.cross:.2f}, "
            f"ordered {seen.ordered:.1%}, nearest neighbour on topic {seen.nearest:.1%}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(__file__).resolve().parents[1] / "embedding"
    )
    for line in report(parser.parse_args().folder):
        print(line)


if __name__ == "__main__":
    main()
