#!/usr/bin/env bash
# Makes the bundle that is carried across an air gap. Needs a network, Docker, and the usual tools of a Linux host.
set -euo pipefail
REPOSITORY=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
here=$REPOSITORY/scripts
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
# shellcheck source=scripts/lib/bundle-contents.sh
source "$here/lib/bundle-contents.sh"
# shellcheck source=scripts/lib/bundle-preflight.sh
source "$here/lib/bundle-preflight.sh"

usage() {
    cat <<'TEXT'
Usage: scripts/offline-setup.sh [OPTION...]

Builds and pulls the images, starts store and registry, mirrors the models, and writes all of it into a folder
that is carried to the air-gapped host, where ./scripts/offline-import.sh in that folder does the rest.
Broken off anywhere: run it again; it does what is missing. Secrets are not in the bundle.

  --out DIR             the bundle                            [./bundle]
  --models FILE         which models; as models.example.yaml  [models.yaml, else those that .env names]
  --compose-file NAME   carry and later run this compose file; may be repeated; images of all its profiles are
                        carried                               [docker-compose.yml, and docker-compose.offline.yml
                                                               where there is one]
  --env-file FILE       settings of this side                 [.env; made if it is missing]
  --since FILE          a delta: leave out images, and single files of models, that the bundle of this
                        bundle.json holds (its images.lock, models.lock and files.lock must lie beside it)
  --fat32               cut files above 3900 MiB into parts
  --part-size SIZE      the same with another size, such as 700M
  --sign KEY            sign with this SSH private key (ssh-keygen -Y)
  --no-build            take our images as they are here
  --cli-image REF       the image that has `msp`              [PREFIX/cli:VERSION]
  --dry-run             say what would be fetched and how long it takes, and do nothing
  -h, --help            this text

HF_TOKEN, HTTPS_PROXY, NO_PROXY and EXTRA_CA_FILE are read from the settings.
Exit codes: 0 done, 1 failed, 2 wrong use, 4 no room, 5 not healthy.
TEXT
}

out=$PWD/bundle models='' compose_files='' env_file='' since='' part_size='' key='' build=yes CLI_IMAGE='' dry_run=''
while [ $# -gt 0 ]; do
    case $1 in
        --out | --models | --compose-file | --env-file | --since | --part-size | --sign | --cli-image)
            [ $# -ge 2 ] || die "$EXIT_USAGE" "$1 needs a value"
            case $1 in
                --out) out=$(realpath -m -- "$2") ;;
                --models) models=$(realpath -m -- "$2") ;;
                --compose-file) compose_files+="${compose_files:+ }$2" ;;
                --env-file) env_file=$(realpath -m -- "$2") ;;
                --since) since=$(realpath -m -- "$2") ;;
                --part-size) part_size=$2 ;;
                --sign) key=$(realpath -m -- "$2") ;;
                --cli-image) CLI_IMAGE=$2 ;;
            esac
            shift 2
            ;;
        --fat32) part_size=$FAT32_PART_SIZE && shift ;;
        --no-build) build='' && shift ;;
        --dry-run) dry_run=yes && shift ;;
        -h | --help) usage && exit ;;
        *) usage >&2 && exit "$EXIT_USAGE" ;;
    esac
done

check_usage() {
    [ -z "$part_size" ] || numfmt --from=iec "$part_size" >/dev/null 2>&1 ||
        die "$EXIT_USAGE" "--part-size $part_size is no size; try 3900M"
    [ -z "$key" ] || [ -r "$key" ] || die "$EXIT_USAGE" "there is no key $key"
    if [ -n "$since" ]; then
        local file
        for file in "$since" "${since%/*}/$LOCK" "${since%/*}/$MODELS_LOCK" "${since%/*}/$FILES_LOCK"; do
            [ -f "$file" ] || die "$EXIT_USAGE" "--since needs $file, which is not there"
        done
    fi
    [ -n "$models" ] || [ ! -f "$REPOSITORY/models.yaml" ] || models=$REPOSITORY/models.yaml
    [ -z "$models" ] || [ -f "$models" ] || die "$EXIT_USAGE" "there is no file $models"
    if [ -z "$compose_files" ]; then
        compose_files=docker-compose.yml
        [ ! -f "$REPOSITORY/docker-compose.offline.yml" ] || compose_files+=" docker-compose.offline.yml"
    fi
    local file
    for file in $compose_files; do [ -f "$REPOSITORY/$file" ] || die "$EXIT_USAGE" "there is no $file in $REPOSITORY"; done
}

