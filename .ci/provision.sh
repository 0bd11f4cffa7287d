#!/usr/bin/env bash
# Brings the real parts that the tests need onto a bare Debian machine: a Docker engine with compose v2, the
# base image of our Dockerfiles, a MinIO server (as a program and as an image), a versitygw, a Prometheus,
# espeak-ng and the shell linter. What is there already is reused. Source it: it exports DOCKER_HOST,
# DOCKER_CONFIG, MSP_MINIO_BINARY, MSP_VERSITYGW_BINARY, MSP_PROMETHEUS_BINARY and MSP_PROMTOOL_BINARY.
# No container registry is needed: images that would be pulled are built from Debian and Go packages.

provision_dir=${MSP_PROVISION_DIR:-$HOME/.cache/msp-provision}
compose_version=v2.40.3
base_image=python:3.13-slim-trixie
# Must equal the default of MINIO_IMAGE in docker-compose.yml; a test compares them.
minio_image=pgsty/silo:RELEASE.2026-09-16T00-00-00Z
# Must equal the default of PROMETHEUS_IMAGE in docker-compose.monitoring.yml; a test compares them.
prometheus_image=prom/prometheus:v3.13.2

fail() {
    echo "provision: $*" >&2
    exit 1
}

step() { # NAME COMMAND...: run it, and say how long it took
    local name=$1 started=$SECONDS
    shift
    echo "==> $name"
    "$@" || fail "$name failed"
    echo "    $name: $((SECONDS - started)) s"
}

packages() {
    local missing=() package
    for package in bats busybox-static ca-certificates curl debootstrap docker.io espeak-ng gcc git iproute2 iptables \
        jq postgresql procps python3-venv shellcheck xz-utils; do
        dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

go_compiler() {
    command -v go >/dev/null || fail "Go is needed to build compose, MinIO and versitygw; install Go 1.25 or newer"
}

node_runtime() {
    if ! command -v npm >/dev/null || ! node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
        fail "Node 20 or newer with npm is needed to run OpenAI's JavaScript client; Debian 12 brings 18"
    fi
}

docker_engine() {
    export DOCKER_CONFIG=$provision_dir/docker
    mkdir -p "$DOCKER_CONFIG/cli-plugins"
    if [ -z "${DOCKER_HOST:-}" ] && docker info >/dev/null 2>&1; then
        return
    fi
    export DOCKER_HOST=unix://$provision_dir/docker.sock
    docker info >/dev/null 2>&1 && return
    rm -f "$provision_dir/docker.pid"
    setsid dockerd --data-root "$provision_dir/docker-data" --exec-root "$provision_dir/docker-exec" \
        --pidfile "$provision_dir/docker.pid" -H "$DOCKER_HOST" \
        >"$provision_dir/dockerd.log" 2>&1 </dev/null &
    local tries
    for tries in $(seq 60); do
        docker info >/dev/null 2>&1 && return
        sleep 0.5
    done
    tail -n 20 "$provision_dir/dockerd.log" >&2
    fail "the Docker engine did not answer after $tries tries"
}

compose_plugin() {
    local plugin=$DOCKER_CONFIG/cli-plugins/docker-compose
    if [ ! -x "$plugin" ]; then
        local module=$provision_dir/compose-build
        mkdir -p "$module"
        (
            # Not by `go install`: its go.mod has exclude directives.
            cd "$module"
            printf 'module local/compose\n\ngo 1.24\n' >go.mod
            go get "github.com/docker/compose/v2/cmd@$compose_version" 2>/dev/null
            go build -o "$plugin" github.com/docker/compose/v2/cmd
        ) || return 1
        rm -rf "$module"
    fi
    docker compose version
}

base_image_from_debian() {
    docker image inspect "$base_image" >/dev/null 2>&1 && return
    local root=$provision_dir/base-root
    rm -rf "$root"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates trixie "$root" \
        >"$provision_dir/debootstrap.log" 2>&1 || return 1
    # Certificates that this machine trusts, so that package indexes can be reached from builds.
    cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
    rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/*
    tar -C "$root" -c . | docker import \
        -c 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
        -c 'ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt' - "$base_image" >/dev/null
    rm -rf "$root"
}

minio_program() {
    export MSP_MINIO_BINARY=$provision_dir/bin/minio
    [ -x "$MSP_MINIO_BINARY" ] && return
    # The archived upstream, with open CVEs: good enough for tests, never shipped.
    GOBIN=$provision_dir/bin go install github.com/minio/minio@latest
}

versitygw_program() {
    export MSP_VERSITYGW_BINARY=$provision_dir/bin/versitygw
    [ -x "$MSP_VERSITYGW_BINARY" ] && return
    GOBIN=$provision_dir/bin go install github.com/versity/versitygw/cmd/versitygw@latest
}

prometheus_program() {
    export MSP_PROMETHEUS_BINARY=$provision_dir/prometheus/usr/bin/prometheus
    export MSP_PROMTOOL_BINARY=$provision_dir/prometheus/usr/bin/promtool
    [ -x "$MSP_PROMTOOL_BINARY" ] && return
    # Unpacked, not installed: where nothing forbids it, Debian's package starts one on port 9090 for good.
    local download=$provision_dir/prometheus-package
    mkdir -p "$download"
    (
        cd "$download" || exit 1
        rm -f prometheus_*.deb
        apt-get update -qq
        # Root's downloads would otherwise be tried as an account that may not write here, with a warning.
        apt-get download -qq -o APT::Sandbox::User=root prometheus
        dpkg-deb -x prometheus_*.deb "$provision_dir/prometheus"
    ) || return 1
    rm -rf "$download"
}

minio_stand_in_image() {
    docker image inspect "$minio_image" >/dev/null 2>&1 && return
    local context=$provision_dir/minio-image
    mkdir -p "$context"
    cp "$MSP_MINIO_BINARY" "$context/minio"
    # Like the image that it stands for: the server is the entry point, and curl is inside.
    cat >"$context/Dockerfile" <<DOCKERFILE
FROM $base_image
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends curl >/dev/null
COPY minio /usr/bin/minio
ENTRYPOINT ["/usr/bin/minio"]
DOCKERFILE
    DOCKER_BUILDKIT=0 docker build -q -t "$minio_image" "$context" >/dev/null
}

prometheus_stand_in_image() {
    docker image inspect "$prometheus_image" >/dev/null 2>&1 && return
    local context=$provision_dir/prometheus-image
    mkdir -p "$context"
    cp "$MSP_PROMETHEUS_BINARY" "$MSP_PROMTOOL_BINARY" "$context/"
    # Like the image that it stands for: the server is the entry point, and nobody owns the data folder.
    cat >"$context/Dockerfile" <<DOCKERFILE
FROM $base_image
COPY prometheus promtool /bin/
RUN mkdir /prometheus && chown 65534:65534 /prometheus
WORKDIR /prometheus
USER 65534
ENTRYPOINT ["/bin/prometheus"]
DOCKERFILE
    DOCKER_BUILDKIT=0 docker build -q -t "$prometheus_image" "$context" >/dev/null
    rm -rf "$context"
}

provision() {
    mkdir -p "$provision_dir/bin"
    step "Debian packages" packages
    step "Go compiler" go_compiler
    step "Node" node_runtime
    step "Docker engine" docker_engine
    step "compose plugin" compose_plugin
    step "base image" base_image_from_debian
    step "MinIO program" minio_program
    step "versitygw program" versitygw_program
    step "Prometheus" prometheus_program
    step "MinIO image" minio_stand_in_image
    step "Prometheus image" prometheus_stand_in_image
}
