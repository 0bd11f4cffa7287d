#!/usr/bin/env bash
# The one way to run a benchmark: side by side with named peers, on one machine, in one run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/lib/environment.sh

case "${1:-}" in
    "" | -h | --help)
        cat <<'TEXT'
Usage: scripts/bench.sh NAME [--quick] [--json FILE]

NAME is a program in benchmarks/ (without .py). --quick runs a short form. --json FILE writes the figures:
`ratios` (name -> value), the peers' versions, and how busy the machine was.
TEXT
        echo
        echo "Benchmarks:"
        for program in benchmarks/bench_*.py; do
            name=${program#benchmarks/bench_}
            echo "  ${name%.py}"
        done
        exit 0
        ;;
esac

name=$1
shift
if [ ! -f "benchmarks/bench_$name.py" ]; then
    echo "bench: no benchmark named '$name'; see scripts/bench.sh --help" >&2
    exit 2
fi
ensure_environment
PYTHONPATH=benchmarks exec .venv/bin/python "benchmarks/bench_$name.py" "$@"
