"""`msp up` and its kin, with real processes of a stand-in program."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli_cluster import ClusterFolder, listens, runs, wait_until_gone


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterFolder]:
    cluster = ClusterFolder(tmp_path)
    yield cluster
    if (tmp_path / "run/state.json").exists():
        cluster.msp("down")


def assert_nothing_left(cluster: ClusterFolder, pids: dict[str, int]) -> None:
    assert [name for name, pid in pids.items() if runs(pid)] == []
    assert [name for name, port in cluster.ports.items() if listens(port)] == []


def test_detached_services_run_until_down_which_leaves_no_process_and_no_port(
    cluster: ClusterFolder,
) -> None:
    cluster.add("one")
    cluster.add("two", after=["one"])
    output = cluster.up()
    pids = cluster.pids()
    assert all(listens(port) for port in cluster.ports.values())
    for name, pid in pids.items():
        assert f"http://127.0.0.1:{cluster.ports[name]}" in output
        assert str(pid) in output
    cluster.msp("down")
    assert_nothing_left(cluster, pids)


def test_a_second_start_works(cluster: ClusterFolder) -> None:
    cluster.add("one")
    for _ in range(2):
        cluster.up()
        pids = cluster.pids()
        cluster.msp("down")
        assert_nothing_left(cluster, pids)


def test_starting_what_runs_already_starts_nothing(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.up()
    before = cluster.pids()
    assert "runs already" in cluster.up()
    assert cluster.pids() == before


def test_a_service_starts_once_those_it_waits_for_are_healthy(cluster: ClusterFolder) -> None:
    cluster.add("last", after=["middle"])
    cluster.add("middle", after=["first"], STANDIN_LOADING_ASKS="2")
    cluster.add("first", STANDIN_LOADING_ASKS="3")
    output = cluster.up()
    assert cluster.started() == ["first", "middle", "last"]
    assert "first: loading" in output
    assert output.index("middle: healthy") < output.index("last: starting")


def test_a_taken_port_is_named_with_its_holder_before_anything_starts(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.add("two")
    with socket.create_server(("127.0.0.1", cluster.ports["two"])):
        output = cluster.up(code=2)
    assert f"port {cluster.ports['two']} (for two) is in use by process {os.getpid()}" in output
    assert not cluster.notes.exists()


def test_everything_that_is_missing_is_said_at_once(cluster: ClusterFolder) -> None:
    cluster.add("registry")
    cluster.described["services"]["registry"]["module"] = "no_such_module"
    cluster.described["memory_needed_bytes"] = 1 << 60
    cluster.described["models"] = {"samples/x": {"folder": "${here}/nowhere"}}
    cluster.write()
    output = cluster.up(code=2)
    assert "no_such_module (for registry) is not installed" in output
    assert "too little memory: 1073741824.0 GiB are needed" in output
    assert f"there is no folder {cluster.folder}/nowhere" in output


def test_a_service_that_dies_while_starting_is_named_with_its_last_words_and_the_rest_is_stopped(
    cluster: ClusterFolder,
) -> None:
    cluster.add("good")
    cluster.add("bad", after=["good"], STANDIN_EXIT_CODE="7")
    output = cluster.up(code=1)
    assert "bad ended during its start, with exit code 7" in output
    assert "the engine is on fire" in output
    assert cluster.started() == ["good", "bad"]
    assert not listens(cluster.ports["good"])
    assert not (cluster.folder / "run" / "state.json").exists()


def test_a_start_that_takes_too_long_is_given_up(cluster: ClusterFolder) -> None:
    cluster.add("slow", STANDIN_LOADING_ASKS="1000000")
    cluster.described["start_timeout_s"] = 1
    cluster.write()
    assert "not healthy within 1 s: slow" in cluster.up(code=1)
    assert not listens(cluster.ports["slow"])


def test_a_killed_service_is_told_of_and_restart_brings_it_back_alone(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.add("two", after=["one"])
    cluster.up()
    before = cluster.pids()
    os.kill(before["two"], signal.SIGKILL)
    wait_until_gone(before["two"])
    told = {line["name"]: line["status"] for line in json.loads(cluster.msp("ps", "--json", code=3))}
    assert told == {"one": "healthy", "two": "not running"}
    assert "msp restart two" in cluster.up(code=2)
    cluster.msp("restart", "two")
    after = cluster.pids()
    assert after["one"] == before["one"]
    assert after["two"] != before["two"]
    assert listens(cluster.ports["two"])
    cluster.msp("ps")


def test_restart_replaces_a_living_service_and_keeps_its_log(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.up()
    before = cluster.pids()["one"]
    cluster.msp("restart", "one")
    assert not runs(before)
    assert cluster.msp("logs", "one").count("standing in") == 2


def test_a_restart_that_fails_leaves_the_others_alone(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.add("two")
    cluster.up()
    cluster.described["services"]["two"]["env"]["STANDIN_EXIT_CODE"] = "1"
    cluster.write()
    cluster.described["memory_needed_bytes"] = 1 << 60  # of the whole cluster, which has taken it by now
    cluster.write()
    assert "two ended during its start" in cluster.msp("restart", "two", code=1)
    assert listens(cluster.ports["one"])
    assert not listens(cluster.ports["two"])
    told = {line["name"]: line["status"] for line in json.loads(cluster.msp("ps", "--json", code=3))}
    assert told == {"one": "healthy", "two": "not running"}


def test_a_restart_without_what_the_service_needs_is_refused_and_stops_nothing(
    cluster: ClusterFolder,
) -> None:
    cluster.add("one")
    cluster.add("two", after=["one"])
    cluster.up()
    os.kill(cluster.pids()["one"], signal.SIGKILL)
    wait_until_gone(cluster.pids()["one"])
    assert "two needs one, not running" in cluster.msp("restart", "two", code=2)
    assert listens(cluster.ports["two"])


def test_a_number_that_now_belongs_to_another_process_is_never_signalled(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.up()
    state_file = cluster.folder / "run" / "state.json"
    true_state = state_file.read_text()
    state = json.loads(true_state)
    pid = state["services"]["one"]["process"]["pid"]
    state["services"]["one"]["process"]["start_ticks"] -= 1
    state_file.write_text(json.dumps(state))
    cluster.msp("down")
    assert runs(pid)
    state_file.write_text(true_state)
    cluster.msp("down")
    assert not runs(pid)


def test_a_service_that_ignores_sigterm_is_killed_after_the_grace_and_that_is_said(
    cluster: ClusterFolder,
) -> None:
    cluster.add("stubborn", STANDIN_IGNORE_TERM="1")
    cluster.described["stop_grace_s"] = 0.2
    cluster.write()
    cluster.up()
    pids = cluster.pids()
    assert "stubborn did not end within 0.2 s after SIGTERM; killing it" in cluster.msp("down")
    assert_nothing_left(cluster, pids)


def test_a_start_ends_what_a_killed_service_left_behind(cluster: ClusterFolder, tmp_path: Path) -> None:
    cluster.add("parent", STANDIN_CHILD=str(tmp_path / "child"))
    cluster.described["stop_grace_s"] = 0.2
    cluster.write()
    cluster.up()
    child = int((tmp_path / "child").read_text())
    os.kill(cluster.pids()["parent"], signal.SIGKILL)
    wait_until_gone(cluster.pids()["parent"])
    cluster.up()
    assert not runs(child)


@pytest.mark.parametrize("killed_before", [False, True])
def test_a_service_s_own_children_do_not_outlive_it(
    cluster: ClusterFolder, tmp_path: Path, killed_before: bool
) -> None:
    cluster.add("parent", STANDIN_CHILD=str(tmp_path / "child"))
    cluster.described["stop_grace_s"] = 0.2
    cluster.write()
    cluster.up()
    child = int((tmp_path / "child").read_text())
    if killed_before:
        os.kill(cluster.pids()["parent"], signal.SIGKILL)
        wait_until_gone(cluster.pids()["parent"])
    assert runs(child)
    cluster.msp("down")
    assert not runs(child)


def test_ctrl_c_stops_everything(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.add("two", after=["one"])
    up = cluster.begin("up", "--cluster", str(cluster.file))
    up.read_until("Ctrl-C stops everything")
    pids = cluster.pids()
    assert up.interrupt() == 0
    assert "stopping all services" in up.seen
    assert_nothing_left(cluster, pids)


def test_ctrl_c_during_the_start_stops_what_has_been_started(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.add("never", after=["one"], STANDIN_LOADING_ASKS="1000000")
    up = cluster.begin("up", "--cluster", str(cluster.file))
    up.read_until("never: loading")
    pids = cluster.pids()
    assert up.interrupt() == 130
    assert_nothing_left(cluster, pids)


def test_a_foreground_that_lives_on_tells_of_a_service_that_ends_and_of_a_stop_from_elsewhere(
    cluster: ClusterFolder,
) -> None:
    cluster.add("one")
    cluster.add("two")
    up = cluster.begin("up", "--cluster", str(cluster.file))
    up.read_until("Ctrl-C stops everything")
    os.kill(cluster.pids()["two"], signal.SIGKILL)
    up.read_until("two has ended; bring it back with: msp restart two")
    cluster.msp("down")
    up.read_until("stopped from elsewhere")
    assert up.end() == 0


def test_two_starts_at_once_do_not_mix(cluster: ClusterFolder) -> None:
    cluster.add("never", STANDIN_LOADING_ASKS="1000000")
    first = cluster.begin("up", "--cluster", str(cluster.file))
    first.read_until("never: loading")
    assert "another msp is starting or stopping services" in cluster.up(code=2)
    assert "another msp is starting or stopping services" in cluster.msp("down", code=2)
    assert first.interrupt() == 130


def test_models_are_imported_while_others_start_and_the_example_is_sent(cluster: ClusterFolder) -> None:
    cluster.add("registry")
    cluster.add("worker", after=["registry"])
    (cluster.folder / "chat").mkdir()
    cluster.described["models"] = {"samples/chat": {"folder": "${here}/chat"}}
    cluster.described["example"] = {"service": "worker", "path": "/v1/x", "body": {"say": "it's"}}
    cluster.write()
    output = cluster.up()
    assert "model samples/chat: verifying" in output
    assert "model samples/chat: imported" in output
    notes = [json.loads(line) for line in cluster.notes.read_text().splitlines()]
    imported = next(note for note in notes if "imported" in note)
    assert imported == {"imported": f"{cluster.folder}/chat", "path": "/models/samples/chat/import"}
    assert f"curl -s http://localhost:{cluster.ports['worker']}/v1/x -H 'Content-Type" in output
    assert '"echo"' in output


def test_an_example_that_is_not_answered_fails_the_start(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.described["example"] = {"service": "one", "path": "/v1/x", "body": {"fail": True}}
    cluster.write()
    output = cluster.up(code=1)
    assert "the example failed" in output
    assert "as asked" in output
    assert not listens(cluster.ports["one"])


def test_another_cluster_in_the_same_folder_is_refused(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.up()
    other = cluster.folder / "other.yaml"
    other.write_text(cluster.file.read_text())
    output = cluster.msp("up", "--cluster", str(other), "--detach", code=2)
    assert f"{cluster.file} already runs" in output


def test_asking_about_a_cluster_that_was_never_started_says_so(cluster: ClusterFolder) -> None:
    assert "msp up --cluster FILE" in cluster.msp("ps", code=3)
    assert "nothing runs" in cluster.msp("restart", "one", code=2)
    assert "there is no log" in cluster.msp("logs", "one", code=2)


def test_restarting_an_unknown_name_lists_the_known_ones(cluster: ClusterFolder) -> None:
    cluster.add("one")
    cluster.up()
    assert "there is no service 'uno'; there are one" in cluster.msp("restart", "uno", code=2)
