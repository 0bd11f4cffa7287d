#!/usr/bin/env bats
# scripts/lib/before_docker.sh, host_facts.sh and environment.sh: what a host lacks, and how it is told.

load room

@test "a host without Docker is told so" {
    PATH=$PWD/programs run before_docker msp/cli:1
    [ "$status" = 1 ]
    said "Docker is not installed"
}

@test "an account that may not use Docker is told how it may" {
    stand_in docker 'echo "permission denied while trying to connect" >&2; exit 1'
    run before_docker msp/cli:1
    [ "$status" = 1 ]
    said "usermod -aG docker"
}

@test "an engine that does not answer is told with its own words" {
    stand_in docker 'echo "Cannot connect to the Docker daemon" >&2; exit 1'
    run before_docker msp/cli:1
    [ "$status" = 1 ]
    said "gives no answer: Cannot connect"
    said "systemctl start docker"
}

@test "an image that is not here is told, and one that is lets it go on" {
    # shellcheck disable=SC2016
    stand_in docker '[ "$1" = version ] && exit 0' 'exit 1'
    run before_docker msp/cli:1
    [ "$status" = 1 ]
    said "the image msp/cli:1 is not here"
    stand_in docker 'exit 0'
    run before_docker msp/cli:1
    [ "$status" = 0 ]
}

@test "a command's output, errors and code are kept" {
    record "$PWD" fact sh -c 'echo out; echo err >&2; exit 7'
    [ "$(cat fact.out) $(cat fact.err) $(cat fact.code)" = "out err 7" ]
    record "$PWD" none no-such-program
    [ "$(cat none.code)" = 127 ]
}

@test "a command that does not answer is told so" {
    stand_in timeout 'exit 124'
    record "$PWD" slow sleep 1000
    [ "$(cat slow.code)" = 124 ]
    [ "$(cat slow.err)" = "no answer within 60 s" ]
}

# Sourced apart: it has names of its own for what goes wrong.
environment() { # COMMAND...
    bash -c 'set -euo pipefail; source "$1/environment.sh"; shift; "$@"' test.sh "$LIB" "$@"
}

@test "an interpreter that does not fit is passed over" {
    stand_in python3.11 'exit 1'
    stand_in python3.12 'exit 0'
    run environment find_python
    [ "$output" = "$PWD/programs/python3.12" ]
}

@test "without any interpreter that fits it is told what to install" {
    stand_in wrong 'exit 1'
    PYTHON=wrong run environment find_python
    [ "$status" = 2 ]
    said "was not found as PYTHON=wrong"
}

@test "settings made for pip hold for uv" {
    unset UV_DEFAULT_INDEX UV_INDEX_URL SSL_CERT_FILE
    # shellcheck disable=SC2016
    PIP_INDEX_URL=http://index PIP_CERT=/ca run environment eval 'uv_as_pip_would; echo "$UV_DEFAULT_INDEX $SSL_CERT_FILE"'
    [ "$output" = "http://index /ca" ]
    # shellcheck disable=SC2016
    PIP_INDEX_URL=http://index UV_DEFAULT_INDEX=http://own run environment eval 'uv_as_pip_would; echo "$UV_DEFAULT_INDEX"'
    [ "$output" = "http://own" ]
}

@test "the environment is made anew when what it is made of changes" {
    mkdir -p requirements scripts/lib
    touch requirements/dev.txt requirements/build.txt scripts/lib/environment.sh
    for member in common gateway registry service-registry model-service cli; do
        mkdir -p "$member" && echo "$member" >"$member/pyproject.toml"
    done
    before=$(environment environment_fingerprint)
    [ "$before" = "$(environment environment_fingerprint)" ]
    echo more >>cli/pyproject.toml
    [ "$before" != "$(environment environment_fingerprint)" ]
}
