"""From the bytes of any usual audio or video file to samples.

The container is found by its bytes alone. Only formats that hold their own data are allowed: playlists and
the like would make the decoder open files and addresses that a stranger has chosen.
"""

import logging
from collections.abc import Iterator
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from msp_common.errors import InvalidRequest
from msp_model_service.engines.transcriber import SAMPLE_RATE, Audio

CONTAINERS = (
    *("wav", "w64", "aiff", "au", "caf", "flac", "mp3", "aac", "ac3", "eac3", "amr", "ogg"),
    *("matroska", "webm", "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "asf", "avi", "mpegts", "mpeg"),
)
"""Demuxers, by FFmpeg's names, that a file may be read with."""

_OPEN_OPTIONS = {
    "format_whitelist": ",".join(CONTAINERS),
    # A name that no protocol has: a file that points elsewhere finds every door shut.
    "protocol_whitelist": "none",
}

_SLOWEST_HZ, _FASTEST_HZ = 1_000, 768_000
"""Sample rates of sound. Others would make the resampler work for hours, or take all memory."""

log = logging.getLogger(__name__)


def decode(file: BinaryIO, max_duration_s: float) -> Audio:
    """The first audio track as mono samples at SAMPLE_RATE. Blocks: called in a thread.

    Packets that cannot be decoded are skipped, as every player does, if anything else can.
    Raises InvalidRequest naming `file` when it is empty, no audio, or longer than `max_duration_s`.
    """
    if not file.read(1):
        raise _refused("The file is empty.")
    file.seek(0)
    limit = int(max_duration_s * SAMPLE_RATE)
    chunks: list[NDArray[np.float32]] = []
    count = 0
    try:
        with av.open(file, mode="r", options=_OPEN_OPTIONS, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise _refused("The file has no audio track.")
            for chunk in _resampled(_frames(container)):
                count += chunk.size
                if count > limit:
                    raise _refused(
                        f"The audio is longer than the limit of {max_duration_s:g} s; send it in parts."
                    )
                chunks.append(chunk)
    except (av.FFmpegError, ValueError) as error:
        # PyAV raises ValueError for streams whose parameters make no sense.
        raise _refused(f"The file cannot be read as audio: {_reason(error)}.") from error
    if not count:
        raise _refused("The file holds no audio that can be decoded.")
    return np.concatenate(chunks)


def _frames(container: Any) -> Iterator[Any]:
    stream = container.streams.audio[0]
    skipped = 0
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            skipped += 1
    if skipped:
        log.warning("skipped %d audio packets that could not be decoded", skipped)


def _resampled(frames: Iterator[Any]) -> Iterator[NDArray[np.float32]]:
    """Samples of frames whose rate or layout may change on the way, as radio recordings do."""
    resampler: Any = None
    shape: tuple[str, str, int] | None = None
    for frame in frames:
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if not _SLOWEST_HZ <= frame.sample_rate <= _FASTEST_HZ:
            raise _refused(
                f"The file says that it has {frame.sample_rate} samples a second, as no sound has."
            )
        if now != shape:
            if resampler is not None:
                yield from _samples(resampler.resample(None))
            resampler, shape = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE), now
        # Timestamps with gaps or jumps make the resampler invent or drop samples.
        frame.pts = None
        yield from _samples(resampler.resample(frame))
    if resampler is not None:
        yield from _samples(resampler.resample(None))


def _samples(frames: list[Any]) -> Iterator[NDArray[np.float32]]:
    for frame in frames:
        # A copy: the frame's buffer is padded to FFmpeg's liking and would be kept alive.
        yield np.nan_to_num(frame.to_ndarray()[0], posinf=0.0, neginf=0.0)


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(message, param="file", code="invalid_audio")


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text)[:200].rstrip(".")
