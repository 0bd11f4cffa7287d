"""The command lines that the user's own documents tell people to type, and how each is run here.

`test_user_commands.py` finds the test that runs each one: by its name here, in a call of `Checkout.types`,
`sees` or `follows`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class UserCommand:
    """A line as it is typed, in the repository's folder."""

    line: str
    elsewhere: str = ""
    """Where a test outside this folder runs it (`tests/…`), or why none can."""


def _standard(rest: str) -> str:
    return f"docker compose {rest}"


def _chatui(rest: str) -> str:
    return f"docker compose -f docker-compose.yml -f docker-compose.chatui.yml {rest}"


def _cluster(rest: str) -> str:
    return f"docker compose -f docker-compose.gpu-cluster.yml {rest}"


def _overlay(rest: str) -> str:
    return f"docker compose -f docker-compose.yml -f docker-compose.gpu-cluster.yml {rest}"


CHAT = """\
curl -X POST http://localhost:8080/v1/chat/completions \\
  -H "Content-Type: application/json" \\
  -d '{
    "messages": [{"role": "user", "content": "Hello!"}],
    "stream": false
  }'"""

COMMANDS: dict[str, UserCommand] = {
    "clone": UserCommand("git clone", "a copy of the working tree stands for it: no network here"),
    "env": UserCommand("cp .env.example .env"),
    "standard up": UserCommand(_standard("up -d")),
    "standard down": UserCommand(_standard("down")),
    "standard down -v": UserCommand(_standard("down -v")),
    "chatui env": UserCommand("cp chatui.env.template chatui.env"),
    "chatui up": UserCommand(_chatui("up -d")),
    "chatui restart": UserCommand(_chatui("restart chatui")),
    "chatui down": UserCommand(_chatui("down")),
    "offline setup": UserCommand("./scripts/offline-setup.sh", "tests/bundle/test_setup.py"),
    "cluster up": UserCommand(_cluster("up -d")),
    "overlay up": UserCommand(_overlay("up -d")),
    "overlay down": UserCommand(_overlay("down")),
    "rebuild all": UserCommand(_standard("up -d --build")),
    "rebuild one": UserCommand(_standard("up -d --build gateway")),
    "rebuild a worker": UserCommand(_standard("up -d --build llm")),
    "logs": UserCommand(_standard("logs -f")),
    "logs of the registry": UserCommand(_standard("logs -f registry")),
    "logs of the gateway": UserCommand(_standard("logs -f gateway")),
    "logs of a worker": UserCommand(_standard("logs -f llm")),
    "logs so far": UserCommand(_standard("logs llm")),
    "logs by container": UserCommand("docker logs model-gateway --tail=50"),
    "ps": UserCommand(_standard("ps")),
    "ps minio": UserCommand(_standard("ps minio")),
    "docker ps": UserCommand("docker ps"),
    "docker stats": UserCommand("docker stats"),
    "models": UserCommand("curl http://localhost:8090/models | jq"),
    "registry health": UserCommand("curl http://localhost:8090/health"),
    "services": UserCommand("curl http://localhost:8080/services | jq"),
    "gpu stats": UserCommand("curl http://localhost:8080/gpu-stats | jq"),
    "chat": UserCommand(CHAT),
    "gateway health": UserCommand("curl http://localhost:8080/health"),
    "worker health": UserCommand("curl http://localhost:8000/health"),
    "worker models": UserCommand("curl http://localhost:8000/v1/models"),
    "nvidia-smi": UserCommand("nvidia-smi", "needs a GPU; `msp doctor` runs it: tests/cli/doctor"),
    "gpu in docker": UserCommand(
        "docker run --rm --gpus all nvidia/cuda:12.3.2-base-ubuntu22.04 nvidia-smi",
        "needs a GPU, and an image that is not ours",
    ),
    "who has the port": UserCommand("sudo lsof -i :8080", "not a command of this platform"),
}

NEW_MODEL = """\
  my-new-model:
    build: ./model-service
    environment:
      MODEL_NAME: "huggingface/my-model"
      MODEL_TYPE: "llm"
    ports:
      - "8005:8000"
"""
"""What the user adds to the services of docker-compose.yml."""

WORKER_PORTS = {
    8000: "Qwen/Qwen2.5-0.5B-Instruct",
    8001: "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    8002: "sentence-transformers/all-MiniLM-L6-v2",
    8003: "llava-hf/llava-1.5-7b-hf",
    8004: "openai/whisper-base",
}
"""The user's tables: port → model."""

CHAT_UI_ADDRESSES = ("http://llm:8000/v1", "http://multimodal:8003/v1")
"""What `MODELS` of the user's example names, on the stack's network."""
