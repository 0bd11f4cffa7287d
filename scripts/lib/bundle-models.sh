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

has_model() { # ID COMMIT
    msp_beside registry -- bundle has "$1" "$2" >/dev/null 2>&1
}

# Writes one model into the bundle. It appears under its name when it is whole and, where asked for, in parts.
save_model() { # ID COMMIT BUNDLE PART_SIZE
    local id=$1 commit=$2 bundle=$3 part_size=$4 folder=models/$1/$2 making
    local -a files
    if is_done "model-${id//\//--}-$commit" "$commit $part_size"; then return; fi
    say "exporting $id at ${commit:0:12}"
    making=$bundle/.setup/model
    rm -rf -- "$making" "${bundle:?}/$folder"
    mkdir -p -- "$making" "$bundle/${folder%/*}"
    msp_beside registry "${TERMINAL[@]}" --user "$(id -u):$(id -g)" -v "$making:/out" -- models export "$id" /out/model --revision "$commit" ||
        die "$EXIT_FAILED" "$id could not be exported; the lines above say why. Run this again"
    split_large_files "$making/model" "$part_size"
    settle "$making"
    mv -- "$making/model" "$bundle/$folder"
    rmdir -- "$making"
    mapfile -t files < <(shopt -s globstar dotglob; for file in "$bundle/$folder"/**; do [ ! -f "$file" ] || printf '%s\n' "$file"; done)
    mark_done "model-${id//\//--}-$commit" "$commit $part_size" "${files[@]}"
}

_has_parts() { # FOLDER
    local file
    shopt -s globstar dotglob nullglob
    for file in "$1"/**/*.part-000; do [ ! -f "$file" ] || return 0; done
    return 1
}

# The model's folder with its large files whole again, in WORK; small ones are copied.
_join_model() { # FOLDER WORK
    local file relative target
    (
        shopt -s globstar dotglob nullglob
        for file in "$1"/**; do
            [ -f "$file" ] || continue
            relative=${file#"$1"/}
            target=$2/${relative%.part-[0-9][0-9][0-9]}
            mkdir -p -- "$(dirname -- "$target")"
            case $file in
                *.part-000) read_parts "${file%.part-000}" >"$target" || exit ;;
                *.part-[0-9][0-9][0-9]) ;;
                *) cp -- "$file" "$target" || exit ;;
            esac
        done
    )
}

# Gives the registry what it does not have. Every byte is compared with the manifest on its way in.
import_models() { # BUNDLE WORK
    local bundle=$1 work=$2 id revision commit bytes licence folder source count=0 total
    total=$(_count_lines "$bundle/$MODELS_LOCK")
    while IFS=$'\t' read -r id revision commit bytes licence folder <&4; do
        count=$((count + 1))
        if has_model "$id" "$commit"; then
            _point_ref "$id" "$revision" "$commit"
            continue
        fi
        [ "$folder" != base ] ||
            die "$EXIT_BAD_BUNDLE" "the registry has no $id at $commit, and this bundle leaves it to the earlier one; import that one first"
        say "importing $id ($count of $total, $(human "$bytes"), licence: $licence)"
        source=$bundle/$folder
        if _has_parts "$source"; then
            need_room "$work" "$bytes" "joining the parts of $id"
            rm -rf -- "$work/joined"
            _join_model "$source" "$work/joined" || die "$EXIT_FAILED" "the parts of $id could not be joined in $work"
            source=$work/joined
        fi
        msp_beside registry "${TERMINAL[@]}" -v "$source:/import:ro" --user 0 -- models import "$id" /import --upload --revision "$revision" ||
            die "$EXIT_FAILED" "$id could not be imported; the lines above say why. Run this again"
        rm -rf -- "$work/joined"
        has_model "$id" "$commit" || die "$EXIT_FAILED" "the registry does not tell of $id at $commit after its import; run this again"
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

bytes_of_models() { # BUNDLE
    local id revision commit bytes licence folder sum=0
    while IFS=$'\t' read -r id revision commit bytes licence folder; do
        : "$id $revision $commit $licence"
        [ "$folder" = base ] || sum=$((sum + bytes))
    done <"$1/$MODELS_LOCK"
    printf '%s\n' "$sum"
}

# The same without those that a release brought which was imported whole into HOME.
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
