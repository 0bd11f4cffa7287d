"""transformers and sentence-transformers load models by name through the registry."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from support.hub_clients import CURRENT, SCRIPTS, Client
from support.hub_facade import facade, folder_files, publish
from support.servers import run_server


def test_models_are_loaded_by_name_with_only_the_endpoint_set(tmp_path: Path) -> None:
    hub = facade()
    with run_server(hub.app) as url:
        client = Client(CURRENT, Path(sys.executable), url, tmp_path)
        process = subprocess.Popen(
            [sys.executable, SCRIPTS / "drive_models.py", tmp_path / "made"],
            env=client.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == "made\n", process.stderr and process.stderr.read()[-3000:]
            asyncio.run(publish(hub.parts, "org/language", folder_files(tmp_path / "made" / "language")))
            repository = tmp_path / "made" / "embedding" / "repository"
            asyncio.run(publish(hub.parts, "org/embedding", folder_files(repository)))
            said, complaints = process.communicate("go\n", timeout=150)
    assert process.returncode == 0, complaints[-3000:]
    answer = json.loads(said.splitlines()[-1])
    for by_name, from_folder in answer.values():
        assert by_name == from_folder
        assert any(by_name)
    assert client.strayed() == []
    weights = [path for path in hub.log.of("GET") if path.endswith("/model.safetensors")]
    assert len(weights) == 2
