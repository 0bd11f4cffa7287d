"""Windows that are being written down together, each in a row of the network.

A pass gives every row one more token. Rows come and go between passes; what one row gets does not depend
on the others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from msp_common.errors import InternalError
from msp_model_service.engines.transcriber import SAMPLE_RATE, Word
from msp_model_service.engines.whisper import alignment
from msp_model_service.engines.whisper.checkpoint import Checkpoint
from msp_model_service.engines.whisper.network import Network
from msp_model_service.engines.whisper.recording import Recording
from msp_model_service.engines.whisper.rules import TokenRules, take
from msp_model_service.engines.whisper.trust import Written


@dataclass(eq=False)
class Row:
    """One window of a recording."""

    recording: Recording
    temperatures: Sequence[float]
    """That are left to try, the present one first."""
    opening: list[int] = field(default_factory=list)
    """What stands before the text."""
    no_speech_prob: float = 0.0
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    """Sum over the steps."""
    steps: int = 0
    """Tokens and the end."""
    ended: bool = False
    broken: bool = False
    """The model made no number for it; it has ended."""

    @property
    def position(self) -> int:
        """Where in the decoder the last token stands."""
        return len(self.opening) + len(self.tokens) - 1

    def take(self, token: int, logprob: float, *, end: int, most: int) -> None:
        """One more token. The window ends with the end token, or when there is room for no more."""
        self.logprob += logprob
        self.steps += 1
        if token == end:
            self.ended = True
            return
        self.tokens.append(token)
        self.ended = len(self.tokens) >= most

    def again(self) -> None:
        """Forget the text and begin anew at the next temperature."""
        self.temperatures = self.temperatures[1:]
        self.tokens, self.logprob, self.steps, self.ended = [], 0.0, 0, False


class Writing:
    """The rows in use. Not for several threads."""

    def __init__(self, checkpoint: Checkpoint, network: Network, temperatures: Sequence[float]) -> None:
        self._checkpoint, self._network = checkpoint, network
        self._rules = TokenRules.of(checkpoint)
        self._heads = alignment.alignment_heads(checkpoint.model)
        self._temperatures = temperatures
        self.rows: list[Row] = []

    @property
    def free(self) -> int:
        """How many windows may be begun."""
        return self._network.max_rows - len(self.rows)

    def begin(self, recordings: Sequence[Recording]) -> None:
        """Begin a window of each. On an error none of them has a row."""
        encoded = self._network.encode([self._checkpoint.features(r.window()) for r in recordings])
        before = len(self.rows)
        try:
            for recording, heard in zip(recordings, encoded, strict=True):
                given = recording.request.temperature
                row = Row(recording, (given,) if given > 0 else self._temperatures)
                self._network.hear(len(self.rows), heard)
                self.rows.append(row)
                self._open(row)
        except Exception:
            del self.rows[before:]
            raise

    def drop(self, row: Row) -> None:
        """Give up a row; the last one takes its place."""
        place, last = self.rows.index(row), len(self.rows) - 1
        if place != last:
            moved = self.rows[last]
            self._network.move(last, place, len(moved.opening) + len(moved.tokens))
            self.rows[place] = moved
        self.rows.pop()

    def step(self) -> None:
        """One more token for every row. None of them may have ended."""
        logits = self._network.step(
            [row.tokens[-1] for row in self.rows], [row.position for row in self.rows]
        )
        self._choose(self.rows, logits)

    def retry(self, row: Row) -> bool:
        """Write an ended window again at the next temperature, where its text is not to be believed."""
        if row.broken or len(row.temperatures) < 2 or not self.outcome(row).doubtful:
            return False
        row.again()
        self._open(row)
        return True

    def outcome(self, row: Row) -> Written:
        """What came of an ended window."""
        return Written(
            tokens=row.tokens,
            text=self._checkpoint.text(row.tokens),
            avg_logprob=row.logprob / row.steps,
            no_speech_prob=row.no_speech_prob,
            temperature=row.temperatures[0],
        )

    def hand_in(self, row: Row) -> None:
        """Let an ended window's recording tell what was heard, and go on. Raises InternalError."""
        if row.broken:
            raise InternalError("The model made no finite probability for the next token.")
        recording, written = row.recording, self.outcome(row)
        found, advance_s = recording.cut(written)
        words: list[Word] = []
        if recording.request.words and found:
            words = self._words(row, [token for stretch in found for token in stretch.tokens])
        recording.accept(written, found, advance_s, words)

    def _open(self, row: Row) -> None:
        recording, place = row.recording, self.rows.index(row)
        self._find_language(recording, place)
        recording.tell_language()
        opening = self._checkpoint.opening(
            recording.language,
            translate=recording.request.translate,
            timestamps=recording.with_timestamps,
        )
        row.opening = [*recording.prompt, *opening]
        start = len(recording.prompt)
        logits = self._network.read(place, row.opening, [start, len(row.opening) - 1])
        if self._checkpoint.no_speech_token is not None:
            row.no_speech_prob = float(logits[0].softmax(-1)[self._checkpoint.no_speech_token])
        self._choose([row], logits[1:])

    def _find_language(self, recording: Recording, place: int) -> None:
        known = self._checkpoint.language_tokens
        if recording.language is None and known:
            logits = self._network.read(place, [self._checkpoint.start_token], [0])[0]
            recording.language = max(known, key=lambda code: float(logits[known[code]]))

    @torch.inference_mode()
    def _choose(self, rows: Sequence[Row], logits: torch.Tensor) -> None:
        # Neighbours of a row that broke must not notice.
        for row, broken in zip(rows, logits.isnan().any(-1).tolist(), strict=True):
            row.broken = broken
        logits = logits.nan_to_num(nan=0.0, neginf=-torch.inf)
        for row, own in zip(rows, logits, strict=True):
            self._rules.restrict(own, row.tokens, with_timestamps=row.recording.with_timestamps)
        tokens, logprobs = take(
            logits, [row.temperatures[0] for row in rows], [row.recording.draws for row in rows]
        )
        half = self._checkpoint.positions // 2
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            most = min(half, self._checkpoint.positions - len(row.opening))
            row.take(token, logprob, end=self._checkpoint.end_token, most=most)
            row.ended |= row.broken

    def _words(self, row: Row, text: list[int]) -> list[Word]:
        """When the words of a window were said; for this the text is read once more."""
        recording, checkpoint = row.recording, self._checkpoint
        opening = checkpoint.opening(
            recording.language, translate=recording.request.translate, timestamps=False
        )
        text = text[: checkpoint.positions - len(opening) - 1]
        samples_a_frame = checkpoint.window_samples // checkpoint.model.config.max_source_positions
        frames = max(1, math.ceil(recording.window().size / samples_a_frame))
        seen = self._network.attention(
            self.rows.index(row), [*opening, *text, checkpoint.end_token], self._heads, frames
        )
        step_s = checkpoint.window_samples / SAMPLE_RATE / checkpoint.model.config.max_source_positions
        times = alignment.token_times(seen, len(opening), step_s)
        return alignment.words(checkpoint.processor.tokenizer, text, times, recording.language)
