#!/usr/bin/env bats
# scripts/lib/bundle-sums.sh: what is listed, what is read again, what is refused.

load room

bundle() {
    mkdir -p "drive/docs" drive/.setup
    echo page >"drive/docs/a page.md"
    echo image >drive/image.tar
    write_sums drive drive/.setup/hashes
}

@test "the list is sha256sum's own, without our notes" {
    bundle
    (cd drive && sha256sum --strict --quiet -c SHA256SUMS)
    [ "$(cut -c67- drive/SHA256SUMS)" = $'docs/a page.md\nimage.tar' ]
}

@test "what systems leave on a drive is no part of the bundle" {
    for path in .Trash-1000/x "System Volume Information/x" lost+found .setup/x SHA256SUMS.sig; do
        _is_left_out "$path"
    done
    for path in .env.example docs/.Trash-1000 images/x SHA256SUMS.md; do
        run _is_left_out "$path"
        [ "$status" = 1 ]
    done
}

@test "a link is not carried" {
    bundle
    ln -s image.tar drive/link
    run write_sums drive drive/.setup/hashes
    [ "$status" = "$EXIT_FAILED" ]
    said "drive/link is a link"
}

@test "a signature of an earlier list is taken away with it" {
    bundle
    echo signature >drive/SHA256SUMS.sig
    write_sums drive drive/.setup/hashes
    [ -f drive/SHA256SUMS.sig ]
    echo more >drive/more
    write_sums drive drive/.setup/hashes
    [ ! -f drive/SHA256SUMS.sig ]
}

@test "a whole bundle is verified, and not read a second time" {
    bundle
    run verify_sums drive memory ""
    [ "$status" = 0 ]
    said "verifying 2 files"
    run verify_sums drive memory ""
    [ "$status" = 0 ]
    [[ $output != *verifying* ]]
    run verify_sums drive memory yes
    said "verifying 2 files"
}

@test "a file that was changed after it was found right is read again" {
    bundle
    verify_sums drive memory ""
    echo imago >drive/image.tar
    run verify_sums drive memory ""
    [ "$status" = "$EXIT_BAD_BUNDLE" ]
    said "image.tar is damaged"
    [[ $output != *"a page.md is"* ]]
}

@test "what is missing, changed and added is named at once" {
    bundle
    rm "drive/docs/a page.md"
    echo imago >drive/image.tar
    echo new >drive/new
    run verify_sums drive memory ""
    [ "$status" = "$EXIT_BAD_BUNDLE" ]
    said "docs/a page.md is missing"
    said "image.tar is damaged"
    said "new is not listed"
}

@test "a list that is no list, or leads out, is refused" {
    bundle
    for line in "no hash  image.tar" "$(printf '%064d' 0)  /etc/passwd" "$(printf '%064d' 0)  ../x"; do
        echo "$line" >drive/SHA256SUMS
        run verify_sums drive memory ""
        [ "$status" = "$EXIT_BAD_BUNDLE" ]
    done
    rm drive/SHA256SUMS
    run verify_sums drive memory ""
    [ "$status" = "$EXIT_BAD_BUNDLE" ]
    said "there is no SHA256SUMS"
}

@test "no signature is asked for where no signers are named" {
    bundle
    run check_signature drive ""
    [ "$status" = 0 ]
    echo signature >drive/SHA256SUMS.sig
    run check_signature drive ""
    [ "$status" = 0 ]
    said "the signature is not looked at"
}
