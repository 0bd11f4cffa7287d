"""Whether what was written of a window is to be believed, and what to do if not.

The thresholds are those of the model's authors (Radford et al. 2022, section 4.5).
"""

from dataclasses import dataclass

from msp_model_service.audio.transcript import compression_ratio

FALL_BACK = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Temperatures that are tried in turn while the text is not believed."""

MOST_COMPRESSION = 2.4
"""Text that compresses better goes round in circles."""

LEAST_LOGPROB = -1.0
"""Mean over tokens; below it the model itself does not believe the text."""

SILENT_FROM = 0.6
"""Probability that nobody speaks."""


@dataclass(frozen=True)
class Written:
    """What the model made of one window, at one temperature."""

    tokens: list[int]
    text: str
    avg_logprob: float
    no_speech_prob: float
    temperature: float

    @property
    def silent(self) -> bool:
        """Nobody speaks, and the text was made up."""
        return self.no_speech_prob > SILENT_FROM and self.avg_logprob < LEAST_LOGPROB

    @property
    def doubtful(self) -> bool:
        """A higher temperature may do better."""
        if self.silent:
            return False
        return self.avg_logprob < LEAST_LOGPROB or compression_ratio(self.text) > MOST_COMPRESSION
