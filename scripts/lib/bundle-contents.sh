# shellcheck shell=bash disable=SC2034
# What a bundle holds beside images and models: files of the platform, settings, bills of materials, its own page.

# Copies FILE only where it differs, so that a second run leaves its time, and so its hash, alone.
_refresh() { # FILE TARGET
    if same_file "$1" "$2"; then return; fi
    mkdir -p -- "$(dirname -- "$2")"
    cp -- "$1" "$2.new" && mv -f -- "$2.new" "$2"
}

# Compose files, scripts and docs, as the air-gapped side will run them.
copy_platform() { # REPOSITORY BUNDLE COMPOSE_FILE...
    local repository=$1 bundle=$2 file
    shift 2
    (
        cd -- "$repository" || exit
        shopt -s globstar nullglob
        for file in docker-compose*.yml "$@" .env.example *.template models.yaml LICENSE README.md CHANGELOG.md \
            THIRD_PARTY.md scripts/init-env.sh scripts/msp scripts/offline-import.sh scripts/lib/bundle*.sh \
            scripts/lib/before_docker.sh scripts/lib/host_facts.sh \
            docs/**/* monitoring/**/*; do
            if [ -f "$file" ]; then _refresh "$file" "$bundle/$file"; fi
        done
        chmod +x "$bundle"/scripts/*.sh
    )
}

# Settings that the release decides, and those of this site that are no secrets.
write_settings() { # BUNDLE ENV_FILE
    local key value
    {
        echo "# Written by offline-setup.sh. Wins over .env."
        for key in MSP_IMAGE_PREFIX MSP_VERSION MINIO_IMAGE CHATUI_IMAGE CHATUI_CURRENT_IMAGE MONGO_IMAGE \
            OPEN_WEBUI_IMAGE PROMETHEUS_IMAGE GRAFANA_IMAGE; do
            value=$(setting_of "$2" "$key")
            [ -z "$value" ] || printf '%s=%s\n' "$key" "$value"
        done
        printf '%s\n' REGISTRY_MODE=offline AUTO_DOWNLOAD=false MSP_PULL_POLICY=never HF_TOKEN= HTTPS_PROXY= EXTRA_CA_FILE=
    } | put "$1/.setup/bundle.env"
    _refresh "$1/.setup/bundle.env" "$1/bundle.env"
    {
        for key in LLM_MODEL TINYLLAMA_MODEL EMBEDDING_MODEL MULTIMODAL_MODEL TRANSCRIPTION_MODEL COMPOSE_PROFILES; do
            ! has_setting "$2" "$key" || printf '%s=%s\n' "$key" "$(setting_of "$2" "$key")"
        done
    } | put "$1/.setup/site.env"
    _refresh "$1/.setup/site.env" "$1/site.env"
}

# Which Python packages an image of ours holds, and their licence texts. Others have none, and are left out.
list_packages() { # REPOSITORY BUNDLE REF
    local bundle=$2 ref=$3 id name
    name=${ref%:*}
    name=${name//[^A-Za-z0-9._-]/_}
    id=$(image_id "$ref")
    if is_done "packages-$name" "$id"; then return; fi
    rm -f -- "$bundle/bom/$name.packages.json" "$bundle/licences/$name.txt"
    mkdir -p -- "$bundle/bom" "$bundle/licences"
    if ! docker run --rm --pull never --network none --entrypoint sh "$ref" -c 'test -x /opt/msp/bin/python' >/dev/null 2>&1; then
        say "  $ref has no Python packages of ours to list"
        mark_done "packages-$name" "$id"
        return
    fi
    _in_image "$1" "$ref" | put "$bundle/bom/$name.packages.json"
    _in_image "$1" "$ref" texts | put "$bundle/licences/$name.txt"
    mark_done "packages-$name" "$id" "$bundle/bom/$name.packages.json" "$bundle/licences/$name.txt"
}

_in_image() { # REPOSITORY REF [ARGUMENT]
    docker run --rm -i --pull never --network none --entrypoint /opt/msp/bin/python "$2" - "${@:3}" \
        <"$1/scripts/lib/installed_packages.py"
}

# The bills of materials, and the page for people. Only when what they tell of has changed.
write_bom() { # BUNDLE VERSION
    local inputs file
    # No image of a bundle may have a list of packages.
    inputs=$(
        for file in "$1/$LOCK" "$1/$MODELS_LOCK" "$1/bundle.json" "$1"/bom/*.packages.json; do
            if [ -f "$file" ]; then cat -- "$file"; fi
        done | sha256sum
    )
    inputs="$(image_id "$CLI_IMAGE") ${inputs%% *}"
    if is_done bom "$inputs"; then return; fi
    docker run --rm --pull never --network none --user "$(id -u):$(id -g)" -v "$1:/bundle" "$CLI_IMAGE" \
        msp bundle bom /bundle --version "$2" >/dev/null || die "$EXIT_FAILED" "the bills of materials could not be written"
    mark_done bom "$inputs" "$1/MANIFEST.md" "$1"/bom/*.cdx.json
}

# bundle.json: one key on each line, since the importer reads it without a JSON parser.
write_page() { # BUNDLE VERSION BASE PART_SIZE COMPOSE_FILES
    local id
    id=$(cat -- "$1/$LOCK" "$1/$MODELS_LOCK" "$1/$FILES_LOCK" "$1/bundle.env" "$1"/docker-compose*.yml | sha256sum)
    cat >"$1/.setup/bundle.json" <<JSON
{
  "schema": 1,
  "id": "$2-${id:0:12}",
  "version": "$2",
  "base": $([ -z "$3" ] && echo null || echo "\"$3\""),
  "part_size": $([ -z "$4" ] && echo null || echo "\"$4\""),
  "compose_files": "$5",
  "cli_image": "$CLI_IMAGE",
  "images": $(_count_lines "$1/$LOCK"),
  "models": $(_count_lines "$1/$MODELS_LOCK"),
  "image_bytes": $(bytes_of_images "$1"),
  "model_bytes": $(bytes_carried "$1/$FILES_LOCK")
}
JSON
    _refresh "$1/.setup/bundle.json" "$1/bundle.json"
}
