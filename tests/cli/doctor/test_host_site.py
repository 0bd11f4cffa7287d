"""A real installation's commands and files, and those that were recorded on the host."""

from pathlib import Path

import pytest
from fastapi import FastAPI

from msp_cli.doctor.gathering import DEFAULT_GATEWAY, Addresses, addresses_of
from msp_cli.doctor.host_site import HostSite
from msp_cli.doctor.site import Answer, PathFacts, Ran, Reached, Unknown
from support.servers import run_server


def record(folder: Path, name: str, out: str, code: int = 0, err: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.out").write_text(out)
    (folder / f"{name}.err").write_text(err)
    (folder / f"{name}.code").write_text(f"{code}\n")


def test_commands_are_run_on_this_host(tmp_path: Path) -> None:
    ran = HostSite(tmp_path).run("disks")
    assert isinstance(ran, Ran)
    assert "Mounted on" in ran.out


def test_recorded_commands_are_not_run_again(tmp_path: Path) -> None:
    record(tmp_path / "facts", "disks", "recorded")
    site = HostSite(tmp_path, tmp_path / "facts")
    assert site.run("disks") == Ran(0, "recorded", "")
    assert site.run("clock") == Unknown("timedatectl was not run on the host")


def test_a_program_that_the_host_lacks_is_told_from_one_that_failed(tmp_path: Path) -> None:
    record(tmp_path / "facts", "nvidia-smi", "", 127, "nvidia-smi: command not found")
    record(tmp_path / "facts", "clock", "", 1, "no systemd")
    site = HostSite(tmp_path, tmp_path / "facts")
    smi = site.run("nvidia-smi")
    assert isinstance(smi, Unknown)
    assert smi.absent
    assert site.run("clock") == Ran(1, "", "no systemd")


def test_files_and_their_permissions_are_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")
    (tmp_path / ".env").chmod(0o640)
    site = HostSite(tmp_path)
    assert site.read(".env") == "A=1\n"
    found = site.stat(".env")
    assert isinstance(found, PathFacts)
    assert (found.mode, found.is_folder) == (0o640, False)
    missing = site.read("chatui.env")
    assert isinstance(missing, Unknown)
    assert missing.absent


def test_an_answer_of_any_status_is_an_answer(tmp_path: Path) -> None:
    with run_server(FastAPI()) as url:
        answer = HostSite(tmp_path).get(f"{url}/nowhere")
    assert isinstance(answer, Answer)
    assert answer.status == 404
    assert answer.date


def test_what_does_not_listen_is_unknown_with_its_address(tmp_path: Path) -> None:
    found = HostSite(tmp_path).get("http://127.0.0.1:1/health")
    assert isinstance(found, Unknown)
    assert "http://127.0.0.1:1/health" in found.why


def test_recorded_logs_and_probes_are_read_by_container(tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    record(facts, "disks", "")
    record(facts / "logs", "gateway", "out\n", err="err\n")
    record(facts / "airgap", "host", '[{"target": "DNS x", "through": false, "detail": "no"}]')
    record(facts / "airgap", "gateway", "", 125, "no such container")
    site = HostSite(tmp_path, facts)
    logs = site.logs(["gateway", "llm", "../../etc/passwd"])
    assert logs["gateway"] == "out\nerr\n"
    assert isinstance(logs["llm"], Unknown)
    assert isinstance(logs["../../etc/passwd"], Unknown)
    probes = site.probes(["gateway"], None)
    assert probes["host"] == [Reached("DNS x", False, "no")]
    assert isinstance(probes["gateway"], Unknown)


@pytest.mark.parametrize("name", ["../outside", "inner/deep"])
def test_a_name_that_is_none_of_a_container_reads_no_file(tmp_path: Path, name: str) -> None:
    record(tmp_path / "facts", "outside", "not to be read")
    record(tmp_path / "facts" / "logs", "x", "")
    record(tmp_path / "facts" / "logs" / "inner", "deep", "not to be read")
    assert isinstance(HostSite(tmp_path, tmp_path / "facts").logs([name])[name], Unknown)


def test_a_gateway_with_a_certificate_is_asked_by_tls(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GATEWAY_TLS_CERT=/etc/tls/gw.pem\n")
    site = HostSite(tmp_path)
    assert addresses_of(site, DEFAULT_GATEWAY, "http://r/").gateway == "https://127.0.0.1:8080"
    assert addresses_of(site, "http://gw:1/", "http://r/") == Addresses("http://gw:1", "http://r")
    (tmp_path / ".env").unlink()
    assert addresses_of(site, DEFAULT_GATEWAY, "http://r").gateway == DEFAULT_GATEWAY
