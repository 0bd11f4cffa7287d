# shellcheck shell=bash
# The stack that a bundle brings: its compose files, its health, a first request.

# Set by the program: the folder of the compose files, their names, and the files of settings, later ones first.
PLATFORM=
COMPOSE_FILES=()
ENV_FILES=()

compose() {
    local file
    local -a options=(--project-directory "$PLATFORM")
    for file in "${ENV_FILES[@]}"; do options+=(--env-file "$file"); done
    for file in "${COMPOSE_FILES[@]}"; do options+=(-f "$PLATFORM/$file"); done
    docker compose "${options[@]}" "$@"
}

check_docker() {
    need docker
    docker info --format '{{.ServerVersion}}' >/dev/null 2>&1 ||
        die "$EXIT_FAILED" "the Docker engine does not answer; is it started, and may this user ask it (group docker)?"
    docker compose version >/dev/null 2>&1 ||
        die "$EXIT_FAILED" "docker compose is missing; install the compose plugin (2.24 or newer)"
}

# Room for images and for the store's volumes, where Docker keeps its data on this machine.
docker_folder() {
    local folder
    folder=$(docker info --format '{{.DockerRootDir}}')
    [ ! -d "$folder" ] || printf '%s' "$folder"
}

# Starts services without building or pulling anything.
start_services() { # [SERVICE...]
    compose up -d --no-build --pull never "$@" && return
    compose logs --tail 15 >&2 || true
    die "$EXIT_UNHEALTHY" "the services could not be started; the lines above say why. Run this again"
}

# Waits until every container is healthy, or has ended well where that is its way. Tells what it waits for.
wait_healthy() { # TIMEOUT_S [SERVICE...]
    local deadline=$((SECONDS + $1)) listing waiting shown=
    shift
    while :; do
        # Not one line: `restart` brings a failed service back, which is seen as another state.
        listing=$(compose ps -a --format '{{.Service}} {{.State}} {{.Health}} {{.ExitCode}}' "$@") ||
            die "$EXIT_FAILED" "docker compose ps failed; run this again"
        waiting=$(_not_healthy "$listing")
        [ -n "$waiting" ] || break
        if [ "$waiting" != "$shown" ]; then say "  waiting for ${waiting//$'\n'/, }"; fi
        shown=$waiting
        if [[ $waiting = *failed* ]] || [ "$SECONDS" -ge "$deadline" ]; then
            compose logs --tail 15 "$@" >&2 || true
            die "$EXIT_UNHEALTHY" "not healthy: ${waiting//$'\n'/, }. The last lines of the logs are above"
        fi
        sleep 1
    done
}

_not_healthy() { # LISTING
    local service state third fourth
    while IFS=' ' read -r service state third fourth; do
        # Without a healthcheck the third field is the exit code.
        [ -n "$fourth" ] || { fourth=$third third=; }
        case "$state:$third" in
            running:healthy | running:) ;;
            exited:*) [ "$fourth" = 0 ] || printf '%s (failed with %s)\n' "$service" "$fourth" ;;
            *) printf '%s (%s)\n' "$service" "${third:-$state}" ;;
        esac
    done <<<"$1"
}

smoke_test() {
    msp_beside gateway -e MSP_API_KEY -- bundle smoke ||
        die "$EXIT_UNHEALTHY" "the stack is up, and did not answer as it should; the lines above say what"
}
