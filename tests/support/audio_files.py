"""Small recordings in every usual container, encoded on the spot."""

import io
import math
import struct

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000

CONTAINERS = {
    "wav": ("wav", "pcm_s16le", 44_100),
    "flac": ("flac", "flac", 48_000),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "ogg-opus": ("ogg", "libopus", 48_000),
    "ogg-vorbis": ("ogg", "vorbis", 44_100),
    "mka-opus": ("matroska", "libopus", 48_000),
    "webm": ("webm", "libopus", 48_000),
    "m4a": ("ipod", "aac", 44_100),
    "mp4": ("mp4", "aac", 48_000),
    "aac": ("adts", "aac", 44_100),
    "aiff": ("aiff", "pcm_s16be", 22_050),
    "amr": ("amr", "libopencore_amrnb", 8_000),
    "alac": ("ipod", "alac", 44_100),
    "wma": ("asf", "wmav2", 44_100),
}
"""Name → FFmpeg's container, codec and sample rate."""


def tone(seconds: float, rate: int = RATE, pitch_hz: float = 220.0) -> NDArray[np.float32]:
    """A sine at 0.3 of full scale."""
    times = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * math.pi * pitch_hz * times)).astype(np.float32)


def encode(
    samples: NDArray[np.float32], name: str = "wav", *, rate: int | None = None, channels: int = 1
) -> bytes:
    """`samples` (at the container's usual rate, or at `rate`) as a file. Channels get the same sound."""
    container, codec, usual = CONTAINERS[name]
    rate = rate or usual
    channels = 2 if codec == "vorbis" else channels
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, layout="stereo" if channels == 2 else "mono")
        if codec == "wmav2":
            stream.bit_rate = 64_000  # it has no default of its own
        if codec == "libopencore_amrnb":
            stream.bit_rate = 12_200
        if codec == "vorbis":
            # FFmpeg's own encoder calls itself experimental.
            stream.codec_context.options = {"strict": "-2"}
        whole = (np.repeat(samples, channels)[None] * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout="stereo" if channels == 2 else "mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            output.mux(packet)
    return file.getvalue()


def silent_video() -> bytes:
    """An mp4 with a picture and no sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), dtype=np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return file.getvalue()


def wav(seconds: float = 1.0) -> bytes:
    """A tone at 16 kHz."""
    return encode(tone(seconds), "wav", rate=RATE)


def silence(seconds: float = 1.0) -> bytes:
    """A wav in which nothing is heard."""
    return encode(np.zeros(round(seconds * RATE), dtype=np.float32), "wav", rate=RATE)


def wav_that_claims(size_bytes: int) -> bytes:
    """A wav whose header promises `size_bytes` of sound, of which a tenth of a second is there."""
    samples = (tone(0.1) * 32767).astype("<i2").tobytes()
    header = b"RIFF" + struct.pack("<I", min(size_bytes + 36, 2**32 - 1)) + b"WAVEfmt "
    header += struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE * 2, 2, 16)
    return header + b"data" + struct.pack("<I", size_bytes) + samples
