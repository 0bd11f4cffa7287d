#!/usr/bin/env bats
# scripts/lib/bundle.sh: steps, settings, room.

load room

@test "a step is done for the same fingerprint only" {
    echo data >made
    mark_done step one "$PWD/made"
    run is_done step one
    [ "$status" = 0 ]
    run is_done step two
    [ "$status" = 1 ]
    run is_done another one
    [ "$status" = 1 ]
}

@test "a step is not done when a file that it made is gone or has another size" {
    echo data >"a file"
    mark_done step one "$PWD/a file"
    echo more >>"a file"
    run is_done step one
    [ "$status" = 1 ]
    rm "a file"
    run is_done step one
    [ "$status" = 1 ]
}

@test "a marker that was cut short counts for nothing" {
    : >marks/step
    run is_done step ""
    [ "$status" = 1 ]
}

@test "too little room is told with both numbers, and its exit code" {
    run need_room / 9000000000000000000 "a model"
    [ "$status" = "$EXIT_NO_ROOM" ]
    said "a model needs 7.9EiB at /, which has"
    run need_room / 1 "a model"
    [ "$status" = 0 ]
}

@test "room is asked for where a folder will be" {
    # shellcheck disable=SC2016
    stand_in df 'echo Avail' '[ "$4" = "$PWD" ] && echo 7'
    [ "$(free_bytes "$PWD/not/yet/there")" = 7 ]
}

@test "a missing program is named" {
    run need bash no-such-program
    [ "$status" = "$EXIT_FAILED" ]
    said "no-such-program is needed"
}

@test "what is put is whole, or what was there before" {
    echo old >file
    run bash -c 'set -e -o pipefail; source "$1/bundle.sh"; { echo half; exit 1; } | put file; exit 0' _ "$LIB"
    echo new | put file
    [ "$(cat file)" = new ]
    [ ! -e file.new ]
}

@test "text is read from JSON with one key on a line" {
    printf '{\n  "id": "0.1.0-abc",\n  "base": null,\n  "images": 3\n}\n' >page
    [ "$(json_text page id)" = 0.1.0-abc ]
    [ -z "$(json_text page base)" ]
    [ -z "$(json_text page nothing)" ]
}

@test "the last line of a setting counts, and quotes are taken off" {
    printf 'A=1\nAB=2\nA="3 4"\nB=\n' >settings
    [ "$(setting_of settings A)" = "3 4" ]
    [ -z "$(setting_of settings B)" ]
    [ -z "$(setting_of no-such-file A)" ]
    has_setting settings B
    run has_setting settings C
    [ "$status" = 1 ]
}

@test "settings of a site go over those of the template, once, and new ones to the end" {
    printf 'A=2\nC=3' >site
    run with_settings_of site <<<$'# A=comment\nA=1\nB=1'
    [ "$output" = $'# A=comment\nA=2\nB=1\nC=3' ]
}

@test "files that hold the same are the same" {
    echo a >one
    echo a >two
    same_file one two
    echo b >two
    run same_file one two
    [ "$status" = 1 ]
    run same_file one missing
    [ "$status" = 1 ]
}

@test "the lock of a run that was killed is taken over" {
    mkdir -p .lock
    echo 999999999 >.lock/pid
    lock_folder "$PWD"
    [ "$(cat .lock/pid)" = "$$" ]
}