preflight() {
    need docker sha256sum split stat df numfmt tar find xargs realpath
    [ -z "$key" ] || need ssh-keygen
    check_docker
    local authorities
    authorities=$(setting_of "$env_file" EXTRA_CA_FILE)
    [ -z "$authorities" ] || [ -r "$authorities" ] ||
        die "$EXIT_FAILED" "EXTRA_CA_FILE=$authorities cannot be read; correct it in $env_file"
    PLATFORM=$REPOSITORY ENV_FILES=("$env_file")
    read -ra carried <<<"$compose_files"
    COMPOSE_FILES=("${carried[@]}")
    mapfile -t images < <(
        { compose --profile '*' config --images && echo "$CLI_IMAGE"; } | sort -u
    )
    [ ${#images[@]} -gt 1 ] || die "$EXIT_FAILED" "the images could not be listed; the lines above say why"
    # The registry of this side is online; what the carried files add for the other side is not wanted here.
    COMPOSE_FILES=("${carried[0]}")
}

# What it will cost: of the hub by its own word, of images as far as they are here.
show_plan() {
    local id revision commit bytes sum=0 answered=0 lines
    plan_images "${images[@]}" | expand -t 60,90
    lines=$(plan_models "$models" "$env_file") || answered=$?
    case $answered in
        0) ;;
        77)
            say "how large the models are can be asked once $CLI_IMAGE is built"
            return 0
            ;;
        *) die "$EXIT_FAILED" "not all models can be had; the lines above say which, and what to do" ;;
    esac
    while IFS=$'\t' read -r id revision commit bytes; do
        [ -n "$id" ] || continue
        printf '%s at %s\t%s\t%s\n' "$id" "$revision" "${commit:0:12}" "$(human "$bytes")" | expand -t 60,90
        sum=$((sum + bytes))
    done <<<"$lines"
    printf 'models: %s to fetch into an empty store; %s at 100 Mbit/s, %s at 1 Gbit/s\n' "$(human "$sum")" \
        "$(duration "$((sum / 12500000))")" "$(duration "$((sum / 125000000))")"
    model_bytes=$sum
}

