# shellcheck shell=bash disable=SC2034
# Files in parts, for drives that take no large ones: NAME is carried as NAME.part-000, NAME.part-001, ...

# The size of a part for FAT32, whose files end at 4 GiB.
FAT32_PART_SIZE=3900M

# Standard input becomes FILE, in parts of PART_SIZE where one is given.
write_in_parts() { # FILE PART_SIZE
    rm -f -- "$1" "$1".part-*
    if [ -z "$2" ]; then
        cat >"$1"
    else
        split -b "$2" -a 3 --numeric-suffixes - "$1.part-" || return
        [ -f "$1.part-001" ] || mv -- "$1.part-000" "$1"
    fi
}

# The files that carry FILE, in order.
parts_of() { # FILE
    local part
    if [ -f "$1" ]; then
        printf '%s\n' "$1"
        return
    fi
    for part in "$1".part-*; do
        [ ! -f "$part" ] || printf '%s\n' "$part"
    done
}

bytes_of_parts() { # FILE
    local part total=0
    while IFS= read -r part; do total=$((total + $(size_of "$part"))); done < <(parts_of "$1")
    printf '%s\n' "$total"
}

# FILE as a stream, whatever it is carried in.
read_parts() { # FILE
    local -a parts
    mapfile -t parts < <(parts_of "$1")
    [ ${#parts[@]} -gt 0 ] || die "$EXIT_BAD_BUNDLE" "$1 is not in the bundle"
    cat -- "${parts[@]}"
}

# Cuts every file below FOLDER that is larger than PART_SIZE; the whole file goes when its parts are on the disk.
split_large_files() { # FOLDER PART_SIZE
    local file limit=$2
    [ -n "$limit" ] || return 0
    limit=$(numfmt --from=iec "$2")
    (
        shopt -s globstar dotglob nullglob
        for file in "$1"/**; do
            [[ -f $file && $file != *.part-* ]] || continue
            [ "$(size_of "$file")" -gt "$limit" ] || continue
            say "  cutting ${file##*/} into parts of $2"
            split -b "$2" -a 3 --numeric-suffixes -- "$file" "$file.part-"
            sync -- "$file".part-*
            rm -- "$file"
        done
    )
}
