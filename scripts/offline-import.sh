#!/usr/bin/env bash
# Takes a bundle of offline-setup.sh into an air-gapped host. Needs bash, coreutils and Docker; nothing else.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/lib/bundle.sh
source "$here/lib/bundle.sh"
# shellcheck source=scripts/lib/bundle-sums.sh
source "$here/lib/bundle-sums.sh"
# shellcheck source=scripts/lib/bundle-parts.sh
source "$here/lib/bundle-parts.sh"
# shellcheck source=scripts/lib/bundle-images.sh
source "$here/lib/bundle-images.sh"
# shellcheck source=scripts/lib/bundle-files.sh
source "$here/lib/bundle-files.sh"
# shellcheck source=scripts/lib/bundle-models.sh
source "$here/lib/bundle-models.sh"
# shellcheck source=scripts/lib/bundle-stack.sh
source "$here/lib/bundle-stack.sh"
# shellcheck source=scripts/lib/bundle-release.sh
source "$here/lib/bundle-release.sh"

usage() {
    cat <<'TEXT'
Usage: scripts/offline-import.sh [OPTION...]

Run it from the bundle that was carried here. It verifies every file before it touches anything, loads the
images, starts the store, imports the models, starts the platform, asks it a first question, and says where to
point a browser. Broken off anywhere: run it again; what is done is not done again. A later bundle is taken in
the same way, and keeps all data.

  --home DIR            where the platform is kept on this host     [/opt/model-service-platform]
  --bundle DIR          the bundle                                  [the folder above this script]
  --signers FILE        refuse a bundle that nobody in FILE signed; FILE is as ssh-keygen's ALLOWED SIGNERS
                        and must have come another way than the bundle
  --compose-file NAME   run this compose file of the bundle; may be repeated. It is remembered
  --timeout SECONDS     how long to wait for health                 [1800]
  --verify-only         verify the bundle, and do nothing else
  --full                read every file again, also those that were found right before
  --rollback            go back to the release before the current one; needs no bundle
  -h, --help            this text

Exit codes: 0 done, 1 failed, 2 wrong use, 3 the bundle is not whole or not signed, 4 no room, 5 not healthy.
TEXT
}

home=/opt/model-service-platform bundle=$(dirname -- "$here") signers='' asked_files='' timeout=1800 mode=import full=''
while [ $# -gt 0 ]; do
    case $1 in
        --home | --bundle | --signers | --compose-file | --timeout)
            [ $# -ge 2 ] || die "$EXIT_USAGE" "$1 needs a value"
            case $1 in
                --home) home=$2 ;;
                --bundle) bundle=$2 ;;
                --signers) signers=$2 ;;
                --compose-file) asked_files+="${asked_files:+ }$2" ;;
                --timeout) timeout=$2 ;;
            esac
            shift 2
            ;;
        --verify-only) mode=verify && shift ;;
        --rollback) mode=rollback && shift ;;
        --full) full=yes && shift ;;
        -h | --help) usage && exit ;;
        *) usage >&2 && exit "$EXIT_USAGE" ;;
    esac