build_images() {
    local digest ref missing=''
    [ -n "$build" ] || return 0
    digest=$(sources_digest "$REPOSITORY")
    for ref in "${images[@]}"; do
        [[ $ref != "$prefix"/* ]] || image_id "$ref" >/dev/null || missing=yes
    done
    if [ -z "$missing" ] && is_done build "$digest"; then return; fi
    say "building our images (minutes to half an hour; the worker's brings 5 GB of packages)"
    COMPOSE_FILES=()
    for ref in "${carried[@]}"; do
        # The offline form takes away how images are built.
        [ "$ref" = docker-compose.offline.yml ] || COMPOSE_FILES+=("$ref")
    done
    compose --profile '*' build || die "$EXIT_FAILED" "an image could not be built; the lines above say why. Run this again"
    COMPOSE_FILES=("${carried[0]}")
    docker build --build-arg MEMBER=cli --build-arg PACKAGE=msp_cli \
        --build-arg "BASE_IMAGE=$(setting_or BASE_IMAGE python:3.13-slim-trixie)" -t "$CLI_IMAGE" "$REPOSITORY" ||
        die "$EXIT_FAILED" "$CLI_IMAGE could not be built; the lines above say why. Run this again"
    mark_done build "$digest"
}

setting_or() { # KEY DEFAULT
    local value
    value=$(setting_of "$env_file" "$1")
    printf '%s' "${value:-$2}"
}

pull_images() {
    local ref try
    for ref in "${images[@]}"; do
        ! image_id "$ref" >/dev/null || continue
        [[ $ref != "$prefix"/* ]] || die "$EXIT_FAILED" "$ref is one of ours and not here; run this without --no-build"
        for try in 1 2 3; do
            say "pulling $ref (try $try of 3)"
            ! docker pull "$ref" || break
            [ "$try" != 3 ] || die "$EXIT_FAILED" "$ref could not be pulled; is its registry reachable? Layers that came are kept. Run this again"
        done
    done
}

mirror_models() {
    REGISTRY_ADMIN_TOKEN=$(setting_of "$env_file" REGISTRY_ADMIN_TOKEN)
    export REGISTRY_ADMIN_TOKEN
    say "starting store and registry"
    start_services registry
    wait_healthy 300 registry
    say "mirroring the models of $models"
    msp_beside registry "${TERMINAL[@]}" -v "$models:/models.yaml:ro" -- models pull --file /models.yaml ||
        die "$EXIT_FAILED" "not all models could be mirrored; the lines above say which, and what to do. Run this again"
    msp_beside registry -v "$models:/models.yaml:ro" -- bundle models --file /models.yaml >"$out/.setup/models.new" ||
        die "$EXIT_FAILED" "the registry does not tell what it holds; run this again"
    msp_beside registry -v "$models:/models.yaml:ro" -- bundle files --file /models.yaml >"$out/.setup/files.new" ||
        die "$EXIT_FAILED" "the registry does not tell which files it holds; run this again"
    lock_files "$base_files" "$base" <"$out/.setup/files.new" | put "$out/.setup/$FILES_LOCK"
    _refresh "$out/.setup/$FILES_LOCK" "$out/$FILES_LOCK"
}

# The line of the earlier bundle's lock for an image (by its id) or a model (by its commit); fails without one.
base_image() { # REF IMAGE_ID
    local ref index manifest config layers bytes file
    [ -n "$since" ] || return 1
    while IFS=$'\t' read -r ref index manifest config layers bytes file; do
        : "$bytes $file"
        if [ "$ref" = "$1" ] && [[ $2 = "$manifest" || $2 = "$config" ]]; then
            printf '%s\t%s\t%s\t%s\t%s\t0\tbase\n' "$ref" "$index" "$manifest" "$config" "$layers"
            return 0
        fi
    done <"${since%/*}/$LOCK"
    return 1
}

# Every file of a model is in the earlier bundle, under this commit.
in_base() { # MODEL_ID COMMIT
    all_in_base "$out/$FILES_LOCK" "$1" "$2" "$base_files"
}

check_room() {
    local ref id revision commit bytes rest sum=0 largest=0 folder
    for ref in "${images[@]}"; do
        id=$(image_id "$ref")
        if base_image "$ref" "$id" >/dev/null; then continue; fi
        rest=$(image_file "$ref")
        if is_done "image-${rest//\//_}" "$id $part_size"; then continue; fi
        bytes=$(docker image inspect --format '{{.Size}}' "$ref")
        sum=$((sum + bytes))
        if [ "$bytes" -gt "$largest" ]; then largest=$bytes; fi
    done
    while IFS=$'\t' read -r id revision commit bytes rest; do
        : "$revision $bytes $rest"
        if in_base "$id" "$commit"; then continue; fi
        is_done "model-${id//\//--}-$commit" "$(model_fingerprint "$id" "$commit" "$out/$FILES_LOCK" "$part_size")" ||
            sum=$((sum + $(bytes_carried "$out/$FILES_LOCK" "$id" "$commit")))
    done <"$out/.setup/models.new"
    # `docker save` makes a tar in Docker's folder before it sends it.
    folder=$(docker_folder)
    if [ -n "$folder" ] && [ "$(stat -c %d -- "$folder")" = "$(stat -c %d -- "$out")" ]; then
        sum=$((sum + largest))
    elif [ -n "$folder" ]; then
        need_room "$folder" "$largest" "saving the largest image"
    fi
    need_room "$out" "$sum" "what is still to be written into the bundle"
}

write_images() {
    local ref line id
    for ref in "${images[@]}"; do
        id=$(image_id "$ref")
        if base_image "$ref" "$id"; then continue; fi
        line=$(save_image "$ref" "$out" "$part_size")
        printf '%s\n' "$line"
    done | put "$out/.setup/$LOCK"
    _refresh "$out/.setup/$LOCK" "$out/$LOCK"
    for ref in "${images[@]}"; do list_packages "$REPOSITORY" "$out" "$ref"; done
}

write_models() {
    local id revision commit bytes licence folder
    while IFS=$'\t' read -r id revision commit bytes licence <&4; do
        folder=models/$id/$commit
        if in_base "$id" "$commit"; then
            folder=base
        else
            save_model "$id" "$commit" "$out" "$part_size" "$out/$FILES_LOCK" >&2
        fi
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$id" "$revision" "$commit" "$bytes" "$licence" "$folder"
    done 4<"$out/.setup/models.new" | put "$out/.setup/$MODELS_LOCK"
    _refresh "$out/.setup/$MODELS_LOCK" "$out/$MODELS_LOCK"
}

# Files of images and models that this bundle does not hold any more.
remove_leftovers() {
    local path known
    known=$'\n'$(cut -f7 "$out/$LOCK")$'\n'$(cut -f6 "$out/$MODELS_LOCK")$'\n'
    while IFS= read -r path; do
        [[ $known = *$'\n'"${path%.part-[0-9][0-9][0-9]}"$'\n'* ]] || rm -rf -- "${out:?}/$path"
    done < <(cd -- "$out" && find images -mindepth 1 -maxdepth 1 -type f 2>/dev/null; cd -- "$out" && find models -mindepth 3 -maxdepth 3 -type d 2>/dev/null)
    [ ! -d "$out/models" ] || find "$out/models" -type d -empty -delete
}

check_usage
[ -n "$env_file" ] || env_file=$REPOSITORY/.env
if [ ! -f "$env_file" ]; then
    [ -z "$dry_run" ] || die "$EXIT_USAGE" "there is no $env_file yet; ./scripts/init-env.sh makes one"
    "$here/init-env.sh" --file "$env_file"
fi
prefix=$(setting_or MSP_IMAGE_PREFIX msp)
version=$(setting_or MSP_VERSION 0.1.0)
[ -n "$CLI_IMAGE" ] || CLI_IMAGE=$prefix/cli:$version
generated=''
if [ -z "$models" ]; then
    models=$(mktemp) generated=$models
    trap 'rm -f -- "$generated"' EXIT
    models_of_settings "$env_file" "$compose_files" >"$models"
    chmod 644 "$models"
fi
preflight
if [ -n "$dry_run" ]; then
    show_plan
    exit
fi
mkdir -p -- "$out/.setup/marks" 2>/dev/null || die "$EXIT_NO_ROOM" "$out cannot be made; give another with --out"
if [ -n "$generated" ]; then
    cp -- "$generated" "$out/.setup/models.yaml" && rm -f -- "$generated" && models=$out/.setup/models.yaml
fi
MARKS=$out/.setup/marks
lock_folder "$out/.setup"
build_images
pull_images
model_bytes=0
if ! is_done plan "$(sha256sum <"$models")"; then
    show_plan >&2
    [ -z "$(docker_folder)" ] || need_room "$(docker_folder)" "$model_bytes" "mirroring the models"
    mark_done plan "$(sha256sum <"$models")"
fi
# The bundle that this one adds to, and which files it has.
base='' base_files=''
if [ -n "$since" ]; then base=$(json_text "$since" id) base_files=${since%/*}/$FILES_LOCK; fi
mirror_models
check_room
write_images
write_models
remove_leftovers
copy_platform "$REPOSITORY" "$out" "${carried[@]}"
write_settings "$out" "$env_file"
write_page "$out" "$version" "$base" "$part_size" "${carried[*]}"
write_bom "$out" "$version"
say "hashing the bundle"
write_sums "$out" "$out/.setup/hashes"
[ -z "$key" ] || sign_sums "$out" "$key"
settle "$out"
say "done: bundle $(json_text "$out/bundle.json" id) is in $out, $(human "$(($(bytes_of_images "$out") + $(bytes_carried "$out/$FILES_LOCK")))")"
say "Copy it whole (without .setup), then on the other side: ./scripts/offline-import.sh"
