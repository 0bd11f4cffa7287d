#!/usr/bin/env bash
# Writes a .env with fresh secrets from .env.example. Never touches a .env that is there.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/init-env.sh [--file PATH]

Copies .env.example to .env (or PATH), readable by you alone, with a fresh random value for every secret that
the platform makes up itself. The file is good for every form of the stack. HF_TOKEN stays empty: it is yours
to fill in.
TEXT
}

target=.env
case "${1:-}" in
    "") ;;
    --file) target=${2:?--file needs a path} ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

[[ $target = /* ]] || target=$PWD/$target
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -e "$target" ]; then
    echo "init-env: $target exists; remove it first if you want new secrets (stored models then need the old ones)" >&2
    exit 1
fi

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

umask 077
while IFS= read -r line; do
    case "$line" in
        MINIO_ROOT_PASSWORD= | MINIO_SVC_PASSWORD= | CLUSTER_TOKEN= | REGISTRY_ADMIN_TOKEN= | \
            GATEWAY_ADMIN_TOKEN= | GRAFANA_ADMIN_PASSWORD= | WEBUI_SECRET_KEY=) printf '%s%s\n' "$line" "$(secret)" ;;
        *) printf '%s\n' "$line" ;;
    esac
done <.env.example >"$target"
echo "init-env: wrote $target; fill in HF_TOKEN if you need gated models"
