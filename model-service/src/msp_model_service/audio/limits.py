"""What recordings may cost."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AudioLimits:
    """Of one recording, and of all recordings at once."""

    max_file_bytes: int = 25 * 1024 * 1024
    """Of the file as uploaded; OpenAI's limit."""
    max_duration_s: float = 2 * 3600
    """Of one recording; a well compressed hour fits into 11 MB."""
    max_held_s: float = 4 * 3600
    """Of all recordings that wait or are transcribed: each hour is 230 MB of memory."""
    decoders: int = 2
    """Files decoded at the same time."""
