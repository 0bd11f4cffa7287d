# shellcheck shell=bash disable=SC2034
# Sourced by offline-setup.sh and offline-import.sh: messages, exit codes, and steps that can be broken off.
# What the air-gapped side runs uses bash, coreutils and Docker only: no grep, sed, awk, find, tar or flock.

export LC_ALL=C

# The programs' exit codes.
readonly EXIT_FAILED=1 EXIT_USAGE=2 EXIT_BAD_BUNDLE=3 EXIT_NO_ROOM=4 EXIT_UNHEALTHY=5

say() { printf '%s\n' "$*" >&2; }

die() { # EXIT_CODE MESSAGE...
    local code=$1
    shift
    say "${0##*/}: $*"
    exit "$code"
}

need() { # COMMAND...
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || die "$EXIT_FAILED" "$command is needed and was not found; install it"
    done
}

human() { numfmt --to=iec-i --suffix=B --format='%.1f' "$1"; }

# Whether two files are there and hold the same. (cmp is no part of coreutils.)
same_file() { # FILE OTHER
    [ -f "$1" ] && [ -f "$2" ] && [ "$(sha256sum <"$1")" = "$(sha256sum <"$2")" ]
}

size_of() { stat -L -c %s -- "$1"; }

# Standard input to standard output, with bytes and rate on a terminal.
meter() {
    if [ -t 2 ]; then dd bs=4M iflag=fullblock status=progress; else cat; fi
}

# Free bytes where PATH is or will be.
free_bytes() { # PATH
    local path=$1 free
    while [ ! -e "$path" ]; do path=$(dirname -- "$path"); done
    { read -r _; read -r free; } < <(df --output=avail -B1 -- "$path")
    printf '%s\n' "$((free))"
}

need_room() { # PATH BYTES WHAT
    local free
    free=$(free_bytes "$1")
    [ "$free" -ge "$2" ] ||
        die "$EXIT_NO_ROOM" "$3 needs $(human "$2") at $1, which has $(human "$free") free; make room and run it again"
}

# Standard input becomes FILE: whole or not at all, and on the disk before it has its name.
put() { # FILE
    cat >"$1.new" && sync -- "$1.new" && mv -f -- "$1.new" "$1" && sync -- "$(dirname -- "$1")"
}

# Everything below FOLDER is on the disk when this returns. Reads no file, asks the filesystem.
settle() { sync -f -- "$1"; }

# ── Steps: a marker is written after the work is on the disk, so a step is repeated or done, never half ───────

# Set by the program: the folder of the markers.
MARKS=

# Whether NAME was done for the same FINGERPRINT, and every file that it made still has its size.
is_done() { # NAME FINGERPRINT
    local marked size file
    [ -f "$MARKS/$1" ] || return 1
    {
        IFS= read -r marked || return 1
        [ "$marked" = "$2" ] || return 1
        while IFS=' ' read -r size file; do
            [ -f "$file" ] && [ "$(size_of "$file")" = "$size" ] || return 1
        done
    } <"$MARKS/$1"
}

mark_done() { # NAME FINGERPRINT [FILE...]
    local name=$1 fingerprint=$2 file
    shift 2
    for file in "$@"; do sync -- "$file"; done
    {
        printf '%s\n' "$fingerprint"
        for file in "$@"; do printf '%s %s\n' "$(size_of "$file")" "$file"; done
    } | put "$MARKS/$name"
}

# One run at a time; the lock of a run that was killed is taken over.
lock_folder() { # FOLDER
    local holder=$1/.lock pid=
    if ! mkdir -- "$holder" 2>/dev/null; then
        [ -d "$holder" ] || die "$EXIT_FAILED" "$1 cannot be written to"
        [ ! -f "$holder/pid" ] || read -r pid <"$holder/pid" || true
        if [ -n "$pid" ] && [ "$pid" != "$$" ] && [ -r "/proc/$pid/cmdline" ] &&
            [[ $(tr '\0' ' ' <"/proc/$pid/cmdline") = *"${0##*/}"* ]]; then
            die "$EXIT_FAILED" "another run (process $pid) works on $1; wait for it, or end it"
        fi
    fi
    printf '%s\n' "$$" >"$holder/pid"
    LOCK_HELD=$holder
    trap 'rm -rf -- "$LOCK_HELD"' EXIT
}

# ── Plain files that people, scripts and programs read ────────────────────────────────────────────────────────

# The text of KEY in a JSON file with one key on each line, as bundle.json has it. Empty: absent or null.
json_text() { # FILE KEY
    local line found=
    while IFS= read -r line; do
        if [[ $line =~ ^[[:space:]]*\"$2\":\ \"([^\"\\]*)\",?$ ]]; then found=${BASH_REMATCH[1]}; fi
    done <"$1"
    printf '%s' "$found"
}

# The value of KEY in a file of settings, as compose reads it where nothing is quoted across lines.
setting_of() { # FILE KEY
    local line found=
    [ -f "$1" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do
        if [[ $line = "$2="* ]]; then found=${line#*=}; fi
    done <"$1"
    case $found in
        \"*\" | \'*\') found=${found:1:-1} ;;
    esac
    printf '%s' "$found"
}

# Copies settings from standard input to standard output, those of FILE in place of its own.
with_settings_of() { # FILE
    local line key seen=" "
    while IFS= read -r line || [ -n "$line" ]; do
        key=${line%%=*}
        if [[ $line =~ ^[A-Z][A-Z0-9_]*= ]] && has_setting "$1" "$key"; then
            line="$key=$(setting_of "$1" "$key")"
            seen+="$key "
        fi
        printf '%s\n' "$line"
    done
    while IFS= read -r line || [ -n "$line" ]; do
        if [[ $line =~ ^[A-Z][A-Z0-9_]*= && $seen != *" ${line%%=*} "* ]]; then printf '%s\n' "$line"; fi
    done <"$1"
}

has_setting() { # FILE KEY
    local line
    while IFS= read -r line || [ -n "$line" ]; do
        if [[ $line = "$2="* ]]; then return 0; fi
    done <"$1"
    return 1
}
