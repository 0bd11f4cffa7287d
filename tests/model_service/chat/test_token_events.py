"""From tokens to events, with bytes as tokens."""

from msp_model_service.engines.chat import GenerationRequest, PreparedPrompt, TokenEvent, TokenLogprob
from msp_model_service.engines.fake_chat import END, ByteVocabulary
from msp_model_service.engines.token_events import TokenEvents


def events(
    tokens: list[int], *, stop: tuple[str, ...] = (), max_tokens: int = 100, ignore_eos: bool = False
) -> list[TokenEvent]:
    """All events until the first with a finish."""
    request = GenerationRequest(PreparedPrompt((1, 2, 3)), stop=stop, ignore_eos=ignore_eos)
    maker = TokenEvents(request, ByteVocabulary(), end_ids={END}, max_tokens=max_tokens)
    made: list[TokenEvent] = []
    for token in tokens:
        logprob = TokenLogprob(token, ByteVocabulary().bytes_of(token), -1.0)
        made.append(maker.feed(token, logprob))
        if made[-1].finish:
            break
    return made


def told(made: list[TokenEvent]) -> bytes:
    """The bytes of the tokens whose log probabilities were told."""
    return b"".join(logprob.bytes for event in made for logprob in event.logprobs)


def text(made: list[TokenEvent]) -> str:
    return "".join(event.text for event in made)


def test_a_character_appears_when_its_last_byte_is_there() -> None:
    made = events([*"é🙂".encode(), END])
    assert [event.text for event in made] == ["", "é", "", "", "", "🙂", ""]
    assert made[-1].finish == "stop"


def test_a_character_cut_by_the_limit_is_left_out() -> None:
    made = events([*"a🙂".encode()], max_tokens=3)
    assert text(made) == "a"
    assert made[-1].finish == "length"


def test_bytes_that_are_no_utf8_do_not_hold_up_what_follows() -> None:
    assert text(events([0xFF, *b"ok", END])) == "\ufffdok"


def test_the_last_event_counts_the_end_token_too() -> None:
    usage = events([*b"ab", END])[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens) == (3, 3)


def test_a_stop_ends_the_answer_before_itself_and_wins_over_the_limit() -> None:
    made = events([*b"one END"], stop=("END",), max_tokens=7)
    assert (text(made), made[-1].finish) == ("one ", "stop")


def test_what_was_held_for_a_stop_is_told_at_the_limit() -> None:
    made = events([*b"one EN"], stop=("END",), max_tokens=6)
    assert (text(made), made[-1].finish) == ("one EN", "length")


def test_log_probabilities_are_told_with_their_text_and_not_of_what_was_cut() -> None:
    made = events([*"é one END".encode()], stop=("END",))
    assert told(made).decode() == text(made) == "é one "
    shown = ""
    for event in made:
        shown += event.text
        assert len(told([event]).decode("utf-8", "ignore")) <= len(shown)


def test_the_end_token_can_be_ignored_and_is_never_shown() -> None:
    made = events([*b"a", END, *b"b"], ignore_eos=True, max_tokens=3)
    assert (text(made), made[-1].finish) == ("ab", "length")
    assert told(made) == b"ab"
