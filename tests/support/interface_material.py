"""What people would hand to a web interface, out of the samples."""

import wave
from pathlib import Path

import numpy as np

from support.audio_files import encode
from support.chat_ui_talk import Material

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def material() -> Material:
    """A red circle, and "three one four"; the microphone's form is made on the spot."""
    recording = SAMPLES / "audio/three-one-four.wav"
    with wave.open(str(recording)) as file:
        rate, width = file.getframerate(), file.getsampwidth()
        assert width == 2
        whole = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    # Opus knows 48 kHz and few others; the samples' own rate is one of those few.
    return Material(
        SAMPLES / "images/red-circle.png",
        recording,
        encode((whole / 32768).astype(np.float32), "webm", rate=rate),
    )
