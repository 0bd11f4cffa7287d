"""Any usual file becomes 16 kHz mono; anything else is refused, and nothing it points to is opened."""

import io
from pathlib import Path

import numpy as np
import pytest

from msp_common.errors import InvalidRequest
from msp_model_service.audio.decoding import decode
from msp_model_service.engines.transcriber import SAMPLE_RATE, Audio
from support import audio_files
from support.tripwire import tripwire


def decoded(data: bytes, max_duration_s: float = 60) -> Audio:
    return decode(io.BytesIO(data), max_duration_s)


def loudest_pitch(audio: Audio) -> float:
    spectrum = np.abs(np.fft.rfft(audio))
    return float(np.fft.rfftfreq(audio.size, 1 / SAMPLE_RATE)[spectrum.argmax()])


@pytest.mark.parametrize("name", audio_files.CONTAINERS)
def test_every_usual_container_is_decoded_to_16_khz(name: str) -> None:
    rate = audio_files.CONTAINERS[name][2]
    audio = decoded(audio_files.encode(audio_files.tone(1.5, rate, 440), name))
    assert audio.dtype == np.float32
    # Lossy codecs add up to two frames of padding.
    assert audio.size / SAMPLE_RATE == pytest.approx(1.5, abs=0.13)
    assert loudest_pitch(audio) == pytest.approx(440, abs=3)
    assert 0.15 < np.abs(audio).max() < 0.5


def test_stereo_is_mixed_to_one_channel() -> None:
    audio = decoded(audio_files.encode(audio_files.tone(1, 44_100), "wav", channels=2))
    assert audio.shape == (SAMPLE_RATE,)
    assert loudest_pitch(audio) == pytest.approx(220, abs=3)


def test_samples_at_16_khz_pass_unchanged() -> None:
    tone = audio_files.tone(0.5)
    audio = decoded(audio_files.encode(tone, "wav", rate=SAMPLE_RATE))
    np.testing.assert_allclose(audio, tone, atol=1e-4)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"\0", "cannot be read"),
        (b"this is a letter, not a recording. " * 200, "cannot be read"),
        (bytes(range(256)) * 400, "cannot be read|no audio"),
        (audio_files.wav()[:78], "no audio"),
        (audio_files.encode(audio_files.tone(1, 44_100), "m4a")[:200], "cannot be read"),
        (audio_files.silent_video(), "no audio track"),
    ],
    ids=["empty", "one-byte", "text", "noise", "header-only", "cut-m4a", "video-only"],
)
def test_a_file_that_is_no_audio_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        decoded(data)
    assert refused.value.param == "file"


def test_a_recording_that_was_cut_off_gives_what_there_is() -> None:
    whole = audio_files.encode(audio_files.tone(2, 44_100), "mp3")
    audio = decoded(whole[: len(whole) // 2])
    assert 0.7 < audio.size / SAMPLE_RATE < 1.4


def test_noise_in_the_middle_is_skipped() -> None:
    data = bytearray(audio_files.encode(audio_files.tone(4, 44_100), "mp3"))
    middle = len(data) // 2
    data[middle : middle + 400] = b"\x55" * 400
    assert decoded(bytes(data)).size / SAMPLE_RATE > 3


def test_a_recording_over_the_limit_is_refused_while_it_is_decoded() -> None:
    with pytest.raises(InvalidRequest, match="longer than the limit of 2 s"):
        decoded(audio_files.wav(3), max_duration_s=2)
    assert decoded(audio_files.wav(2), max_duration_s=2).size == 2 * SAMPLE_RATE


def test_a_small_file_that_grows_enormous_is_stopped_at_the_limit() -> None:
    minutes = np.zeros(48_000 * 60 * 5, dtype=np.float32)
    bomb = audio_files.encode(minutes, "flac")
    assert len(bomb) < 300_000
    with pytest.raises(InvalidRequest, match="longer than the limit"):
        decoded(bomb, max_duration_s=60)


def test_a_header_that_promises_too_much_is_not_believed() -> None:
    assert decoded(audio_files.wav_that_claims(2**31)).size == pytest.approx(SAMPLE_RATE / 10, abs=2)


def test_nothing_that_a_file_points_to_is_opened(tmp_path: Path) -> None:
    canary = tmp_path / "canary.wav"
    canary.write_bytes(audio_files.wav())
    with tripwire() as wire:
        url = f"http://127.0.0.1:{wire.port}/a.wav"
        for target in (url, str(canary), f"file:{canary}"):
            for playlist in (
                f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n",
                f"ffconcat version 1.0\nfile '{target}'\n",
                f"[playlist]\nFile1={target}\nNumberOfEntries=1\n",
                f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
                f"<AdaptationSet><Representation><BaseURL>{target}</BaseURL></Representation></AdaptationSet>"
                "</Period></MPD>",
                "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\n"
                f"m=audio {wire.port} RTP/AVP 0\n",
            ):
                with pytest.raises(InvalidRequest):
                    decoded(playlist.encode())
        assert not wire.touched.is_set()
