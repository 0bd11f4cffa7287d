#!/usr/bin/env bats
# scripts/lib/bundle-parts.sh and bundle-files.sh: what is cut, and what is left to an earlier bundle.

load room

A=$(printf 'a%.0s' {1..64}) B=$(printf 'b%.0s' {1..64}) C=$(printf 'c%.0s' {1..64})

@test "what fits stays whole, what does not is cut and read back the same" {
    printf 0123456789 | write_in_parts small 10
    [ "$(parts_of small)" = small ]
    printf 0123456789ab | write_in_parts large 5
    [ "$(parts_of large)" = $'large.part-000\nlarge.part-001\nlarge.part-002' ]
    [ "$(read_parts large)" = 0123456789ab ]
    [ "$(bytes_of_parts large)" = 12 ]
}

@test "parts of an earlier try do not stay" {
    printf 0123456789ab | write_in_parts file 3
    printf 01 | write_in_parts file ""
    [ "$(echo file*)" = file ]
}

@test "a file that is not carried at all is told" {
    run read_parts nothing
    [ "$status" = "$EXIT_BAD_BUNDLE" ]
    said "nothing is not in the bundle"
}

@test "only files above the limit are cut, wherever they lie" {
    mkdir -p "model/sub folder"
    printf 0123456789 >"model/sub folder/large"
    printf 0123 >model/small
    split_large_files model 4
    [ "$(cd model && shopt -s globstar && echo **/*)" = "small sub folder sub folder/large.part-000 sub folder/large.part-001 sub folder/large.part-002" ]
    split_large_files model ""
}

@test "without an earlier bundle every file is carried" {
    run lock_files "" "" <<<"$A"$'\t5\tacme/one\tc1\ta file'
    [ "$output" = "$A"$'\t5\there\tacme/one\tc1\ta file' ]
}

@test "a file is left to the bundle that carries its hash, under whatever name, also over a delta" {
    printf '%s\t5\there\tacme/old\tc0\tname\n%s\t6\tfirst\tacme/old\tc0\tother\n' "$A" "$B" >base
    run lock_files base second < <(printf '%s\t5\tm\tc1\tx\n%s\t6\tm\tc1\ty\n%s\t7\tm\tc1\tz\n' "$A" "$B" "$C")
    [ "$output" = "$A"$'\t5\tsecond\tm\tc1\tx\n'"$B"$'\t6\tfirst\tm\tc1\ty\n'"$C"$'\t7\there\tm\tc1\tz' ]
}

locked() {
    printf '%s\t5\tsecond\tm\tc1\tx\n%s\t6\tfirst\tm\tc1\ty y\n%s\t7\there\tm\tc1\tz\n%s\t8\there\tn\tc1\tz\n' "$A" "$B" "$C" "$C" >lock
}

@test "bytes and hashes follow from what is carried" {
    locked
    [ "$(bytes_carried lock)" = 15 ]
    [ "$(bytes_carried lock m c1)" = 7 ]
    [ "$(hashes_left_out lock)" = "$A"$'\n'"$B" ]
}

@test "each bundle is named with what it brings" {
    locked
    run who_brings lock m c1
    said "second brings x"
    said "first brings y y"
    [ -z "$(who_brings lock n c1)" ]
}

@test "a model is in the earlier bundle only with all its files, under its commit" {
    locked
    printf '%s\t5\there\tm\tc1\tx\n%s\t6\there\tm\tc1\ty y\n' "$A" "$B" >base
    run all_in_base lock m c1 base
    [ "$status" = 1 ]
    printf '%s\t7\there\tm\tc1\tz\n' "$C" >>base
    run all_in_base lock m c1 base
    [ "$status" = 0 ]
    run all_in_base lock n c1 base
    [ "$status" = 1 ]
    run all_in_base lock m c1 ""
    [ "$status" = 1 ]
}

@test "a model's digest changes with any of its files, and with what is carried of it" {
    locked
    before=$(files_digest lock m c1)
    [ "$before" != "$(files_digest lock n c1)" ]
    sed -i 's/\there\tm/\tthird\tm/' lock
    [ "$before" != "$(files_digest lock m c1)" ]
}
