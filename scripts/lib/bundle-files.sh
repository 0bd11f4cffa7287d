# shellcheck shell=bash disable=SC2034
# Which files the models of a bundle have, and which of them it leaves to earlier bundles.
#
# files.lock has one line for each file of each model in models.lock, six fields between tabs:
#   sha256, bytes, bundle, id, commit, path
# The bundle is `here`, or the id of the earlier one that carries a file with this hash.

FILES_LOCK=files.lock

# Lines "sha256, bytes, id, commit, path" become those of the lock. BASE_LOCK is the earlier bundle's; empty for none.
lock_files() { # BASE_LOCK BASE_ID
    local hash bytes bundle id commit path
    local -A brought=()
    if [ -n "$1" ]; then
        while IFS=$'\t' read -r hash bytes bundle id commit path; do
            if [ "$bundle" = here ]; then bundle=$2; fi
            brought["$hash"]=$bundle
        done <"$1"
    fi
    while IFS=$'\t' read -r hash bytes id commit path; do
        printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$hash" "$bytes" "${brought["$hash"]:-here}" "$id" "$commit" "$path"
    done
}

# What a model's files are: changes with any of them, and with which are carried.
files_digest() { # FILES_LOCK ID COMMIT
    local hash bytes bundle id commit path digest
    digest=$(
        while IFS=$'\t' read -r hash bytes bundle id commit path; do
            if [ "$id $commit" = "$2 $3" ]; then printf '%s %s %s\n' "$hash" "$bundle" "$path"; fi
        done <"$1" | sha256sum
    )
    printf '%s' "${digest%% *}"
}

# Whether every file of a model lies in an earlier bundle under the same commit and path.
all_in_base() { # FILES_LOCK ID COMMIT BASE_LOCK
    local hash bytes bundle id commit path
    local -A held=()
    [ -n "$4" ] || return 1
    while IFS=$'\t' read -r hash bytes bundle id commit path; do
        held["$hash $id $commit $path"]=1
    done <"$4"
    while IFS=$'\t' read -r hash bytes bundle id commit path; do
        [ "$id $commit" = "$2 $3" ] || continue
        [ -n "${held["$hash $id $commit $path"]:-}" ] || return 1
    done <"$1"
}

# Bytes of the files that are carried; of one model, where it is named.
bytes_carried() { # FILES_LOCK [ID COMMIT]
    local hash bytes bundle id commit path sum=0
    while IFS=$'\t' read -r hash bytes bundle id commit path; do
        if [ "$bundle" = here ] && [ "$id $commit" = "${2-$id} ${3-$commit}" ]; then sum=$((sum + bytes)); fi
    done <"$1"
    printf '%s\n' "$sum"
}

# Hashes of what is not carried.
hashes_left_out() { # FILES_LOCK
    local hash bytes bundle rest
    while IFS=$'\t' read -r hash bytes bundle rest; do
        if [ "$bundle" != here ]; then printf '%s\n' "$hash"; fi
    done <"$1"
}

# Which bundles bring the files of a model that are not carried: a line "BUNDLE brings PATH, PATH" for each.
who_brings() { # FILES_LOCK ID COMMIT
    local hash bytes bundle id commit path
    local -A paths=()
    while IFS=$'\t' read -r hash bytes bundle id commit path; do
        if [ "$id $commit" != "$2 $3" ] || [ "$bundle" = here ]; then continue; fi
        paths["$bundle"]+="${paths["$bundle"]:+, }$path"
    done <"$1"
    for bundle in "${!paths[@]}"; do printf '%s brings %s\n' "$bundle" "${paths["$bundle"]}"; done
}
