# shellcheck shell=bash disable=SC2034,SC2154
# Loaded by every file: the functions of scripts/lib, in an empty folder.

LIB=$BATS_TEST_DIRNAME/../../scripts/lib

setup() {
    # shellcheck source=scripts/lib/bundle.sh
    source "$LIB/bundle.sh"
    # shellcheck source=scripts/lib/bundle-sums.sh
    source "$LIB/bundle-sums.sh"
    # shellcheck source=scripts/lib/bundle-parts.sh
    source "$LIB/bundle-parts.sh"
    # shellcheck source=scripts/lib/bundle-files.sh
    source "$LIB/bundle-files.sh"
    # shellcheck source=scripts/lib/bundle-stack.sh
    source "$LIB/bundle-stack.sh"
    # shellcheck source=scripts/lib/bundle-preflight.sh
    source "$LIB/bundle-preflight.sh"
    # shellcheck source=scripts/lib/host_facts.sh
    source "$LIB/host_facts.sh"
    # shellcheck source=scripts/lib/before_docker.sh
    source "$LIB/before_docker.sh"
    cd "$BATS_TEST_TMPDIR" || return
    mkdir programs marks
    MARKS=$PWD/marks
    REAL_PATH=$PATH
}

# A program of this name that runs these lines of sh.
stand_in() { # NAME LINE...
    local name=$1
    shift
    printf '%s\n' '#!/bin/sh' "$@" >"programs/$name"
    chmod +x "programs/$name"
    PATH=$PWD/programs:$REAL_PATH
}

# The last run said this.
said() { # TEXT
    [[ $output = *"$1"* ]] || {
        echo "expected: $1"
        echo "said: $output"
        return 1
    }
}
