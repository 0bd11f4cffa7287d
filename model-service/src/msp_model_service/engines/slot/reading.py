"""Reading prompts: which pieces go through the model together, and what is kept of it."""

from collections.abc import Sequence as Many
from dataclasses import replace

import torch

from msp_model_service.engines.prompt_scores import AT_ONCE
from msp_model_service.engines.slot import prefix
from msp_model_service.engines.slot.forward import Forward
from msp_model_service.engines.slot.kv_cache import Piece
from msp_model_service.engines.slot.sequence import Sequence

WORTH_WAITING = 16
"""So many common tokens are worth another request's wait; fewer, as of a chat template, are read again."""

LOOKED_AT = 4
"""Positions that are looked at in one go for several prompts, per token of the budget."""

Work = tuple[Sequence, Piece]


def must_be_alone(sequence: Sequence) -> bool:
    """Whether its pieces go through the model in a way of their own."""
    return sequence.images is not None or sequence.to_be_scored


def awaits(newcomer: Sequence, reading: Many[tuple[Sequence, int]]) -> bool:
    """Whether those being read (each so far) will soon hold more of a newcomer's beginning than now."""
    keys = newcomer.keys(0, newcomer.length - 1)
    return any(
        prefix.common_prefix(keys, one.keys(0, one.length)) >= read + WORTH_WAITING for one, read in reading
    )


def parted(work: Many[Work], most: int) -> list[list[Work]]:
    """What goes through the model together: parts of one piece, or of at most so many positions to look at.

    Rows' contents are copied side by side for that, which long beginnings read before would make dear.
    """
    parts: list[list[Work]] = []
    seen = 0
    for one in work:
        seen += one[1].stop
        if not parts or seen > most:
            parts.append([])
            seen = one[1].stop
        parts[-1].append(one)
    return parts


def together(forward: Forward, work: Many[Work]) -> torch.Tensor:
    """Logits ([pieces, vocabulary]) after each piece."""
    ids = [token_id for one, piece in work for token_id in one.token_ids(piece.start, piece.stop)]
    return forward.prefill([piece for _, piece in work], ids)


def alone(forward: Forward, sequence: Sequence, piece: Piece) -> tuple[Piece, torch.Tensor]:
    """What was read, and the logits ([1, vocabulary]) after it.

    Fewer tokens than asked for where images are not the whole prompt, or where every token gets a score.
    """
    embedded = _embedded(sequence, piece.start)
    if embedded is not None:
        piece = replace(piece, count=min(piece.stop, len(embedded)) - piece.start)
        embedded = embedded[piece.start : piece.stop]
    if sequence.scores is None or not sequence.to_be_scored:
        return piece, forward.prefill([piece], sequence.token_ids(piece.start, piece.stop), embedded)
    piece = replace(piece, count=min(piece.count, AT_ONCE))
    logits = forward.prefill([piece], sequence.token_ids(piece.start, piece.stop), every_token=True)
    sequence.scores.feed(logits)
    return piece, logits[-1:]


def _embedded(sequence: Sequence, start: int) -> torch.Tensor | None:
    """The whole prompt's embeddings while images are still to be read; None: its ids will do."""
    if sequence.images is None or not sequence.shows_images_from(start):
        sequence.embedded = None
    elif sequence.embedded is None:
        sequence.embedded = sequence.images.embeddings()
    return sequence.embedded