done
[[ $timeout =~ ^[0-9]+$ ]] || die "$EXIT_USAGE" "--timeout is a number of seconds, not $timeout"
[ -z "$signers" ] || [ -r "$signers" ] || die "$EXIT_USAGE" "there is no file $signers"
[[ $home = /* ]] || home=$PWD/$home

verify() {
    [ -d "$bundle" ] || die "$EXIT_USAGE" "there is no folder $bundle"
    bundle=$(cd -- "$bundle" && pwd)
    [[ $bundle != *:* ]] || die "$EXIT_USAGE" "Docker mounts no folder with a colon in its name; move $bundle"
    check_signature "$bundle" "$signers"
    verify_sums "$bundle" "$1" "$full"
}

# The earlier bundle that this one is to be added to was imported here.
check_base() {
    local base
    base=$(json_text "$bundle/bundle.json" base)
    [ -z "$base" ] || [ -f "$home/releases/$base/imported" ] ||
        die "$EXIT_BAD_BUNDLE" "this bundle holds only what is new since $base, which was not imported into $home; import that one first"
}

# Images and models stay in Docker's folder, next to what is there.
check_room() {
    local folder images models
    images=$(room_to_load "$bundle")
    models=$(bytes_of_new_models "$bundle" "$home")
    folder=$(docker_folder)
    [ -z "$folder" ] || need_room "$folder" "$((images + models))" "what this bundle brings to Docker"
}

# The release that `use_release` named. Workers that were started before TIME may have what EARLIER meant by a name.
run_stack() { # TIME EARLIER
    local -a moved
    mapfile -t moved < <(moved_models "$home" "$release" "$2")
    say "starting the platform"
    start_services --remove-orphans
    restart_workers "$timeout" "$1" "${moved[@]}"
    wait_healthy "$timeout"
    say "asking it a first question"
    smoke_test
}

where_to() {
    local address
    address=$(setting_of "$home/.env" GATEWAY_BIND_ADDRESS)
    case $address in
        "" | 0.0.0.0) address=$(uname -n) ;;
    esac
    say "done: release $release runs"
    printf 'The API:    http://%s:8080/v1     API docs: http://%s:8080/docs\n' "$address" "$address"
    if compose ps --services 2>/dev/null | grep_word chatui; then printf 'A browser:  http://%s:3000\n' "$address"; fi
    printf 'Everyday:   %s/compose ps | logs | down\nA way back: %s/current/scripts/offline-import.sh --home %s --rollback\n' \
        "$home" "$home" "$home"
}

grep_word() {
    local line found=1
    while IFS= read -r line; do [ "$line" != "$1" ] || found=0; done
    return "$found"
}

import() {
    check_docker
    mkdir -p -- "$home/releases" 2>/dev/null || die "$EXIT_NO_ROOM" "$home cannot be made; give another with --home"
    lock_folder "$home"
    verify "$home/verified"
    release=$(json_text "$bundle/bundle.json" id)
    [ -n "$release" ] || die "$EXIT_BAD_BUNDLE" "bundle.json has no id"
    check_base
    check_room
    # Before anything is loaded: a bundle of the same version gives its images the same names.
    local before
    before=$(current_release "$home")
    if [ -n "$before" ] && [ "$before" != "$release" ] && [ ! -f "$home/releases/$before/held" ]; then
        hold_images "$home/releases/$before/$LOCK" "$before"
        printf '%s\n' "$before" | put "$home/releases/$before/held"
    fi
    load_images "$bundle"
    install_release "$bundle" "$home" "$release"
    make_settings "$home" "$home/releases/$release"
    use_release "$home" "$release" "$asked_files"
    say "starting the store"
    start_services registry
    wait_healthy "$timeout" registry
    import_models "$bundle"
    local named_at earlier=
    named_at=$(docker_time)
    # A way back that was broken off is given up by going forward.
    rm -f -- "$home/going-back"
    switch_release "$home" "$release"
    if [ -f "$home/releases/$release/earlier" ]; then read -r earlier <"$home/releases/$release/earlier"; fi
    # Imported again, this release brings no name a new meaning.
    if [ "$before" = "$release" ] && [ -f "$home/releases/$release/imported" ]; then earlier=; fi
    run_stack "$named_at" "$earlier"
    if [ ! -f "$home/releases/$release/held" ]; then
        hold_images "$home/releases/$release/$LOCK" "$release"
        printf '%s\n' "$release" | put "$home/releases/$release/held"
    fi
    printf '%s\n' "$release" | put "$home/releases/$release/imported"
    where_to
}

rollback() {
    check_docker
    [ -L "$home/current" ] || die "$EXIT_USAGE" "no release is current in $home; there is nothing to go back from"
    lock_folder "$home"
    local now later
    now=$(current_release "$home")
    later=$now
    # A way back that was broken off goes on with the release that it was going to.
    if [ -f "$home/going-back" ]; then
        read -r release later <"$home/going-back"
    else
        [ -f "$home/releases/$now/earlier" ] || die "$EXIT_USAGE" "$now is the first release here; there is none to go back to"
        read -r release <"$home/releases/$now/earlier"
        printf '%s %s\n' "$release" "$later" | put "$home/going-back"
    fi
    say "going back from $now to $release"
    restore_images "$home/releases/$release/$LOCK" "$release"
    use_release "$home" "$release" "$asked_files"
    start_services registry
    wait_healthy "$timeout" registry
    restore_refs "$home/releases/$release"
    local named_at
    named_at=$(docker_time)
    if [ "$now" != "$release" ]; then
        ln -sfn -- "releases/$release" "$home/current.new"
        mv -T -- "$home/current.new" "$home/current"
        sync -- "$home"
    fi
    run_stack "$named_at" "$later"
    rm -f -- "$home/going-back"
    where_to
}

case $mode in
    verify)
        memory=$(mktemp)
        trap 'rm -f -- "$memory"' EXIT
        full=yes
        verify "$memory"
        ;;
    import) import ;;
    rollback) rollback ;;
esac
