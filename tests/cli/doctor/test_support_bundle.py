"""The archive that leaves the site holds what helps, and no secret."""

import base64
import io
import json
import tarfile
from urllib.parse import quote

import pytest

from msp_cli.doctor.checks import examine
from msp_cli.doctor.redaction import Redactor, is_secret_name
from msp_cli.doctor.site import Answer, Ran, Unknown
from msp_cli.doctor.support_bundle import MAX_TEXT, build
from support.cli_doctor import ADDRESSES, PASSWORD, FakeSite, container

PLANTED = {
    "root": PASSWORD,
    "odd": 'p/w+"with: signs&more',
    "proxy": "proxy-pw-123",
    "hub": "hf_abcdefghijklmnop",
    "client": "msp-a1b2c3-" + "k" * 32,
    "bearer": "abcdef-bearer-value",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl",
    "signed": "0123456789abcdef0123",
    "container": "only-in-a-container",
    "ui": "ui-session-secret",
    "logged": "named-in-a-log",
    "pem": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
}


@pytest.fixture
def site() -> FakeSite:
    """Secrets stand wherever they were ever seen to leak."""
    site = FakeSite()
    p = PLANTED
    site.env(
        MINIO_SVC_PASSWORD=f"'{p['odd']}'",
        HTTPS_PROXY=f"http://me:{p['proxy']}@proxy:3128",
        HF_TOKEN=p["hub"],
        NO_PROXY="minio,service-registry",
    )
    site.files["chatui.env"] = f"COOKIE_SECRET={p['ui']}\nMODELS=[]\n"
    site.standard["services"]["registry"]["environment"] |= {
        "MINIO_SVC_PASSWORD": p["odd"],
        "HTTPS_PROXY": f"http://me:{p['proxy']}@proxy:3128",
    }
    site.containers.append(container("llm-2", env={"ENGINE_API_KEY": p["container"]}))
    encoded = base64.b64encode(p["container"].encode()).decode()
    site.container_logs["gateway"] = "\n".join(
        [
            f"login as root with {p['root']}",
            f"GET http://minio/?X-Amz-Signature={p['signed']}&x=1",
            f"Authorization: Bearer {p['bearer']}",
            f"refused {p['client']} and {p['jwt']} and {encoded}",
            f"url=http://x/?pw={quote(p['odd'], safe='')}",
            json.dumps({"message": p["odd"], "password": p["logged"]}),
            f"-----BEGIN RSA PRIVATE KEY-----\n{p['pem']}\n-----END RSA PRIVATE KEY-----",
            f"the proxy refused {p['proxy']}",
            "prompt_tokens=17 model=acme/chat took 3 s",
        ]
    )
    site.commands["clock"] = Ran(1, "", f"oops {p['root']}")
    site.answers["http://gw:8080/metrics"] = Answer(200, f'x{{key="{p["hub"]}"}} 1\ntokens_total 12\n')
    site.services[0]["reason"] = f"the store said {p['odd']}"
    return site


def opened(site: FakeSite) -> dict[str, str]:
    facts = site.facts()
    data = build(site, facts, examine(facts), ADDRESSES, "0.1.0")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        found = {}
        for member in archive.getmembers():
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.removeprefix("msp-support/")] = file.read().decode()
        return found


def test_no_planted_secret_is_anywhere_in_the_archive(site: FakeSite) -> None:
    files = opened(site)
    everything = "\n".join([*files, *files.values()])
    encodings = {
        form
        for secret in PLANTED.values()
        for form in (
            secret,
            quote(secret, safe=""),
            json.dumps(secret)[1:-1],
            base64.b64encode(secret.encode()).decode(),
        )
    }
    assert {form for form in encodings if form in everything} == set()


def test_what_helps_is_still_there(site: FakeSite) -> None:
    files = opened(site)
    assert "prompt_tokens=17 model=acme/chat took 3 s" in files["logs/gateway.log"]
    assert "tokens_total 12" in files["http/gateway-metrics.txt"]
    assert "MINIO_ROOT_USER=msp-root" in files["env.txt"]
    assert "MINIO_ROOT_PASSWORD=***" in files["env.txt"]
    assert (
        json.loads(files["compose-standard.json"])["services"]["llm"]["environment"]["MODEL_NAME"]
        == "acme/chat"
    )
    assert json.loads(files["versions.json"])["msp"] == "0.1.0"
    assert "docker: Docker engine 27.5.1" in files["findings.txt"]
    assert {f"logs/{c['Name'][1:]}.log" for c in site.containers} <= files.keys()
    assert {
        "http/gateway-services.txt",
        "http/gateway-gpu-stats.txt",
        "commands/nvidia-smi.txt",
    } <= files.keys()


def test_a_short_and_odd_secret_of_the_compose_file_is_taken_out_by_its_name(site: FakeSite) -> None:
    site.standard["services"]["registry"]["environment"]["X_PASSWORD"] = 'a"b'
    registry = json.loads(opened(site)["compose-standard.json"])["services"]["registry"]
    assert registry["environment"]["X_PASSWORD"] == "***"


def test_that_a_secret_is_not_set_can_be_seen(site: FakeSite) -> None:
    site.env(GATEWAY_ADMIN_TOKEN="")
    assert "GATEWAY_ADMIN_TOKEN=\n" in opened(site)["env.txt"]


def test_what_could_not_be_had_is_said(site: FakeSite) -> None:
    site.container_logs["llm"] = Unknown("docker logs was not run on the host")
    files = opened(site)
    assert "not had: docker logs was not run" in files["logs/llm.log"]
    assert "not had: http://reg:8090/metrics: connection refused" in files["http/registry-metrics.txt"]


def test_of_a_very_long_log_the_end_is_kept(site: FakeSite) -> None:
    site.container_logs["llm"] = "old line\n" * (MAX_TEXT // 9 + 1000) + "the last line"
    kept = opened(site)["logs/llm.log"]
    assert len(kept) < MAX_TEXT + 200
    assert kept.endswith("the last line")
    assert "were left out" in kept


@pytest.mark.parametrize(
    "name",
    [
        "MINIO_ROOT_PASSWORD",
        "HF_TOKEN",
        "apiKey",
        "OPENAI_API_KEY",
        "clientSecret",
        "GATEWAY_DATABASE_URL",
        "Cookie",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["prompt_tokens", "max_tokens", "MODEL_NAME", "keyboard", "MINIO_ROOT_USER"])
def test_names_of_other_things_are_left_alone(name: str) -> None:
    assert not is_secret_name(name)


def test_a_secret_that_begins_with_another_leaves_no_rest() -> None:
    redactor = Redactor([{"A_TOKEN": "abcd1234", "B_TOKEN": "abcd1234efgh"}])
    assert redactor.text("x abcd1234efgh y") == "x *** y"


def test_a_short_secret_goes_where_it_is_named_and_ruins_no_text() -> None:
    redactor = Redactor([{"A_PASSWORD": "abc"}])
    assert redactor.env_file("A_PASSWORD=abc\nB=alphabcd\n") == "A_PASSWORD=***\nB=alphabcd\n"
