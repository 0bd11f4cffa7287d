"""Which text is believed."""

from dataclasses import replace

from msp_model_service.engines.whisper.trust import Written

GOOD = Written(tokens=[1], text=" a plain sentence", avg_logprob=-0.3, no_speech_prob=0.1, temperature=0.0)


def test_plain_text_that_the_model_believes_is_kept() -> None:
    assert not GOOD.doubtful
    assert not GOOD.silent


def test_text_that_goes_round_in_circles_is_doubted() -> None:
    assert replace(GOOD, text=" and so on" * 30).doubtful


def test_text_that_the_model_does_not_believe_is_doubted_unless_nobody_speaks() -> None:
    unsure = replace(GOOD, avg_logprob=-1.2)
    assert unsure.doubtful
    silent = replace(unsure, no_speech_prob=0.9)
    assert silent.silent
    assert not silent.doubtful


def test_speech_that_the_model_is_sure_of_is_no_silence() -> None:
    assert not replace(GOOD, no_speech_prob=0.9).silent


def test_no_text_at_all_is_not_doubted() -> None:
    assert not replace(GOOD, tokens=[], text="").doubtful
