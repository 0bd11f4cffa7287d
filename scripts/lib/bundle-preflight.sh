# shellcheck shell=bash
# What must be true before the online side fetches anything, and what it will cost.

# Build inputs, so that a second run builds nothing.
sources_digest() { # REPOSITORY
    local digest
    digest=$(
        cd -- "$1" || exit
        for folder in Dockerfile requirements common gateway registry service-registry model-service cli; do
            [ ! -e "$folder" ] || find "$folder" -type f -not -path '*/__pycache__/*' -not -name '*.pyc' -print0
        done | sort -z | xargs -0 -r sha256sum | sha256sum
    ) || return
    printf '%s' "${digest%% *}"
}

# Tab-separated lines "id revision commit bytes" of what the hub would send; fails where it would not.
plan_models() { # MODELS_FILE ENV_FILE
    local key value
    local -a settings=()
    for key in HF_ENDPOINT HF_TOKEN HTTPS_PROXY EXTRA_CA_FILE; do
        value=${!key:-$(setting_of "$2" "$key")}
        [ -z "$value" ] || settings+=("$key=$value")
    done
    if image_id "$CLI_IMAGE" >/dev/null; then
        local -a options=(--rm --pull never --network host -v "$1:/models.yaml:ro")
        for value in "${settings[@]}"; do
            case $value in
                EXTRA_CA_FILE=*) options+=(-v "${value#*=}:/extra-ca.pem:ro" -e EXTRA_CA_FILE=/extra-ca.pem) ;;
                *) options+=(-e "$value") ;;
            esac
        done
        docker run "${options[@]}" "$CLI_IMAGE" msp bundle plan --file /models.yaml
    elif [ -x "$REPOSITORY/.venv/bin/msp" ]; then
        env "${settings[@]}" "$REPOSITORY/.venv/bin/msp" bundle plan --file "$1"
    else
        return 77
    fi
}

# Declares the models that the settings name, for a site without a models.yaml.
models_of_settings() { # ENV_FILE COMPOSE_FILES
    local key value seen=" " profiles
    local -a keys=(LLM_MODEL EMBEDDING_MODEL)
    profiles=",$(setting_of "$1" COMPOSE_PROFILES),"
    [[ $2 != *gpu-cluster* ]] || profiles+="tinyllama,multimodal,"
    [[ $profiles != *,tinyllama,* && $profiles != *,all,* ]] || keys+=(TINYLLAMA_MODEL)
    [[ $profiles != *,multimodal,* && $profiles != *,all,* ]] || keys+=(MULTIMODAL_MODEL)
    [[ $profiles != *,transcription,* && $profiles != *,all,* ]] || keys+=(TRANSCRIPTION_MODEL)
    echo "models:"
    for key in "${keys[@]}"; do
        value=$(setting_of "$1" "$key")
        if [ -z "$value" ] || [[ $seen = *" $value "* ]]; then continue; fi
        seen+="$value "
        echo "  - id: $value"
    done
}

# What the images of a list take, as far as they are here; others are counted.
plan_images() { # REF...
    local ref bytes sum=0 unknown=0
    for ref in "$@"; do
        if bytes=$(docker image inspect --format '{{.Size}}' "$ref" 2>/dev/null); then
            printf '%s\timage, here\t%s\n' "$ref" "$(human "$bytes")"
            sum=$((sum + bytes))
        else
            printf '%s\timage, to be built or pulled\tsize not known yet\n' "$ref"
            unknown=$((unknown + 1))
        fi
    done
    printf 'images\t\t%s%s\n' "$(human "$sum")" "$([ "$unknown" = 0 ] || echo " and $unknown not here yet")"
}

# Seconds as people say them.
duration() { # SECONDS
    if [ "$1" -lt 120 ]; then
        echo "$1 s"
    elif [ "$1" -lt 7200 ]; then
        echo "$(($1 / 60)) min"
    else
        echo "$(($1 / 3600)) h"
    fi
}
