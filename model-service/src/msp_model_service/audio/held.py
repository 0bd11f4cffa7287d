"""How much decoded audio is in memory at once: an hour is 230 MB, however small its file was."""

from collections.abc import Iterator
from contextlib import contextmanager

from msp_common.errors import TooManyRequests
from msp_model_service.engines.transcriber import SAMPLE_RATE, Audio


class HeldAudio:
    """Counts seconds of audio between decoding and the end of transcription."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._held_s = 0.0

    @contextmanager
    def hold(self, audio: Audio) -> Iterator[None]:
        """Count `audio` within the block; alone, any recording may pass.

        Raises TooManyRequests if it is too much beside what is held already.
        """
        seconds = audio.size / SAMPLE_RATE
        if self._held_s and self._held_s + seconds > self._limit_s:
            raise TooManyRequests(
                f"{self._held_s:.0f} s of audio are being transcribed or waiting, and {seconds:.0f} s more "
                f"are over the limit of {self._limit_s:.0f} s; try again later.",
                retry_after_s=5,
            )
        self._held_s += seconds
        try:
            yield
        finally:
            self._held_s -= seconds
            if self._held_s < 1 / SAMPLE_RATE:
                self._held_s = 0.0
