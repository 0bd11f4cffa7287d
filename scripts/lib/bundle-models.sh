# shellcheck shell=bash
# Models in a bundle: exported by the registry with their manifests, and given back to another one.
#
# models.lock has one line for each model and revision, six fields between tabs:
#   id, revision, commit, bytes, licence, folder
# The folder `base` means: not carried here, but in the earlier bundle that this one is to be added to.

MODELS_LOCK=models.lock

# For commands that show progress: a terminal, where there is one.
TERMINAL=()
if [ -t 2 ]; then TERMINAL=(-t); fi

# Runs `msp` in its image, in the network of a running service: nothing is installed, no port is needed.
msp_beside() { # SERVICE DOCKER_OPTION... -- ARGUMENT...
    local container
    local -a options=()
    container=$(compose ps -q "$1") || return
    [ -n "$container" ] || die "$EXIT_FAILED" "$1 does not run"
    shift
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    docker run --rm --pull never --network "container:$container" "${options[@]}" -e REGISTRY_ADMIN_TOKEN \
        -e REGISTRY_URL=http://127.0.0.1:8090 -e GATEWAY_URL=http://127.0.0.1:8080 "$CLI_IMAGE" msp "$@"
}

has_model() { # ID COMMIT BYTES
    msp_beside registry -- bundle has "$1" "$2" --bytes "$3" >/dev/null 2>&1
}

# What a model in the bundle was made of, for the marker of that step.
model_fingerprint() { # ID COMMIT FILES_LOCK PART_SIZE
    printf '%s %s %s' "$2" "$(files_digest "$3" "$1" "$2")" "$4"
}

# Writes one model into the bundle, without files that an earlier bundle brings. It appears under its name when it
# is whole and, where asked for, in parts.
save_model() { # ID COMMIT BUNDLE PART_SIZE FILES_LOCK
    local id=$1 commit=$2 bundle=$3 part_size=$4 locked=$5 folder=models/$1/$2 making fingerprint
    local -a files
    fingerprint=$(model_fingerprint "$id" "$commit" "$locked" "$part_size")
    if is_done "model-${id//\//--}-$commit" "$fingerprint"; then return; fi
    say "exporting $id at ${commit:0:12} ($(human "$(bytes_carried "$locked" "$id" "$commit")"))"
    making=$bundle/.setup/model
    rm -rf -- "$making" "${bundle:?}/$folder"
    mkdir -p -- "$making" "$bundle/${folder%/*}"
    hashes_left_out "$locked" >"$bundle/.setup/left-out"
    local -a options=("${TERMINAL[@]}" --user "$(id -u):$(id -g)" -v "$making:/out" -v "$bundle/.setup/left-out:/left-out:ro")
    if [ -s "$bundle/.setup/left-out" ]; then
        msp_beside registry "${options[@]}" -- bundle export "$id" /out/model --commit "$commit" --leave-out /left-out
    else
        msp_beside registry "${options[@]}" -- models export "$id" /out/model --revision "$commit"
    fi ||
        die "$EXIT_FAILED" "$id could not be exported; the lines above say why. Run this again"
    split_large_files "$making/model" "$part_size"
    settle "$making"
    mv -- "$making/model" "$bundle/$folder"
    rmdir -- "$making"
    mapfile -t files < <(shopt -s globstar dotglob; for file in "$bundle/$folder"/**; do [ ! -f "$file" ] || printf '%s\n' "$file"; done)
    mark_done "model-${id//\//--}-$commit" "$fingerprint" "${files[@]}"
}

# Gives the registry what it does not have. Every byte is compared with the manifest on its way in, also of
# files that an earlier bundle has brought and that are taken from the store.
import_models() { # BUNDLE
    local bundle=$1 id revision commit bytes licence folder count=0 total
    local -a rest=()
    [ -z "$(json_text "$bundle/bundle.json" base)" ] || rest=(--rest-from-store)
    total=$(_count_lines "$bundle/$MODELS_LOCK")
    while IFS=$'\t' read -r id revision commit bytes licence folder <&4; do
        count=$((count + 1))
        if has_model "$id" "$commit" "$bytes"; then
            _point_ref "$id" "$revision" "$commit"
            continue
        fi
        if [ "$folder" = base ]; then
            say "the registry has no $id at $commit, or not all of it, and this bundle leaves it to earlier ones:"
            who_brings "$bundle/$FILES_LOCK" "$id" "$commit" >&2
            die "$EXIT_BAD_BUNDLE" "import what brings it first (its models are taken again), then this one"
        fi
        say "importing $id ($count of $total, $(human "$bytes"), licence: $licence)"
        if ! msp_beside registry "${TERMINAL[@]}" -v "$bundle/$folder:/import:ro" --user 0 -- models import "$id" /import --upload \
            --revision "$revision" "${rest[@]}"; then
            if [ ${#rest[@]} -gt 0 ]; then
                say "what this bundle leaves out of $id, since an earlier one brings it:"
                who_brings "$bundle/$FILES_LOCK" "$id" "$commit" >&2
            fi
            die "$EXIT_FAILED" "$id could not be imported; the lines above say why. Run this again"
        fi
        has_model "$id" "$commit" "$bytes" ||
            die "$EXIT_FAILED" "the registry does not tell of $id at $commit after its import; run this again"
    done 4<"$bundle/$MODELS_LOCK"
    say "models: $total, every hash compared"
}

# Makes a name such as main mean what it means in this bundle.
_point_ref() { # ID REVISION COMMIT
    [ "$2" = "$3" ] || msp_beside registry -- models promote "$1" --to "$2" --commit "$3" >/dev/null ||
        die "$EXIT_FAILED" "$2 of $1 could not be set to $3"
}

# After a way back: names mean again what they meant in that release. Models of the later one stay.
restore_refs() { # RELEASE_FOLDER
    local id revision commit rest
    while IFS=$'\t' read -r id revision commit rest <&4; do
        : "$rest"
        _point_ref "$id" "$revision" "$commit"
    done 4<"$1/$MODELS_LOCK"
}

# Bytes that the models will take in the store, files that come from the store included: it keeps each commit whole.
# Without those that a release brought which was imported whole into HOME.
bytes_of_new_models() { # BUNDLE HOME
    local id revision commit bytes rest release sum=0
    local -A known=()
    for release in "$2"/releases/*/imported; do
        [ -f "$release" ] || continue
        while IFS=$'\t' read -r id revision commit rest; do known["$id@$commit"]=1; done <"${release%/*}/$MODELS_LOCK"
    done
    while IFS=$'\t' read -r id revision commit bytes rest; do
        : "$revision"
        [[ $rest = *$'\tbase' || -n ${known["$id@$commit"]:-} ]] || sum=$((sum + bytes))
    done <"$1/$MODELS_LOCK"
    printf '%s\n' "$sum"
}
