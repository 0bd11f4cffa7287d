# shellcheck shell=bash
# Images in a bundle: saved as tars, loaded, and compared with images.lock.
#
# images.lock has one line for each image, seven fields between tabs; `-` is "not known":
#   ref, index digest, manifest digest, config digest, digest of the layers' list, bytes of the tar, file
# `docker load` loses the first two on Docker's classic image store. There an image's id is its config digest; on
# containerd's store it is that of a manifest, which `load` may make anew, so the layers are compared instead.
# The file `base` means: not carried here, but in the earlier bundle that this one is to be added to.

LOCK=images.lock

image_id() { docker image inspect --format '{{.Id}}' "$1" 2>/dev/null; }

layers_digest() { # REF_OR_ID
    local digest
    digest=$(docker image inspect --format '{{range .RootFS.Layers}}{{println .}}{{end}}' "$1" | sha256sum) || return
    printf 'sha256:%s' "${digest%% *}"
}

image_file() { # REF
    local name=${1//[^A-Za-z0-9._-]/_}
    printf 'images/%s.tar' "$name"
}

_classic_store() {
    local status
    status=$(docker info --format '{{json .DriverStatus}}') || die "$EXIT_FAILED" "the Docker engine does not answer"
    [[ $status != *io.containerd.snapshotter* ]]
}

# Saves one image and prints its line of the lock. A second run with the same image only prints.
save_image() { # REF BUNDLE PART_SIZE
    local ref=$1 bundle=$2 part_size=$3 id file mark config manifest index
    id=$(image_id "$ref") || die "$EXIT_FAILED" "image $ref is not here"
    file=$(image_file "$ref")
    mark=image-${file//\//_}
    if is_done "$mark" "$id $part_size"; then
        cat -- "$MARKS/$mark.lock"
        return
    fi
    say "saving $ref ($(human "$(docker image inspect --format '{{.Size}}' "$ref")"))"
    mkdir -p -- "$bundle/images"
    docker save "$ref" | meter | write_in_parts "$bundle/$file" "$part_size" ||
        die "$EXIT_NO_ROOM" "$ref could not be saved to $bundle ($(human "$(free_bytes "$bundle")") free); run it again when there is room"
    # Read back out of what was written, which also proves that it is a whole tar.
    config=$(read_parts "$bundle/$file" | tar -xOf - manifest.json) || die "$EXIT_FAILED" "$file was not written whole; run it again"
    [[ $config =~ \"Config\":\"(blobs/sha256/)?([0-9a-f]{64}) ]] || die "$EXIT_FAILED" "$file names no image; run it again"
    config=sha256:${BASH_REMATCH[2]}
    if _classic_store; then
        [ "$config" = "$id" ] || die "$EXIT_FAILED" "$ref changed while it was saved; run it again"
        manifest=-
    else
        manifest=$id
    fi
    index=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$ref")
    index=${index%%$'\n'*}
    index=${index##*@}
    local -a parts
    mapfile -t parts < <(parts_of "$bundle/$file")
    printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$ref" "${index:--}" "$manifest" "$config" "$(layers_digest "$ref")" \
        "$(bytes_of_parts "$bundle/$file")" "$file" | put "$MARKS/$mark.lock"
    mark_done "$mark" "$id $part_size" "${parts[@]}"
    cat -- "$MARKS/$mark.lock"
}

# Whether the engine's image REF (or one by its id) is the one that a line of the lock describes.
is_locked_image() { # REF MANIFEST CONFIG LAYERS
    local id
    id=$(image_id "$1") || return 1
    [ "$id" = "$3" ] || [ "$id" = "$2" ] || { ! _classic_store && [ "$(layers_digest "$1")" = "$4" ]; }
}

# With no terminal to show progress on, a tar in one piece goes to the engine without a copy on the way.
_load_tar() { # FILE
    if [ -f "$1" ] && [ ! -t 2 ]; then
        docker load --quiet <"$1"
    else
        read_parts "$1" | meter | docker load --quiet
    fi
}

# Loads what is not here yet, and compares every image with the lock.
load_images() { # BUNDLE
    local bundle=$1 ref index manifest config layers bytes file count=0 total
    total=$(_count_lines "$bundle/$LOCK")
    while IFS=$'\t' read -r ref index manifest config layers bytes file <&4; do
        count=$((count + 1))
        if is_locked_image "$ref" "$manifest" "$config" "$layers"; then continue; fi
        if is_locked_image "$config" "$manifest" "$config" "$layers"; then
            # Here, under another name: an earlier release of the same version was put back, for one.
            docker tag "$config" "$ref"
            continue
        fi
        [ "$file" != base ] ||
            die "$EXIT_BAD_BUNDLE" "$ref is not here, and this bundle leaves it to the earlier one; import that one first"
        say "loading $ref ($count of $total, $(human "$bytes"))"
        _load_tar "$bundle/$file" >/dev/null ||
            die "$EXIT_FAILED" "$file could not be loaded; has Docker room? Run this again"
        is_locked_image "$ref" "$manifest" "$config" "$layers" ||
            die "$EXIT_BAD_BUNDLE" "$ref is $(image_id "$ref" || echo absent) after loading $file, and $LOCK says $config (index $index)"
    done 4<"$bundle/$LOCK"
    say "images: $total, as $LOCK says"
}

# Room that load_images needs: for the tars that it would load, and the largest once more, since `docker load` unpacks
# a tar before it makes layers of it.
room_to_load() { # BUNDLE
    local ref index manifest config layers bytes file sum=0 largest=0
    while IFS=$'\t' read -r ref index manifest config layers bytes file; do
        : "$index"
        if [ "$file" = base ] || is_locked_image "$ref" "$manifest" "$config" "$layers"; then continue; fi
        sum=$((sum + bytes))
        if [ "$bytes" -gt "$largest" ]; then largest=$bytes; fi
    done <"$1/$LOCK"
    printf '%s\n' "$((sum + largest))"
}

# Gives every image of a release a name of its own, so that a later `load` or prune cannot take it away.
hold_images() { # LOCK_FILE RELEASE
    local ref index manifest config layers bytes file number=0
    while IFS=$'\t' read -r ref index manifest config layers bytes file; do
        : "$index $bytes $file"
        number=$((number + 1))
        if is_locked_image "$ref" "$manifest" "$config" "$layers"; then
            docker tag "$ref" "msp-held/${2,,}:$number" && continue
        fi
        say "note: $ref of $2 is not here as it was imported; a way back to $2 needs its bundle again"
    done <"$1"
}

# Makes the refs of a release name its own images again. Nothing is changed where one of them is gone.
restore_images() { # LOCK_FILE RELEASE
    local ref index manifest config layers bytes file number=0 held
    local -a froms=() refs=()
    while IFS=$'\t' read -r ref index manifest config layers bytes file; do
        : "$index $bytes $file"
        number=$((number + 1))
        if is_locked_image "$ref" "$manifest" "$config" "$layers"; then continue; fi
        held=msp-held/${2,,}:$number
        is_locked_image "$held" "$manifest" "$config" "$layers" ||
            die "$EXIT_FAILED" "the image $ref of $2 is gone; import the bundle of $2 again, which also goes back"
        froms+=("$held") refs+=("$ref")
    done <"$1"
    for number in "${!refs[@]}"; do
        docker tag "${froms[$number]}" "${refs[$number]}" || die "$EXIT_FAILED" "${refs[$number]} could not be named anew"
    done
}

_count_lines() { # FILE
    local -a lines
    mapfile -t lines <"$1"
    printf '%s\n' "${#lines[@]}"
}

# Bytes of the tars that a bundle carries.
bytes_of_images() { # BUNDLE
    local ref index manifest config layers bytes file sum=0
    while IFS=$'\t' read -r ref index manifest config layers bytes file; do
        : "$ref $index $manifest $config $layers"
        [ "$file" = base ] || sum=$((sum + bytes))
    done <"$1/$LOCK"
    printf '%s\n' "$sum"
}
