"""English words spoken by espeak-ng through its C library, with the time at which each word is said.

The library rather than the program, because only the library tells when each word begins, and because a
thousand calls of it take seconds. Debian and Ubuntu: `apt-get install espeak-ng`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 16_000

ACCENTS = (
    "en-us", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029", "en-us-nyc",
)  # fmt: skip

# Voice variants, as espeak-ng names their files. Those held out are never trained on, nor are variants that
# are near copies of one of them (Steph2 and Steph3 of Steph, AnxiousAndy of Andy).
HELD_OUT = ("f3", "m4", "Linda", "Alex", "Andy", "Michael", "Steph", "belinda")
TRAINED = (
    "f1", "f2", "f4", "f5", "m1", "m2", "m3", "m5", "m6", "m7", "m8", "adam", "Alicia", "Andrea", "Annie",
    "antonio", "aunty", "benjamin", "boris", "caleb", "croak", "david", "Denis", "Diogo", "ed", "edward",
    "edward2", "Gene", "Gene2", "grandma", "grandpa", "gustave", "Henrique", "Hugo", "iven", "iven2", "iven3",
    "iven4", "jacky", "john", "kaukovalta", "klatt", "klatt2", "klatt3", "klatt4", "klatt6", "Lee", "marcelo",
    "Marco", "Mario", "max", "michel", "miguel", "mike", "Mr serious", "Nguyen", "norbert", "pablo", "paul",
    "pedro", "quincy", "rob", "robert", "RicishayMax", "RicishayMax2", "RicishayMax3", "sandro", "shelby",
    "Storm", "travis", "Tweaky", "victor", "zac", "anika",
)  # fmt: skip

_EVENT_WORD = 1
_EVENT_LIST_END = 0
_OUTPUT_SYNCHRONOUS = 2
_CHARACTERS_UTF8 = 1
_PARAMETER_RATE, _PARAMETER_PITCH, _PARAMETER_RANGE, _PARAMETER_WORD_GAP = 1, 3, 4, 7


class _Event(ctypes.Structure):
    """`espeak_EVENT` of speak_lib.h; `audio_position` is in milliseconds from the start of the text."""

    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_uint64),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Manner:
    """How a text is spoken: espeak-ng's own units (words a minute, 0-100, 0-100, units of 10 ms)."""

    rate: int = 175
    pitch: int = 50
    pitch_range: int = 50
    word_gap: int = 0


@dataclass(frozen=True)
class Utterance:
    """Audio at 16 kHz (mono, int16) without silence at its ends, its words, and between which samples each
    is said."""

    audio: NDArray[np.int16]
    words: tuple[str, ...]
    starts: tuple[int, ...]
    ends: tuple[int, ...]


def resample(audio: NDArray[np.floating], rate: int, to_rate: int) -> NDArray[np.float32]:
    """Band-limited resampling of a whole clip through its spectrum."""
    length = max(2, round(len(audio) * to_rate / rate))
    return (np.fft.irfft(np.fft.rfft(audio), n=length) * (length / len(audio))).astype(np.float32)


class Speaker:
    """espeak-ng in this process. It keeps one voice at a time in C globals, hence `speaker()` below."""

    def __init__(self) -> None:
        name = ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1"
        try:
            self._library = ctypes.CDLL(name)
        except OSError as error:
            raise RuntimeError("espeak-ng's library is missing: apt-get install espeak-ng") from error
        self._library.espeak_Synth.argtypes = (
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        )  # fmt: skip
        self._rate: int = self._library.espeak_Initialize(_OUTPUT_SYNCHRONOUS, 0, None, 0)
        if self._rate <= 0:
            raise RuntimeError(
                f"espeak_Initialize failed with {self._rate}: are espeak-ng's voices installed?"
            )
        self._pieces: list[NDArray[np.int16]] = []
        self._word_ms: dict[int, int] = {}  # by place in the text, from 1
        self._callback = _Callback(self._receive)  # kept: C holds no reference to it
        self._library.espeak_SetSynthCallback(self._callback)

    def _receive(
        self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]
    ) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        index = 0
        while events[index].type != _EVENT_LIST_END:
            if events[index].type == _EVENT_WORD:
                self._word_ms[events[index].text_position] = events[index].audio_position
            index += 1
        return 0

    def say(self, words: tuple[str, ...], voice: str, manner: Manner, separator: str = " ") -> Utterance:
        """`voice` is an accent and a variant, as `en-us+f3`."""
        library = self._library
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}; `espeak-ng --voices=variant` lists them")
        library.espeak_SetParameter(_PARAMETER_RATE, manner.rate, 0)
        library.espeak_SetParameter(_PARAMETER_PITCH, manner.pitch, 0)
        library.espeak_SetParameter(_PARAMETER_RANGE, manner.pitch_range, 0)
        library.espeak_SetParameter(_PARAMETER_WORD_GAP, manner.word_gap, 0)
        self._pieces.clear()
        self._word_ms.clear()
        text = separator.join(words).encode()
        status = library.espeak_Synth(text, len(text) + 1, 0, 1, 0, _CHARACTERS_UTF8, None, None)
        if status != 0 or not self._pieces:
            raise RuntimeError(f"espeak-ng did not speak {text!r} as {voice!r} (status {status})")
        # Looked up by place, since espeak-ng also reports some ends of clauses as words.
        places = accumulate((len(word) + len(separator) for word in words[:-1]), initial=1)
        word_ms = [self._word_ms.get(place, -1) for place in places]
        if -1 in word_ms:
            raise RuntimeError(f"espeak-ng told no time for a word of {text!r} as {voice!r}: {self._word_ms}")
        audio = resample(np.concatenate(self._pieces).astype(np.float32), self._rate, SAMPLE_RATE)
        return _trimmed(audio, words, [ms * SAMPLE_RATE // 1000 for ms in word_ms])


def _trimmed(audio: NDArray[np.float32], words: tuple[str, ...], starts: list[int]) -> Utterance:
    """Ends of words by energy: the last sample above 2 % of the peak before the next word begins."""
    loud = np.flatnonzero(np.abs(audio) > 0.02 * np.abs(audio).max())
    first, last = int(loud[0]), int(loud[-1]) + 1
    begins = [max(first, start) for start in starts]
    ends = []
    for begin, limit in zip(begins, [*begins[1:], last], strict=True):
        inside = loud[(loud >= begin) & (loud < limit)]
        ends.append(int(inside[-1]) + 1 if len(inside) else limit)
    samples = np.clip(audio[first:last], -32768, 32767).astype(np.int16)
    return Utterance(samples, words, tuple(b - first for b in begins), tuple(e - first for e in ends))


@cache
def speaker() -> Speaker:
    """This process's one speaker."""
    return Speaker()
