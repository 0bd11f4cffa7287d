"""A platform small enough to be carried many times: busybox images with stand-ins for `msp` and the services.

The stand-in registry keeps what it was given in a volume; models follow from their id and revision.
"""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
BUSYBOX = Path("/bin/busybox")
_APPLETS = (
    "sh", "cat", "echo", "mkdir", "cp", "rm", "sha1sum", "sha256sum", "sed", "cut", "head", "yes",
    "test", "wget", "httpd", "ls", "grep", "tr", "sleep", "wc",
)  # fmt: skip

MSP = r"""#!/bin/sh
# Stands for `msp` in its image.
set -eu
store() { wget -q -O- "http://127.0.0.1:8090/cgi-bin/store?$1"; }
commit_of() { echo "$1@$2 $(grep '^# ' /models.yaml)" | sha1sum | cut -c1-40; }
declared() { sed -n 's/^ *- id: //p' "$1"; }
revision=$(sed -n 's/^ *revision: //p' /models.yaml 2>/dev/null | head -n1) || true
revision=${revision:-main}
make_model() { # ID COMMIT FOLDER
    mkdir -p "$3/.registry" "$3/tokenizer files"
    echo "{\"model\": \"$1\"}" >"$3/config.json"
    echo "words of $1" >"$3/tokenizer files/vocab.txt"
    yes "$2" | head -c 300000 >"$3/model.safetensors"
    echo "commit $2" >"$3/.registry/manifest.json"
    (cd "$3" && sha256sum config.json "tokenizer files/vocab.txt" model.safetensors) \
        >>"$3/.registry/manifest.json"
}
case "$1 $2" in
"models pull")
    for id in $(declared "$4"); do store "put=$id@$(commit_of "$id" "$revision")" >/dev/null; done ;;
"bundle models")
    for id in $(declared "$4"); do
        printf '%s\t%s\t%s\t300000\tmit\n' "$id" "$revision" "$(commit_of "$id" "$revision")"
    done ;;
"bundle plan")
    for id in $(declared "$4"); do
        printf '%s\tmain\t%s\t300000\n' "$id" "$(commit_of "$id" main)"
    done ;;
"bundle has") store "has=$3@$4" | grep -q yes ;;
"bundle files")
    for id in $(declared "$4"); do
        commit=$(commit_of "$id" "$revision")
        rm -rf /tmp/model
        make_model "$id" "$commit" /tmp/model
        sed 1d /tmp/model/.registry/manifest.json | while read -r hash path; do
            printf '%s\t%s\t%s\t%s\t%s\n' "$hash" "$(wc -c <"/tmp/model/$path")" "$id" "$commit" "$path"
        done
    done ;;
"bundle export")
    make_model "$3" "$6" "$4"
    sed 1d "$4/.registry/manifest.json" | while read -r hash path; do
        if grep -q "$hash" "$8"; then rm "$4/$path"; fi
    done
    echo "exported $3" ;;
"models export") make_model "$3" "$6" "$4" && echo "exported $3" ;;
"models import")
    commit=$(head -n1 "$4/.registry/manifest.json" | cut -c8-)
    sed 1d "$4/.registry/manifest.json" | while read -r hash path; do
        if test -f "$4/$path.part-000"; then
            cat "$4/$path".part-* >/tmp/whole
        elif test -f "$4/$path"; then
            cp "$4/$path" /tmp/whole
        elif test "${8:-}" = --rest-from-store && store "has=hash-$hash" | grep -q yes; then
            continue
        else
            echo "$path is neither here nor in the store" >&2
            exit 4
        fi
        test "$(sha256sum </tmp/whole | cut -c1-64)" = "$hash"
        store "put=hash-$hash" >/dev/null
    done
    store "put=$3@$commit" >/dev/null
    store "point=$3@$7=$commit" >/dev/null
    echo "imported $3" ;;
"models promote") store "point=$3@$5=$7" >/dev/null ;;
"bundle smoke") wget -q -O- http://127.0.0.1:8080/ ;;
"bundle bom")
    mkdir -p "$3/bom"
    cp "$3/models.lock" "$3/bom/models.cdx.json"
    cp "$3/images.lock" "$3/MANIFEST.md" ;;
*) echo "stand-in: unknown: $*" >&2; exit 2 ;;
esac
"""

