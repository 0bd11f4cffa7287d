# shellcheck shell=bash
# The bundle's list of hashes: how it is written, signed and verified. The verifier is `sha256sum -c`.

SUMS=SHA256SUMS
SIGNATURE=SHA256SUMS.sig
SIGNATURE_NAMESPACE=msp-bundle

# What may lie beside the carried files without being carried: our own notes, and what systems leave on a drive.
_is_left_out() { # RELATIVE_PATH
    case $1 in
        "$SUMS" | "$SIGNATURE" | .setup | .setup/* | .lock | .lock/*) return 0 ;;
        lost+found* | "System Volume Information"* | \$RECYCLE.BIN* | .Trash-* | .Spotlight-* | .fseventsd*) return 0 ;;
        *) return 1 ;;
    esac
}

# Files and links below the bundle, by relative path, in byte order.
carried_files() { # BUNDLE
    local path
    (
        cd -- "$1" || exit
        shopt -s globstar dotglob nullglob
        for path in **; do
            if _is_left_out "$path"; then continue; fi
            if [ -f "$path" ] || [ -L "$path" ]; then printf '%s\n' "$path"; fi
        done
    )
}

# Fills the associative array `identities` with what each file's hash is remembered by: its size, inode and time,
# which change when the file is carried anew. Files that are not there get none.
_identify() { # BUNDLE PATH...
    local bundle=$1 size inode time path at
    shift
    # Not one process for each file: a bundle may have thousands.
    while IFS=' ' read -r size inode time path; do
        identities["$path"]="$size $inode $time"
    done < <(
        cd -- "$bundle" || exit
        for ((at = 1; at <= $#; at += 500)); do stat -L -c '%s %i %.9Y %n' -- "${@:at:500}" 2>/dev/null; done
    )
}

# Reads "hash identity path" lines into the associative array `remembered`.
_recall() { # FILE
    local hash size inode time path
    [ -f "$1" ] || return 0
    while IFS=' ' read -r hash size inode time path; do
        remembered["$path"]="$hash $size $inode $time"
    done <"$1"
}

# Hashes what is new or changed and writes SHA256SUMS. MEMORY keeps the hashes of earlier runs.
write_sums() { # BUNDLE MEMORY
    local bundle=$1 memory=$2 path hash known total=0 done_bytes=0
    local -A remembered=() identities=()
    _recall "$memory"
    local -a paths=()
    mapfile -t paths < <(carried_files "$bundle")
    _identify "$bundle" "${paths[@]}"
    for path in "${paths[@]}"; do
        if [ -L "$bundle/$path" ]; then die "$EXIT_FAILED" "$bundle/$path is a link; a bundle holds files only"; fi
        if [[ $path = *\\* ]]; then die "$EXIT_FAILED" "$bundle/$path: no drive takes such a name"; fi
        total=$((total + ${identities["$path"]%% *}))
    done
    for path in "${paths[@]}"; do
        known=${remembered["$path"]:-}
        if [ -n "$known" ] && [ "${known#* }" = "${identities["$path"]}" ]; then
            hash=${known%% *}
        else
            [ "${identities["$path"]%% *}" -lt 100000000 ] ||
                say "  hashing $path ($((done_bytes * 100 / (total + 1))) % of $(human "$total"))"
            hash=$(cd -- "$bundle" && sha256sum -- "$path") || die "$EXIT_FAILED" "$bundle/$path cannot be read"
            hash=${hash%% *}
        fi
        done_bytes=$((done_bytes + ${identities["$path"]%% *}))
        printf '%s %s %s\n' "$hash" "${identities["$path"]}" "$path" >&3
        printf '%s  %s\n' "$hash" "$path"
    done 3>"$memory.new" >"$bundle/.setup/sums"
    mv -f -- "$memory.new" "$memory"
    if ! same_file "$bundle/.setup/sums" "$bundle/$SUMS"; then
        rm -f -- "$bundle/$SIGNATURE"
        put "$bundle/$SUMS" <"$bundle/.setup/sums"
    fi
    rm -f -- "$bundle/.setup/sums"
}

sign_sums() { # BUNDLE PRIVATE_KEY
    local bundle=$1
    [ -f "$bundle/$SIGNATURE" ] && return
    # ssh-keygen names the signature after the file and asks before it overwrites one.
    rm -f -- "$bundle/.setup/$SUMS" "$bundle/.setup/$SIGNATURE"
    cp -- "$bundle/$SUMS" "$bundle/.setup/$SUMS"
    ssh-keygen -q -Y sign -n "$SIGNATURE_NAMESPACE" -f "$2" "$bundle/.setup/$SUMS" ||
        die "$EXIT_FAILED" "the bundle could not be signed with $2"
    put "$bundle/$SIGNATURE" <"$bundle/.setup/$SIGNATURE"
    rm -f -- "$bundle/.setup/$SUMS" "$bundle/.setup/$SIGNATURE"
}

# SIGNERS is a file as ssh-keygen's ALLOWED SIGNERS; it must have come another way than the bundle.
check_signature() { # BUNDLE SIGNERS
    local bundle=$1 signer
    if [ -z "$2" ]; then
        [ ! -f "$bundle/$SIGNATURE" ] ||
            say "note: the bundle is signed, and the signature is not looked at; --signers FILE does that"
        return 0
    fi
    [ -f "$bundle/$SIGNATURE" ] || die "$EXIT_BAD_BUNDLE" "the bundle has no signature ($SIGNATURE), and --signers asks for one"
    need ssh-keygen
    signer=$(ssh-keygen -q -Y find-principals -f "$2" -s "$bundle/$SIGNATURE" 2>/dev/null) || signer=
    [ -n "$signer" ] || die "$EXIT_BAD_BUNDLE" "the signature is by nobody whom $2 names"
    signer=${signer%%[$'\n',]*}
    ssh-keygen -q -Y verify -n "$SIGNATURE_NAMESPACE" -f "$2" -I "$signer" -s "$bundle/$SIGNATURE" \
        <"$bundle/$SUMS" >/dev/null 2>&1 ||
        die "$EXIT_BAD_BUNDLE" "$SUMS is not what $signer signed; carry $SUMS and $SIGNATURE again"
    say "signed by $signer"
}

# Every file is there, is what SHA256SUMS says, and nothing else is there. Names what is not.
# MEMORY keeps what was found right, by size, inode and time: a second look reads only what changed.
verify_sums() { # BUNDLE MEMORY FULL
    local bundle=$1 memory=$2 full=$3 line hash path
    local -A remembered=() wanted=() extra=() identities=()
    local -a bad=() listed=() to_read=()
    [ -f "$bundle/$SUMS" ] || die "$EXIT_BAD_BUNDLE" "there is no $SUMS in $bundle; it is no bundle, or was not carried whole"
    [ -n "$full" ] || _recall "$memory"
    while IFS= read -r line || [ -n "$line" ]; do
        [[ $line =~ ^([0-9a-f]{64})\ \ ([^/].*)$ ]] || die "$EXIT_BAD_BUNDLE" "$SUMS is damaged; carry it again"
        hash=${BASH_REMATCH[1]} path=${BASH_REMATCH[2]}
        [[ /$path/ != */../* ]] || die "$EXIT_BAD_BUNDLE" "$SUMS names $path, outside of the bundle"
        wanted["$path"]=$hash
        listed+=("$path")
    done <"$bundle/$SUMS"
    _identify "$bundle" "${listed[@]}"
    for path in "${listed[@]}"; do
        if [ ! -f "$bundle/$path" ] || [ -L "$bundle/$path" ] || [ -z "${identities["$path"]:-}" ]; then
            bad+=("$path is missing")
        elif [ "${remembered["$path"]:-}" != "${wanted["$path"]} ${identities["$path"]}" ]; then
            to_read+=("$path")
        fi
    done
    while IFS= read -r path; do
        [ -n "${wanted["$path"]:-}" ] || extra["$path"]=1
    done < <(carried_files "$bundle")
    _read_and_compare
    for path in "${!extra[@]}"; do bad+=("$path is not listed in $SUMS: remove it"); done
    if [ ${#bad[@]} -gt 0 ]; then
        say "the bundle is not whole:"
        printf '  %s\n' "${bad[@]}" >&2
        die "$EXIT_BAD_BUNDLE" "carry these files again into $bundle, then run this again; what is right is not read again"
    fi
    say "verified: ${#wanted[@]} files"
}

# Of verify_sums: hashes `to_read`, remembers what is right, adds the rest to `bad`.
_read_and_compare() {
    local path total=0 seen=0 result
    for path in "${to_read[@]}"; do total=$((total + ${identities["$path"]%% *})); done
    [ ${#to_read[@]} -gt 0 ] || return 0
    say "verifying ${#to_read[@]} files, $(human "$total")"
    while IFS= read -r result; do
        path=${result%: *} result=${result##*: }
        if [ "$result" = OK ]; then
            printf '%s %s %s\n' "${wanted["$path"]}" "${identities["$path"]}" "$path" >>"$memory"
        else
            bad+=("$path is damaged")
        fi
        seen=$((seen + ${identities["$path"]%% *}))
        if [ -t 2 ]; then printf '\r  %3d %%' "$((seen * 100 / (total + 1)))" >&2; fi
    done < <(
        cd -- "$bundle" || exit
        for path in "${to_read[@]}"; do printf '%s  %s\n' "${wanted["$path"]}" "$path"; done |
            stdbuf -oL sha256sum -c - 2>/dev/null
    )
    if [ -t 2 ]; then printf '\r         \r' >&2; fi
    sync -- "$memory" 2>/dev/null || true
}
