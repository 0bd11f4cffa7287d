#!/usr/bin/env bash
# Checks the whole repository. Installs what it needs on the first run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib/environment.sh

usage() {
    cat <<'TEXT'
Usage: scripts/test.sh [SUITE] [PYTEST ARGUMENT...]

SUITE is one of
  all     lint, types, unit and integration tests (default)
  lint    ruff, shellcheck and mypy
  unit    tests of single programs, and integration tests with real processes
  stack   the compose stack in a real Docker engine (needs docker with compose v2)
  gpu     what needs an NVIDIA GPU
TEXT
}

lint() {
    ruff check .
    ruff format --check .
    mypy common/src gateway/src registry/src service-registry/src model-service/src cli/src
    mypy tests samples/make benchmarks
    if command -v shellcheck >/dev/null; then
        git ls-files '*.sh' '*.bats' '*.bash' .ci/run scripts/msp | xargs shellcheck -x
    else
        echo "test: shellcheck is not installed: shell scripts were not checked" >&2
        [ -z "${CI:-}" ]
    fi
}

unit() {
    # Who asks for some of pytest's tests wants no others.
    [ $# -gt 0 ] || shell_functions
    pytest -m "not stack and not gpu" "${again[@]}" "$@"
}

shell_functions() {
    if command -v bats >/dev/null; then
        bats tests/bats
    else
        echo "test: bats is not installed: the functions of scripts/lib were not tested" >&2
        [ -z "${CI:-}" ]
    fi
}

suite=${1:-all}
[ $# -eq 0 ] || shift
case "$suite" in
    -h | --help) usage; exit 0 ;;
    all | lint | unit | stack | gpu) ;;
    *) usage >&2; exit 2 ;;
esac

# Real processes on a machine that stood still for a moment: on CI a test that failed is run once more, and the
# summary names it (RERUN). Who finds one there mends it.
again=()
[ -z "${CI:-}" ] || again=(--reruns 1 --rerun-show-tracebacks -rfEsxXR)

ensure_environment
export PATH=$PWD/.venv/bin:$PATH OMP_NUM_THREADS=1
case "$suite" in
    # Not `lint && unit`: that would go on after a step of lint that fails.
    all)
        lint
        unit "$@"
        ;;
    lint) lint ;;
    unit) unit "$@" ;;
    stack) pytest -m stack --durations=15 "${again[@]}" tests/stack tests/bundle tests/cli tests/airgap "$@" ;;
    gpu) pytest -m gpu tests/gpu "$@" ;;
esac
