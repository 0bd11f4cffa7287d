"""What a request used, from the events of its choices."""

from msp_model_service.chat.accounting import Account
from msp_model_service.engines.chat import PreparedPrompt, TokenEvent, Usage


def prompt(tokens: int) -> PreparedPrompt:
    return PreparedPrompt(tuple(range(tokens)))


def test_tokens_count_from_the_first_and_the_engine_has_the_last_word() -> None:
    account = Account([prompt(5)], 1)
    account.note(0, TokenEvent("a", (1,)))
    account.note(0, TokenEvent("", (2, 3)))
    assert account.usage == Usage(5, 3)
    account.note(0, TokenEvent("", (), finish="stop", usage=Usage(6, 4)))
    assert account.usage == Usage(6, 4)
    assert account.usage.cached_tokens is None


def test_choices_share_their_prompt_and_what_the_first_had_to_read_was_not_cached() -> None:
    account = Account([prompt(5), prompt(7)], 2)
    for index, cached in enumerate((2, 4, 6, None)):
        account.note(index, TokenEvent("", (), finish="stop", usage=Usage(7 if index > 1 else 5, 1, cached)))
    assert account.usage == Usage(12, 4)
    assert account.usage.cached_tokens == 2 + 6
