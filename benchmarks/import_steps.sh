#!/usr/bin/env bash
# One step of a bundle's way, by the scripts' own code, for bench_import.py.
#
#   import_steps.sh lock BUNDLE IMAGE    saves the image into the bundle and lists the hashes of all files
#   import_steps.sh verify BUNDLE
#   import_steps.sh load BUNDLE
set -euo pipefail
lib=$(cd "$(dirname "${BASH_SOURCE[0]}")/../scripts/lib" && pwd)
# shellcheck source=scripts/lib/bundle.sh
source "$lib/bundle.sh"
# shellcheck source=scripts/lib/bundle-sums.sh
source "$lib/bundle-sums.sh"
# shellcheck source=scripts/lib/bundle-parts.sh
source "$lib/bundle-parts.sh"
# shellcheck source=scripts/lib/bundle-images.sh
source "$lib/bundle-images.sh"

case $1 in
    verify)
        memory=$(mktemp)
        trap 'rm -f -- "$memory"' EXIT
        check_signature "$2" ""
        verify_sums "$2" "$memory" yes
        ;;
    load) load_images "$2" ;;
    lock)
        MARKS=$2/.setup/marks
        mkdir -p -- "$MARKS"
        save_image "$3" "$2" "" >"$2/$LOCK"
        write_sums "$2" "$2/.setup/hashes"
        ;;
esac
