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

# Now, as Docker writes times: to be compared as text.
docker_time() { TZ=UTC0 printf '%(%Y-%m-%dT%H:%M:%S)T' -1; }

# A worker looks up once, when it starts, what its model's revision means. Those of the given models that started
# before TIME do it again, one after the other, so that a replica goes on serving.
restart_workers() { # TIMEOUT_S TIME [MODEL...]
    local timeout=$1 time=$2 container started service environment model
    local template='{{.State.StartedAt}} {{index .Config.Labels "com.docker.compose.service"}}{{range .Config.Env}} {{.}}{{end}}'
    local -a running
    shift 2
    [ $# -gt 0 ] || return 0
    mapfile -t running < <(compose ps -q)
    for container in "${running[@]}"; do
        read -r started service environment < <(docker inspect --format "$template" "$container")
        [[ $started < $time ]] || continue
        for model in "$@"; do
            [[ " $environment " = *" MODEL_NAME=$model "* ]] || continue
            say "starting $service again, with the new $model"
            compose restart "$service" || die "$EXIT_UNHEALTHY" "$service could not be started again; run this again"
            wait_healthy "$timeout" "$service"
        done
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
