"""Stop sequences."""

import pytest

from msp_model_service.chat.stops import StopsBehindThinking, StopWatcher, held_back


def shown(pieces: list[str], stops: list[str]) -> tuple[list[str], bool]:
    watcher = StopWatcher(stops)
    out = [watcher.feed(piece) for piece in pieces]
    return [*out, watcher.finish()], watcher.stopped


def test_text_without_stops_passes_at_once() -> None:
    assert shown(["a", "bc"], []) == (["a", "bc", ""], False)


def test_no_prefix_of_a_stop_spread_over_pieces_is_shown() -> None:
    assert shown(["one E", "N", "D two"], ["END"]) == (["one ", "", "", ""], True)


def test_what_only_began_like_a_stop_is_shown_later() -> None:
    assert shown(["one E", "N", "x"], ["END"]) == (["one ", "", "ENx", ""], False)


def test_what_is_held_at_the_end_belongs_to_the_answer() -> None:
    assert shown(["one EN"], ["END"]) == (["one ", "EN"], False)


@pytest.mark.parametrize("pieces", [["abcabd"], list("abcabd"), ["abca", "bd"]])
def test_a_stop_is_found_however_the_text_is_cut(pieces: list[str]) -> None:
    out, stopped = shown(pieces, ["abd"])
    assert ("".join(out), stopped) == ("abc", True)


def test_the_stop_that_begins_first_wins_within_one_piece() -> None:
    assert shown(["x first y second"], ["second", "first"])[0][0] == "x "


def test_a_stop_at_the_very_beginning_leaves_nothing() -> None:
    assert shown(["END", "more"], ["END"]) == (["", "", ""], True)


def test_only_a_proper_beginning_is_held_back() -> None:
    assert held_back("xab", ["abc"]) == 2
    assert held_back("xabc", ["abc"]) == 0
    assert held_back("", ["abc"]) == 0


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "begun", "shown"),
    [
        ("<think>a.b</think>c.d", False, "<think>a.b</think>c"),
        ("a.b</think>c.d", True, "a.b</think>c"),
        ("c.d", False, "c"),
        ("<th.", False, "<th"),
        ("<think>a.", False, "<think>a."),
        ("<th", False, "<th"),
    ],
)
def test_thinking_is_not_stopped(text: str, begun: bool, shown: str, size: int) -> None:
    watcher = StopsBehindThinking(["."], start="<think>", end="</think>", begun=begun)
    told = "".join(watcher.feed(text[i : i + size]) for i in range(0, len(text), size))
    assert told + watcher.finish() == shown
    assert watcher.stopped == text.startswith(shown + ".")
