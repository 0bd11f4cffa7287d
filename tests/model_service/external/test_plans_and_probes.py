"""Settings, and what servers say, in the worker's terms."""

from pathlib import Path
from typing import Any

import pytest

from msp_common.contracts.workers import WorkerLoad
from msp_common.settings import SettingsError
from msp_model_service.engines.external.guardian import exit_code
from msp_model_service.engines.external.probing import (
    KnownModel,
    NoModelName,
    ServerFigures,
    known_models,
    model_named,
    read_metrics,
)
from msp_model_service.engines.external.server_plan import ServerPlan, read_command, read_environment
from msp_model_service.engines.external.server_process import shown, what_ended
from msp_model_service.engines.external.watch import Verdicts
from msp_model_service.settings import WorkerSettings

TOLD = {"MODEL_NAME": "org/model", "MODEL_TYPE": "llm", "ENGINE": "openai"}
VLLM = "vllm serve {model_dir} --host {host} --port {port} --served-model-name {model_name}"


def test_a_command_is_filled_in_word_by_word_and_its_other_braces_stay() -> None:
    plan = ServerPlan("org/model", read_command(VLLM + """ --override '{"a": {"port": 1}}' {x}"""))
    assert plan.command_for(Path("/cache/a b"), 4242) == [
        *("vllm", "serve", "/cache/a b", "--host", "127.0.0.1", "--port", "4242"),
        *("--served-model-name", "org/model", "--override", '{"a": {"port": 1}}', "{x}"),
    ]


def test_a_command_may_be_a_list_and_no_shell_reads_it() -> None:
    assert read_command('["a b", "$HOME; rm"]') == ("a b", "$HOME; rm")
    assert read_command("a 'b c' $HOME") == ("a", "b c", "$HOME")


@pytest.mark.parametrize("text", ["", '["a", 1]', "[]", "'unclosed", '[""]'])
def test_a_command_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_command(text)


def test_an_environment_is_read_in_both_forms() -> None:
    assert (
        read_environment("A=1 B='x y=z'")
        == {"A": "1", "B": "x y=z"}
        == read_environment('{"A": "1", "B": "x y=z"}')
    )


@pytest.mark.parametrize("text", ["A", "A=1 b", "1A=2", '{"A": 1}', '{"A B": "1"}'])
def test_an_environment_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_environment(text)


def test_settings_make_the_plan() -> None:
    settings = WorkerSettings.load(
        {
            **TOLD,
            "ENGINE_URL": "http://vllm:8000/v1/",
            "ENGINE_API_KEY": "sesame",
            "ENGINE_FEATURES": "tools,logprobs",
            "ENGINE_SLOTS": "4",
            "MAX_QUEUED": "5",
        }
    )
    plan = settings.server_plan()
    assert (plan.url, plan.base_path, plan.api_key) == ("http://vllm:8000", "/v1", "sesame")
    assert plan.features == {"tools", "logprobs"}
    assert (plan.slots, plan.max_queued) == (4, 5)
    assert "sesame" not in repr(plan) + repr(settings)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({}, "ENGINE=openai needs either ENGINE_COMMAND or ENGINE_URL"),
        ({"ENGINE_COMMAND": "a", "ENGINE_URL": "http://b"}, "ENGINE=openai needs either"),
        ({"ENGINE_COMMAND": "a 'b"}, "ENGINE_COMMAND: No closing quotation"),
        ({"ENGINE_COMMAND": "a", "ENGINE_ENVIRONMENT": "b"}, "ENGINE_ENVIRONMENT: expected NAME=value"),
        ({"ENGINE_COMMAND": "a", "ENGINE_FEATURES": "magic"}, "ENGINE_FEATURES: "),
        ({"ENGINE_COMMAND": "a", "ENGINE_BASE_PATH": "/v1/"}, "ENGINE_BASE_PATH: "),
        ({"ENGINE_COMMAND": "a", "ENGINE": "slot"}, "ENGINE_COMMAND is for ENGINE=openai; ENGINE is slot"),
        ({"ENGINE_URL": "http://b", "ENGINE_MODEL_NAME": "{model_dir}"}, "{model_dir} is not known"),
    ],
)
def test_settings_that_do_not_fit_are_refused(told: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        WorkerSettings.load({**TOLD, **told})
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ({"data": [{"id": "a", "max_model_len": 8192}]}, [KnownModel("a", 8192)]),
        ({"data": [{"id": "a", "meta": {"n_ctx": 512}}]}, [KnownModel("a", 512)]),
        ({"data": [{"id": "a"}, {"id": 3}, "b"]}, [KnownModel("a")]),
        ({"data": None}, []),
        (["a"], []),
    ],
)
def test_lists_of_models_are_read_in_every_dialect(page: Any, found: list[KnownModel]) -> None:
    assert known_models(page) == found


def test_the_servers_name_is_what_was_said_else_ours_else_its_only_one() -> None:
    ours, other = KnownModel("org/model", 1), KnownModel("/path", 2)
    assert model_named("said", "org/model", [ours, other]) == KnownModel("said")
    assert model_named("said", "org/model", [other]) == KnownModel("said", 2)
    assert model_named(None, "org/model", [other, ours]) is ours
    assert model_named(None, "org/model", [other]) is other
    for known in ([], [other, KnownModel("b")]):
        with pytest.raises(NoModelName, match="set ENGINE_MODEL_NAME"):
            model_named(None, "org/model", known)


def test_metrics_are_read_in_every_dialect() -> None:
    vllm = 'vllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_running{engine="1"} 1.0\n'
    assert read_metrics(vllm) == ServerFigures(running=3)
    llama = "llamacpp:requests_processing 1\nllamacpp:requests_deferred 4\nother 1\nllamacpp:x nothing\n"
    assert read_metrics(llama) == ServerFigures(running=1, waiting=4)
    assert read_metrics("sglang:token_usage 0.5\n") == ServerFigures(kv_used=0.5)


def test_what_waits_in_the_server_counts_as_queued_but_never_more_than_was_sent() -> None:
    load = WorkerLoad(in_flight=3, queued=1, slots=8)
    assert ServerFigures(waiting=2).onto(load) == WorkerLoad(in_flight=1, queued=3, slots=8)
    assert ServerFigures(waiting=9).onto(load) == WorkerLoad(in_flight=0, queued=4, slots=8)
    assert ServerFigures().onto(load) == load


def test_a_server_is_broken_only_after_a_while_without_a_good_answer() -> None:
    verdicts = Verdicts(30, now=0)
    assert verdicts.note("late", 29) is None
    assert verdicts.note(None, 31) is None
    assert verdicts.note("late", 60) is None
    assert verdicts.note("late", 61) == "the server is not ready for 30 s: late"


def test_a_command_is_logged_without_its_secrets() -> None:
    command = ["vllm", "--api-key", "opensesame", "--hf-token=hush", "--max-model-len", "9", "a b"]
    assert shown(command) == "vllm --api-key '***' '--hf-token=***' --max-model-len 9 'a b'"


@pytest.mark.parametrize(
    ("returncode", "said"),
    [(3, "exited with code 3"), (-9, "was ended by SIGKILL"), (-11, "was ended by SIGSEGV")],
)
def test_an_end_is_told_for_people(returncode: int, said: str) -> None:
    assert what_ended(exit_code(returncode)) == said
