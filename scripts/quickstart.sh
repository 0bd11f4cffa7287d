#!/usr/bin/env bash
# Runs the whole platform on this machine, with four tiny trained models. Needs Python and a package index.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib/environment.sh

usage() {
    cat <<'TEXT'
Usage: scripts/quickstart.sh [--detach | --stop | --status | --restart NAME]

Starts the services of samples/cluster.yaml as local processes, imports the sample models, and shows what runs
where, a request and its answer. The first run makes an environment in .venv.

  (nothing)        stay; Ctrl-C stops everything
  --detach         return once all is healthy
  --stop           stop everything
  --status         tell what runs; exit code 3 if something does not
  --restart NAME   restart one service, such as llm-2

PYTHON names the interpreter to use (3.11 to 3.13). Logs are in .run/logs.
TEXT
}

msp() { # COMMAND ARGUMENT...
    [ -x .venv/bin/msp ] || fail "nothing has been started here yet; run scripts/quickstart.sh"
    exec .venv/bin/msp "$1" --run-dir "$PWD/.run" "${@:2}"
}

case "${1:-}:$#" in
    :0 | --detach:1)
        ensure_environment
        msp up --cluster samples/cluster.yaml "$@"
        ;;
    --stop:1) msp down ;;
    --status:1) msp ps ;;
    --restart:2) msp restart "$2" ;;
    -h:1 | --help:1) usage ;;
    *)
        usage >&2
        exit 2
        ;;
esac
