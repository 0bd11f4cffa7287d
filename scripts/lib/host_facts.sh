# shellcheck shell=bash
# Sourced, in the repository's root. Runs on the host what `msp doctor` wants to know, and keeps the outputs in a
# folder: the container that reads them needs no socket of Docker, which would be as good as root on the host.
# The commands are those of cli/src/msp_cli/doctor/site.py; a test compares the two.

LOG_LINES=1000

# Keeps output, error output and exit code of a command as NAME.out, NAME.err and NAME.code.
record() { # FOLDER NAME COMMAND...
    local path=$1/$2 code=0
    shift 2
    timeout 60 "$@" >"$path.out" 2>"$path.err" </dev/null || code=$?
    [ "$code" != 124 ] || echo "no answer within 60 s" >>"$path.err"
    echo "$code" >"$path.code"
}

record_host_facts() { # FOLDER
    record "$1" nvidia-smi nvidia-smi --query-gpu=index,uuid,name,memory.total,memory.used --format=csv,noheader,nounits
    record "$1" pci-vendors sh -c 'cat /sys/bus/pci/devices/*/vendor'
    record "$1" docker-info docker info --format '{{json .}}'
    record "$1" compose-version docker compose version --short
    record "$1" compose-config docker compose -f docker-compose.yml config --format json
    record "$1" cluster-config docker compose -f docker-compose.gpu-cluster.yml config --format json
    # shellcheck disable=SC2016
    record "$1" containers sh -c \
        'ids=$(docker ps -aq --filter label=com.docker.compose.project) || exit; [ -z "$ids" ] || docker inspect $ids'
    record "$1" listening ss -ltnpH
    record "$1" disks df -Pk
    record "$1" clock timedatectl show --property=NTPSynchronized --value
}

# Names of this installation's containers: those of its project. Their folder is no sign, since an upgrade across the
# air gap leaves containers alone that it does not change.
our_containers() { # FOLDER DOCKER-PS-OPTION...
    local project
    project=$(sed -n 's/^  "name": "\(.*\)",$/\1/p' "$1/compose-config.out")
    docker ps "${@:2}" --filter "label=com.docker.compose.project=${project:-model-service-platform}" --format '{{.Names}}'
}

record_logs() { # FOLDER
    local name
    mkdir "$1/logs"
    our_containers "$1" -a | while read -r name; do
        record "$1/logs" "$name" docker logs --timestamps --tail "$LOG_LINES" "$name"
    done
}

# Tries to get out: from the host, and within the network of every running container, with nothing else of it.
record_airgap() { # FOLDER IMAGE
    local place
    local probe=(docker run --rm --pull never --cap-drop ALL --security-opt no-new-privileges --read-only)
    mkdir "$1/airgap"
    # Side by side: an attempt that nobody answers takes seconds.
    our_containers "$1" | {
        record "$1/airgap" host "${probe[@]}" --network host "$2" python3 -m msp_cli.doctor.airgap_probe &
        while read -r place; do
            record "$1/airgap" "$place" "${probe[@]}" --network "container:$place" "$2" \
                python3 -m msp_cli.doctor.airgap_probe &
        done
        wait
    }
}
