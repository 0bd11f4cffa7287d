#!/usr/bin/env bash
# Pins every third-party package, with hashes, in requirements/*.txt: dev.txt first, then one file per image
# constrained by it, so that all images and the development environment agree.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/lock.sh [--upgrade]

Writes requirements/dev.txt and one requirements/SERVICE.txt per image from the members' pyproject.toml files.
Without --upgrade, versions that are pinned already stay. Then it checks that each file can be installed by Python
3.11, 3.12 and 3.13 from wheels. Needs uv and a package index.
TEXT
}

upgrade=()
case "${1:-}" in
    "") ;;
    --upgrade) upgrade=(--upgrade) ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
members=(common gateway registry service-registry model-service cli)

compile() { # OUTPUT ARGUMENT...
    local output=$1
    shift
    echo "locking $output" >&2
    # Hashes cover every wheel of a version, so that the files hold for Python 3.11 to 3.13 (see check). No index
    # is named in them: whoever installs chooses it.
    uv pip compile --quiet --generate-hashes --no-emit-index-url --no-annotate --no-header \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        "${members[@]/#/--no-emit-package=msp-}" "${upgrade[@]}" --output-file "$output" "$@"
}

# Versions are chosen for Python 3.11, the oldest that development may use; images run 3.13. That a package has no
# wheel for one of them, or needs another package there, would show only when somebody installs.
check() { # NAME: can be installed by each Python, from wheels alone? Nothing is installed.
    local version
    for version in 3.11 3.12 3.13; do
        echo "checking requirements/$1.txt for Python $version" >&2
        uv pip install --quiet --dry-run --require-hashes --only-binary :all: --target "$nowhere" \
            --python-version "$version" --python-platform x86_64-manylinux_2_36 -r "requirements/$1.txt"
    done
}

manifests=("${members[@]/%//pyproject.toml}")
compile requirements/dev.txt requirements/dev.in "${manifests[@]}"
compile requirements/build.txt --constraints requirements/dev.txt requirements/build.in
for service in gateway registry service-registry model-service cli; do
    compile "requirements/$service.txt" --constraints requirements/dev.txt \
        common/pyproject.toml "$service/pyproject.toml"
done
# Old clients of the hub, which tests drive in environments of their own.
for client in 0.36 1.8; do
    compile "requirements/hub-client-$client.txt" "requirements/hub-client-$client.in"
done
# LangChain, which pins what it needs by itself: tests/clients drives workers with it.
compile requirements/langchain-client.txt requirements/langchain-client.in

nowhere=$(mktemp -d)
trap 'rm -rf "$nowhere"' EXIT
for name in dev build gateway registry service-registry model-service cli \
    hub-client-0.36 hub-client-1.8 langchain-client; do
    check "$name"
done
