# shellcheck shell=bash
# Sourced from the repository's root. Makes .venv: the locked packages, and our own members editable.

PYTHON_VERSIONS="3.11, 3.12 or 3.13"
MEMBERS=(common gateway registry service-registry model-service cli)
STAMP=.venv/.environment-stamp

fail() {
    echo "${0##*/}: $*" >&2
    exit 2
}

# The interpreter to build on: $PYTHON if set, else the first that fits.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python $PYTHON_VERSIONS is needed and was not found${PYTHON:+ as PYTHON=$PYTHON};" \
        "install one (Debian: apt-get install python3 python3-venv), or set PYTHON to its path"
}

# What the environment is made of: when this changes it is brought up to date.
environment_fingerprint() {
    cat requirements/dev.txt requirements/build.txt scripts/lib/environment.sh "${MEMBERS[@]/%//pyproject.toml}" |
        sha256sum
}

# The uv to use: the machine's own, else one installed into the environment.
find_uv() {
    if uv --version >/dev/null 2>&1; then
        echo uv
        return
    fi
    if ! .venv/bin/uv --version >/dev/null 2>&1; then
        echo "installing uv" >&2
        .venv/bin/python -m pip --version >/dev/null 2>&1 || .venv/bin/python -m ensurepip >&2 ||
            fail "there is neither uv nor pip; install one of them (Debian: apt-get install python3-venv)"
        .venv/bin/python -m pip install --quiet --require-hashes -r requirements/build.txt >&2 ||
            fail "uv could not be installed; is a package index reachable (PIP_INDEX_URL, HTTPS_PROXY)?"
    fi
    echo .venv/bin/uv
}

# What sites set for pip holds for uv too: the index, and certificates of their own.
uv_as_pip_would() {
    local index=${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-${PIP_INDEX_URL:-}}} certificates=${SSL_CERT_FILE:-${PIP_CERT:-}}
    [ -z "$index" ] || export UV_DEFAULT_INDEX=$index
    [ -z "$certificates" ] || export SSL_CERT_FILE=$certificates
    # uv brings certificates; the machine's are those that know a proxy which looks into TLS.
    if [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ]; then
        export UV_SYSTEM_CERTS=${UV_SYSTEM_CERTS:-true}
    fi
}

make_venv() {
    local python=$1
    echo "making .venv with $("$python" --version)" >&2
    rm -rf .venv
    if uv --version >/dev/null 2>&1; then
        uv venv --quiet --seed --python "$python" .venv || fail "uv could not make an environment with $python"
    else
        "$python" -m venv .venv ||
            fail "$python cannot make environments; install its venv package (Debian: apt-get install python3-venv)"
    fi
}

# Makes .venv, or brings it up to date. Does nothing when nothing changed.
ensure_environment() {
    local python uv fingerprint
    [ "$(uname -sm)" = "Linux x86_64" ] || fail "only Linux on x86-64 is supported, this is $(uname -sm)"
    command -v sha256sum >/dev/null || fail "sha256sum is needed and was not found (Debian: apt-get install coreutils)"
    fingerprint=$(environment_fingerprint)
    if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$fingerprint" ] && .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    if ! .venv/bin/python -c '' 2>/dev/null; then
        python=$(find_python) || exit
        make_venv "$python"
    fi
    uv=$(find_uv) || exit
    uv_as_pip_would
    echo "installing packages into .venv (about 6 GB on the first run)" >&2
    # Compiled once here, and not by five workers at the same time when they first start.
    "$uv" pip install --quiet --python .venv/bin/python --compile-bytecode --require-hashes \
        -r requirements/dev.txt ||
        fail "packages could not be installed; is a package index reachable (UV_DEFAULT_INDEX, HTTPS_PROXY)?"
    "$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation "${MEMBERS[@]/#/--editable=./}" ||
        fail "our own packages could not be installed into .venv"
    echo "$fingerprint" >"$STAMP"
}
