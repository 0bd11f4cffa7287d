#!/usr/bin/env bats
# scripts/lib/bundle-stack.sh and bundle-preflight.sh: who is healthy, what it will take.

load room

@test "healthy, without a check, and ended well is all that is waited for" {
    run _not_healthy $'gateway running healthy 0\nmongo running 0\ninit exited 0'
    [ -z "$output" ]
}

@test "whoever starts, is ill or has failed is named" {
    run _not_healthy $'a running starting 0\nb running unhealthy 0\nc exited 3\nd restarting 1\ne created 0'
    [ "$output" = $'a (starting)\nb (unhealthy)\nc (failed with 3)\nd (restarting)\ne (created)' ]
}

@test "models of the settings are declared once, and only those of the chosen profiles" {
    printf 'LLM_MODEL=acme/a\nEMBEDDING_MODEL=acme/a\nTINYLLAMA_MODEL=acme/b\nTRANSCRIPTION_MODEL=acme/c\n' >settings
    run models_of_settings settings docker-compose.yml
    [ "$output" = $'models:\n  - id: acme/a' ]
    echo COMPOSE_PROFILES=transcription,monitoring >>settings
    run models_of_settings settings docker-compose.yml
    [ "$output" = $'models:\n  - id: acme/a\n  - id: acme/c' ]
    run models_of_settings settings docker-compose.gpu-cluster.yml
    [ "$output" = $'models:\n  - id: acme/a\n  - id: acme/b\n  - id: acme/c' ]
}

@test "build inputs change with a source, and not with what Python leaves" {
    mkdir -p gateway/src
    echo one >gateway/src/a.py
    before=$(sources_digest "$PWD")
    mkdir gateway/src/__pycache__ && echo x >gateway/src/__pycache__/a.pyc
    [ "$(sources_digest "$PWD")" = "$before" ]
    echo two >gateway/src/a.py
    [ "$(sources_digest "$PWD")" != "$before" ]
}

@test "durations are told as people do" {
    [ "$(duration 119)" = "119 s" ]
    [ "$(duration 600)" = "10 min" ]
    [ "$(duration 7200)" = "2 h" ]
}
