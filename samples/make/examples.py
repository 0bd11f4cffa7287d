"""Write samples/audio and samples/images: a few clips and pictures to try the samples with.

Needs espeak-ng's library (`apt-get install espeak-ng`) and pillow. Takes a second.
"""

from __future__ import annotations

import argparse
import wave
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from pictures import draw_shape
from speech import SAMPLE_RATE, Manner, speaker

# What is said, and by which of the voices that the whisper sample was not trained on.
CLIPS = {
    "three-one-four": "en-us+f3",
    "two-zero-two-six": "en+Michael",
    "five-nine-eight": "en-us+Linda",
    "seven": "en-gb-x-rp+m4",
}
PICTURES = ("red-circle", "blue-star", "green-triangle")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    default_out = Path(__file__).resolve().parent.parent
    parser.add_argument(
        "--out", type=Path, default=default_out, help="folder to write (default: %(default)s)"
    )
    out = parser.parse_args().out
    (out / "audio").mkdir(parents=True, exist_ok=True)
    for name, voice in CLIPS.items():
        speak(name, voice, out / "audio" / f"{name}.wav")
    (out / "images").mkdir(exist_ok=True)
    for name in PICTURES:
        colour, shape = name.split("-")
        image = Image.new("RGB", (224, 224), "white")
        red, green, blue, *_ = ImageColor.getrgb(colour)
        draw_shape(ImageDraw.Draw(image), shape, (112, 112), 72, (red, green, blue))
        image.save(out / "images" / f"{name}.png", optimize=True)


def speak(name: str, voice: str, path: Path) -> None:
    """16-bit mono at 16 kHz, with a tenth of a second of silence around."""
    said = speaker().say(tuple(name.split("-")), voice, Manner(rate=175)).audio
    silence = np.zeros(SAMPLE_RATE // 10, np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.concatenate([silence, said, silence]).tobytes())


if __name__ == "__main__":
    main()
