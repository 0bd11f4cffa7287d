# shellcheck shell=bash
# Sourced. What must be right before anything of ours can run in Docker, in the words of `msp doctor`.

# Says what is wrong and what to do; the names are the headings of docs/TROUBLESHOOTING.md.
told() { # NAME WHAT REMEDY
    printf 'problem  %s: %s\n         → %s\n' "$1" "$2" "$3" >&2
}

# Whether an image can be run here. Tells why not.
before_docker() { # IMAGE
    local image=$1 said
    if ! command -v docker >/dev/null; then
        told docker "Docker is not installed on this host" \
            "install it with the compose plugin; without internet from your distribution's own mirror"
        return 1
    fi
    if ! said=$(docker version --format '{{.Server.Version}}' 2>&1); then
        case $said in
            *"permission denied"*)
                told docker "this account may not use Docker" \
                    "sudo usermod -aG docker \"\$USER\", and log in again; membership is as good as root"
                ;;
            *) told docker "the Docker engine gives no answer: ${said##*$'\n'}" "sudo systemctl start docker" ;;
        esac
        return 1
    fi
    if ! docker image inspect "$image" >/dev/null 2>&1; then
        told docker "the image $image is not here" \
            "docker build --build-arg MEMBER=cli --build-arg PACKAGE=msp_cli -t $image . (an offline bundle brings it)"
        return 1
    fi
}
