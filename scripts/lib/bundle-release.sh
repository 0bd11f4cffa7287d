# shellcheck shell=bash disable=SC2034
# Releases on the air-gapped host. All are kept below one folder, and one of them is current:
#
#   .env                 secrets and settings of this site; made once, never overwritten
#   chatui.env, external-keys.env, import/    what else belongs to the site and is mounted into containers
#   releases/ID/         compose files, scripts, docs and locks of one bundle; `earlier` names the one before it
#   current -> releases/ID
#   compose              runs docker compose on the current release
# The data are in Docker's volumes and belong to no release.

current_release() { # HOME
    [ -L "$1/current" ] || return 0
    basename -- "$(readlink -- "$1/current")"
}

# Copies what the bundle brings beside images and models. Whole or not at all.
install_release() { # BUNDLE HOME RELEASE
    local bundle=$1 target=$2/releases/$3 item
    if ! same_file "$bundle/$SUMS" "$target/$SUMS"; then
        say "installing release $3 in $target"
        rm -rf -- "$target.new"
        mkdir -p -- "$target.new" || die "$EXIT_NO_ROOM" "$2 cannot be written to"
        for item in "$bundle"/* "$bundle"/.env.example; do
            case ${item##*/} in
                images | models) continue ;;
            esac
            if [ ! -e "$item" ] || _is_left_out "${item##*/}"; then continue; fi
            cp -R -- "$item" "$target.new/" || die "$EXIT_NO_ROOM" "the release could not be copied to $2 ($(human "$(free_bytes "$2")") free)"
        done
        cp -- "$bundle/$SUMS" "$target.new/$SUMS" || die "$EXIT_NO_ROOM" "the release could not be copied to $2"
        settle "$target.new"
        if [ -f "$target/earlier" ]; then cp -- "$target/earlier" "$target.new/earlier"; fi
        rm -rf -- "$target"
        mv -- "$target.new" "$target"
    fi
    # For what is run in this folder, such as scripts/msp.
    ln -sfn -- ../../.env "$target/.env"
    # Drives often carry no modes.
    chmod +x "$target"/scripts/*.sh
    sync -- "$2/releases"
}

# Secrets of this site, made here; settings that are no secrets come from the online side.
make_settings() { # HOME RELEASE_FOLDER
    [ ! -f "$1/.env" ] || return 0
    rm -f -- "$1/.env.new"
    "$2/scripts/init-env.sh" --file "$1/.env.new" >/dev/null || die "$EXIT_FAILED" "$1/.env could not be made"
    # Beside .env, and not in a release, which goes.
    printf 'IMPORT_DIR=%s/import\n' "$1" >"$1/.own.new"
    (umask 077 && with_settings_of "$2/site.env" <"$1/.env.new" | with_settings_of "$1/.own.new" >"$1/.env.merged")
    rm -f -- "$1/.env.new" "$1/.own.new"
    sync -- "$1/.env.merged"
    mv -- "$1/.env.merged" "$1/.env"
    say "made $1/.env with fresh secrets"
}

# Which compose files run here: those asked for, else those of the last time, else the bundle's own.
choose_compose_files() { # HOME RELEASE_FOLDER ASKED_FOR
    local files=$3 file
    if [ -z "$files" ] && [ -f "$1/stack" ]; then read -r files <"$1/stack"; fi
    if [ -z "$files" ]; then files=$(json_text "$2/bundle.json" compose_files); fi
    read -ra COMPOSE_FILES <<<"$files"
    for file in "${COMPOSE_FILES[@]}"; do
        [ -f "$2/$file" ] || die "$EXIT_USAGE" "the bundle has no $file; it has: $(cd -- "$2" && echo docker-compose*.yml)"
    done
    [ "$3" = "" ] || printf '%s\n' "$files" | put "$1/stack"
}

# Lets `compose`, CLI_IMAGE and the admin token mean those of a release.
use_release() { # HOME RELEASE ASKED_FOR
    PLATFORM=$1/releases/$2
    ENV_FILES=("$1/.env" "$PLATFORM/bundle.env")
    choose_compose_files "$1" "$PLATFORM" "$3"
    CLI_IMAGE=$(json_text "$PLATFORM/bundle.json" cli_image)
    REGISTRY_ADMIN_TOKEN=$(setting_of "$1/.env" REGISTRY_ADMIN_TOKEN)
    export REGISTRY_ADMIN_TOKEN
    mkdir -p -- "$1/import"
    # Files of this site that compose files mount: beside .env, since releases come and go.
    export IMPORT_DIR=$1/import CHATUI_ENV_FILE=$1/chatui.env EXTERNAL_KEYS_FILE=$1/external-keys.env
    if [ -f "$PLATFORM/chatui.env.template" ] && [ ! -f "$CHATUI_ENV_FILE" ]; then
        put "$CHATUI_ENV_FILE" <"$PLATFORM/chatui.env.template"
    fi
}

# From here on this release is the one that runs; the one before it is remembered for a way back.
switch_release() { # HOME RELEASE
    local before
    before=$(current_release "$1")
    if [ "$before" != "$2" ]; then
        if [ -n "$before" ]; then printf '%s\n' "$before" | put "$1/releases/$2/earlier"; fi
        ln -sfn -- "releases/$2" "$1/current.new"
        mv -T -- "$1/current.new" "$1/current"
        sync -- "$1"
    fi
    _write_compose_command "$1"
}

# Models that a name such as main meant another commit of in EARLIER, one a line.
moved_models() { # HOME RELEASE EARLIER
    local id revision commit rest
    local -A before=()
    if [ -z "$3" ] || [ "$3" = "$2" ]; then return; fi
    while IFS=$'\t' read -r id revision commit rest; do before["$id@$revision"]=$commit; done <"$1/releases/$3/$MODELS_LOCK"
    while IFS=$'\t' read -r id revision commit rest; do
        if [ "${before["$id@$revision"]:-$commit}" != "$commit" ]; then printf '%s\n' "$id"; fi
    done <"$1/releases/$2/$MODELS_LOCK"
}

_write_compose_command() { # HOME
    # shellcheck disable=SC2016
    {
        echo '#!/usr/bin/env bash'
        echo '# docker compose on the release that is current, with the settings of this site.'
        echo 'set -euo pipefail'
        echo 'home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)'
        echo 'export IMPORT_DIR=$home/import CHATUI_ENV_FILE=$home/chatui.env EXTERNAL_KEYS_FILE=$home/external-keys.env'
        printf 'exec docker compose --project-directory "$home/current" --env-file "$home/.env" --env-file "$home/current/bundle.env"'
        printf ' -f "$home/current/%s"' "${COMPOSE_FILES[@]}"
        echo ' "$@"'
    } | put "$1/compose"
    chmod +x "$1/compose"
}
