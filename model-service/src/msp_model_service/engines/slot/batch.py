"""The batch: which request is in which row, and one step after another for all of them.

Everything here happens in the engine's thread. What a request's own work raises ends that request; after what
says that the device is lost (`broken_by`), the step itself raises.
"""

import logging
from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence as Many
from dataclasses import replace

import torch

from msp_common.errors import ApiError
from msp_model_service.chat.vocabulary import Vocabulary
from msp_model_service.engines.slot import batch_sampler, prefix, reading, scheduler
from msp_model_service.engines.slot.batch_sampler import Choice, NotANumber
from msp_model_service.engines.slot.forward import Forward
from msp_model_service.engines.slot.kv_cache import Piece
from msp_model_service.engines.slot.reading import Work
from msp_model_service.engines.slot.rows import Row
from msp_model_service.engines.slot.scheduler import (
    Admit,
    Decode,
    Geometry,
    Limits,
    Preempt,
    Prefill,
    Rest,
    Running,
    State,
)
from msp_model_service.engines.slot.sequence import Sequence
from msp_model_service.engines.slot.tally import Tally
from msp_model_service.engines.slot.told_errors import told_as

log = logging.getLogger(__name__)


class Batch:
    """Requests in rows. `waiting` may be added to between steps."""

    def __init__(
        self,
        forward: Forward,
        vocabulary: Vocabulary,
        limits: Limits,
        *,
        broken_by: tuple[type[BaseException], ...] = (),
    ) -> None:
        self.waiting: deque[Sequence] = deque()
        self.tally = Tally()
        self._forward = forward
        self._vocabulary = vocabulary
        self._limits = limits
        self._broken_by = broken_by
        self._rows = [Row() for _ in range(forward.cache.shape.rows)]
        self._active: list[Sequence] = []
        """Those that decode; each one's place here is its row."""
        self._reading: list[Sequence] = []
        """Those whose prompts are being read, each in any other row."""

    @property
    def running(self) -> list[Sequence]:
        """Those that have a row."""
        return [*self._active, *self._reading]

    @property
    def limits(self) -> Limits:
        """What the batch may use; less than at first if memory did not suffice."""
        return self._limits

    def positions_in_use(self) -> int:
        """Of running requests; what rows remember beyond them can be had any time. From any thread."""
        return sum(one.length for one in self.running)

    @property
    def idle(self) -> bool:
        """Whether a step would do nothing."""
        return not self._active and not self._reading and not self.waiting

    def step(self) -> None:
        """Drop who left, read prompts within the budget, make one token for every row."""
        self.tally.steps += 1
        self._drop_cancelled()
        budget = self._limits.prefill_tokens
        while True:
            match scheduler.next_action(self._state(), self._limits, budget):
                case Preempt(key):
                    self._preempt(next(one for one in self.running if one.key == key))
                case Admit():
                    self._admit()
                case Prefill(pieces):
                    budget -= self._read(dict(pieces))
                case Decode():
                    self._decode()
                    return
                case Rest():
                    return

    def end_all(self, error: ApiError) -> None:
        """End everything with `error` and forget what the rows hold. Also after a step that raised."""
        ended = [*self.running, *self.waiting]
        self.waiting.clear()
        self._forget()
        for sequence in ended:
            sequence.reader.fail(error)

    def _state(self) -> State:
        running = [Running(one.key, one.length) for one in self._active]
        running += [Running(one.key, one.length, one.length - self._read_of(one)) for one in self._reading]
        if not self.waiting:
            return State(tuple(running))
        first, read = self.waiting[0], [(one, self._read_of(one)) for one in self._reading]
        return State(tuple(running), first.length, reading.awaits(first, read))

    def _read_of(self, sequence: Sequence) -> int:
        """How many of its tokens its row holds."""
        return len(self._row(sequence).keys)

    def _row(self, sequence: Sequence) -> Row:
        return self._rows[_index(sequence)]

    # Coming.

    def _admit(self) -> None:
        """Give the first in the queue a row, with as much of its beginning as some row holds."""
        sequence = self.waiting[0]
        full = all(row.busy or row.keys for row in self._rows)
        longest = max(one.length for one in (*self.running, sequence)) + 1
        if not self._shape_for(len(self.running) + 1, longest, spare=full):
            return
        keys = sequence.keys(0, sequence.length)
        # Tokens that are not read again get no scores.
        where = prefix.place(keys[:1] if sequence.to_be_scored else keys, self._rows)
        if where is None:
            raise LookupError("the cache was shaped for one more row and has none")
        row = self._rows[where.row]
        if where.copy_from is not None:
            self._forward.cache.copy(where.copy_from, where.row, where.reused)
        row.keys[:] = keys[: where.reused]
        row.busy = True
        self.waiting.popleft()
        sequence.row = where.row
        self._reading.append(sequence)
        if sequence.scores is not None and sequence.to_be_scored:
            sequence.scores.restart()
        self.tally.reused += where.reused
        if not sequence.preempted:
            sequence.events.cached_tokens = min(where.reused, len(sequence.prompt))

    def _read(self, tokens: Mapping[int, int]) -> int:
        """Of those with these keys, so many tokens of their prompts; how many it was altogether."""
        chosen = [one for one in self._reading if one.key in tokens]
        alone = [one for one in chosen if reading.must_be_alone(one)]
        read = sum(self._read_alone(one, self._piece(one, tokens)) for one in alone)
        words = [(one, self._piece(one, tokens)) for one in chosen if one not in alone]
        for part in reading.parted(words, reading.LOOKED_AT * self._limits.prefill_tokens):
            # Only now: rows change places when somebody has read all.
            placed = [(one, replace(piece, row=_index(one))) for one, piece in part]
            if len(placed) == 1:
                self._read_alone(*placed[0])
            else:
                self._read_together(placed)
        return read + sum(piece.count for _, piece in words)

    def _piece(self, sequence: Sequence, tokens: Mapping[int, int]) -> Piece:
        return Piece(_index(sequence), self._read_of(sequence), tokens[sequence.key])

    def _read_together(self, pieces: list[Work]) -> None:
        """In one forward pass; if that fails, each by itself, to find the culprit."""
        try:
            logits = reading.together(self._forward, pieces)
        except self._broken_by:
            raise
        except Exception:  # tried again below, where a failure has a name
            log.exception("reading several prompts failed; each is tried alone")
            for sequence, piece in pieces:
                self._read_alone(sequence, replace(piece, row=_index(sequence)))
            return
        self._have_read(pieces, logits)

    def _read_alone(self, sequence: Sequence, piece: Piece) -> int:
        """How many tokens it was, at most those of `piece`."""
        try:
            piece, logits = reading.alone(self._forward, sequence, piece)
        except self._broken_by:
            raise
        except Exception as error:  # noqa: BLE001 - whatever the model raises over this prompt is its own failure
            self._fail(sequence, error)
        else:
            self._have_read([(sequence, piece)], logits)
        return piece.count

    def _have_read(self, pieces: list[Work], logits: torch.Tensor) -> None:
        """Note what rows hold now, and let those whose prompt is complete begin."""
        numbers = (~logits.amax(dim=-1).isnan()).tolist()
        # All rows' lengths first: whoever begins changes places with another row, as long as that one is.
        for sequence, piece in pieces:
            row = self._row(sequence)
            row.keys += sequence.keys(piece.start, piece.stop)
            row.used_at = self.tally.steps
        begun: list[int] = []
        for i, (sequence, piece) in enumerate(pieces):
            if not numbers[i]:
                self._fail(sequence, NotANumber("the model makes no numbers of this prompt"))
                continue
            self.tally.worked()
            self.tally.read += piece.count
            if piece.stop == sequence.length and sequence.max_tokens == 0:
                self._release(sequence)
                sequence.reader.put(sequence.told_without_answer())
            elif piece.stop == sequence.length:
                self._begin_to_decode(sequence)
                begun.append(i)
        if begun:
            self._tell([pieces[i][0] for i in begun], logits[begun])

    def _begin_to_decode(self, sequence: Sequence) -> None:
        self._exchange(_index(sequence), len(self._active))
        sequence.row = len(self._active)
        sequence.embedded = None
        self._active.append(sequence)
        self._reading.remove(sequence)

    # Decoding.

    def _decode(self) -> None:
        """One token for every active row; if they fail together, each by itself, to find the culprit."""
        longest = max(one.length for one in self.running) + 1
        if not self._shape_for(len(self.running), longest) or not self._active:
            return
        try:
            logits = self._forward.decode(0, *self._last_tokens(self._active))
        except self._broken_by:
            raise
        except Exception:  # tried again below, where a failure has a name
            log.exception("a decode step failed; each row is tried alone")
            self._decode_one_by_one()
            return
        self._decoded(list(self._active), logits)

    def _decode_one_by_one(self) -> None:
        good: list[Sequence] = []
        parts: list[torch.Tensor] = []
        bad: list[tuple[Sequence, Exception]] = []
        for i, sequence in enumerate(self._active):
            try:
                parts.append(self._forward.decode(i, *self._last_tokens([sequence])))
                good.append(sequence)
            except self._broken_by:
                raise
            except Exception as error:  # noqa: BLE001 - the row's own failure, told to its reader
                bad.append((sequence, error))
        for sequence, cause in bad:
            self._fail(sequence, cause)
        if good:
            self._decoded(good, torch.cat(parts))

    def _last_tokens(self, sequences: Many[Sequence]) -> tuple[list[int], list[int]]:
        return [one.made[-1] for one in sequences], [len(self._row(one).keys) for one in sequences]

    def _decoded(self, sequences: list[Sequence], logits: torch.Tensor) -> None:
        self.tally.worked()
        for sequence in sequences:
            row = self._row(sequence)
            row.keys.append(sequence.made[-1])
            row.used_at = self.tally.steps
        self._tell(sequences, logits)

    def _tell(self, sequences: list[Sequence], logits: torch.Tensor) -> None:
        """Choose each one's next token and tell its reader."""
        choices = batch_sampler.choose(logits, [one.sampling for one in sequences], self._vocabulary)
        for sequence, choice in zip(sequences, choices, strict=True):
            if isinstance(choice, Choice):
                self._told(sequence, choice)
            else:
                self._fail(sequence, choice)

    def _told(self, sequence: Sequence, choice: Choice) -> None:
        self.tally.made += 1
        sequence.made.append(choice.token_id)
        try:
            event = sequence.events.feed(choice.token_id, choice.logprob)
            if sequence.scores is not None and len(sequence.made) == 1:
                event = replace(event, prompt_tokens=tuple(sequence.scores.tokens))
        except Exception as error:  # noqa: BLE001 - a vocabulary's code; the row fails, not the batch
            self._fail(sequence, error)
            return
        if event.finish is not None:
            self._release(sequence)
        sequence.reader.put(event)

    # Going.

    def _drop_cancelled(self) -> None:
        for sequence in self.running:
            if sequence.cancelled:
                self._release(sequence)
        if any(one.cancelled for one in self.waiting):
            self.waiting = deque(one for one in self.waiting if not one.cancelled)

    def _preempt(self, sequence: Sequence) -> None:
        """It comes back first, and finds again what of it the rows still hold."""
        log.info("a request gives up its row for a while: the answers outgrow the cache")
        self._release(sequence)
        sequence.preempted = True
        self.waiting.appendleft(sequence)

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        """End it alone. What its row holds is not trusted any more."""
        row = self._row(sequence)
        row.keys.clear()
        if isinstance(error, NotANumber):
            self._forward.cache.wipe(_index(sequence))
        self._release(sequence)
        self.tally.failed()
        log.error("a request failed", exc_info=error)
        sequence.reader.fail(told_as(error))
        if isinstance(error, torch.OutOfMemoryError):
            torch.cuda.empty_cache()

    def _release(self, sequence: Sequence) -> None:
        """Take its row back; what the row holds stays, for whoever begins alike."""
        self._row(sequence).busy = False
        if sequence in self._reading:
            self._reading.remove(sequence)
        else:
            index, last = _index(sequence), len(self._active) - 1
            self._exchange(index, last)
            self._active[index] = self._active[last]
            self._active[index].row = index
            self._active.pop()
        sequence.row, sequence.embedded = None, None

    # Rows.

    def _exchange(self, one: int, other: int) -> None:
        rows = self._rows
        if one != other:
            self._forward.cache.swap(one, other, len(rows[one].keys), len(rows[other].keys))
            rows[one], rows[other] = rows[other], rows[one]
            for sequence in self._reading:
                if sequence.row in (one, other):
                    sequence.row = one + other - sequence.row

    def _shape_for(self, busy: int, longest: int, *, spare: bool = False) -> bool:
        """Make the cache big enough; False if memory did not suffice and everything was arranged anew."""
        now = self._forward.cache.shape
        shape = scheduler.geometry(now, busy=busy, longest=longest, limits=self._limits, spare=spare)
        if shape == now:
            return True
        order = [one.row for one in self.running if one.row is not None]
        rest = [i for i in range(now.rows) if i not in order]
        rest.sort(key=lambda i: (not self._rows[i].keys, -self._rows[i].used_at))
        kept = (order + rest)[: shape.rows]
        for i in kept:
            del self._rows[i].keys[shape.capacity :]
        try:
            self._forward.cache.rebuild(shape, [(i, len(self._rows[i].keys)) for i in kept])
        except self._broken_by:
            raise
        except Exception as error:  # noqa: BLE001 - no memory, as a rule
            self._lose_cache(now, busy, error)
            return False
        self._rows = [self._rows[i] for i in kept]
        self._rows += [Row() for _ in range(shape.rows - len(self._rows))]
        for row, sequence in enumerate(self._reading, len(self._active)):
            sequence.row = row
        return True

    def _lose_cache(self, last: Geometry, busy: int, error: Exception) -> None:
        """The cache could not grow: be content with its last size, and read everyone's words again."""
        log.warning("the cache could not grow beyond %s: %r", last, error)
        affected = self.running
        for sequence in affected:
            sequence.preempted = True
        self._limits = replace(self._limits, kv_tokens=last.rows * last.capacity)
        self._forget()
        self.waiting.extendleft(sorted(affected, key=lambda one: -one.key))
        if busy == 1:
            # It was for this one alone, running or about to: there is nobody to make room.
            self.tally.failed()
            self.waiting.popleft().reader.fail(told_as(error))

    def _forget(self) -> None:
        for sequence in self.running:
            sequence.row, sequence.embedded = None, None
        self._active, self._reading = [], []
        self._forward.cache.clear(scheduler.FIRST)
        self._rows = [Row() for _ in range(scheduler.FIRST.rows)]
        torch.cuda.empty_cache()


def _index(sequence: Sequence) -> int:
    """The row of a running sequence."""
    if sequence.row is None:
        raise LookupError("a request without a row was taken for a running one")
    return sequence.row