STORE = r"""#!/bin/sh
printf 'Content-Type: text/plain\r\n\r\n'
what=${QUERY_STRING%%=*} value=$(echo "${QUERY_STRING#*=}" | tr / _)
case $what in
put) echo yes >"/data/$value" ;;
has) cat "/data/$value" 2>/dev/null || echo no ;;
point) echo "${value##*=}" >"/data/ref-${value%=*}" ;;
esac
"""

COMPOSE = """name: {project}
services:
  registry:
    image: ${{MSP_IMAGE_PREFIX:-msp}}/registry:${{MSP_VERSION:-0.1.0}}
    command: [httpd, -f, -p, "8090", -h, /www]
    environment: {{ PASSWORD: "${{MINIO_SVC_PASSWORD:?set it in .env}}", MODE: "${{REGISTRY_MODE:-online}}" }}
    volumes: ["store:/data"]
    stop_grace_period: 1s
    healthcheck: &check
      test: [CMD, wget, -q, -O-, "http://127.0.0.1:8090/"]
      interval: 1s
      retries: 20
  gateway:
    image: ${{MSP_IMAGE_PREFIX:-msp}}/gateway:${{MSP_VERSION:-0.1.0}}
    command: [httpd, -f, -p, "8080", -h, /www]
    # It stands for a worker too.
    environment: {{ MODEL_NAME: acme/one }}
    stop_grace_period: 1s
    healthcheck: {{ <<: *check, test: [CMD, wget, -q, -O-, "http://127.0.0.1:8080/"] }}
volumes:
  store:
"""


def make_image(ref: str, generation: str) -> None:
    """An image of its own for each ref and generation."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in _APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _add(tar, "bin/msp", MSP.encode(), 0o755)
        _add(tar, "www/index.html", f"{ref} {generation}\n".encode(), 0o644)
        _add(tar, "www/cgi-bin/store", STORE.encode(), 0o755)
        for folder in ("data", "tmp"):
            made = tarfile.TarInfo(folder)
            made.type, made.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(made)
    label = f"LABEL generation={generation} mini={ref.partition('/')[0]}"
    subprocess.run(
        ["docker", "import", "-c", "ENV PATH=/bin", "-c", label, "-", ref],
        input=buffer.getvalue(),
        check=True,
        capture_output=True,
    )


def make_repository(place: Path, project: str, prefix: str) -> Path:
    """The real scripts with compose files of the stand-ins."""
    (place / "docs").mkdir(parents=True)
    shutil.copytree(
        REPOSITORY / "scripts", place / "scripts", ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
    )
    for name in (".env.example", "LICENSE"):
        shutil.copy(REPOSITORY / name, place / name)
    (place / "docs/AIR-GAP.md").write_text("how to\n")
    (place / "docker-compose.yml").write_text(COMPOSE.format(project=project))
    env = (place / ".env.example").read_text()
    env = env.replace("MSP_IMAGE_PREFIX=msp", f"MSP_IMAGE_PREFIX={prefix}")
    (place / ".env.example").write_text(env)
    (place / "models.yaml").write_text("models:\n  - id: acme/one\n  - id: acme/two\n")
    return place


def make_images(
    prefix: str, generation: str, names: tuple[str, ...] = ("registry", "gateway", "cli")
) -> None:
    """The stand-ins, under the names that the compose file and the scripts use."""
    for name in names:
        make_image(f"{prefix}/{name}:0.1.0", generation)


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), mode
    tar.addfile(member, io.BytesIO(data))
