#!/usr/bin/env bash
# Runs a command with what `make images` needs: engine.sh make test-docker
# - a Docker engine: the one that runs, else Debian's own, started for this command and stopped after it;
# - a base image: python:3.11-slim if it can be pulled, else Debian 12 with its Python, made by debootstrap;
# - the wheels, by this machine's pip and its settings, served to the build on the loopback interface: the build itself
#   needs no network, and no image sees these settings.
# Where that can't be had, it says so loudly on standard error and ends with 0: the command has NOT run.
set -uo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
engine='' server=''

clean() {
    [ -n "$server" ] && kill "$server" 2>/dev/null
    if [ -n "$engine" ]; then
        kill "$engine" 2>/dev/null
        wait "$engine" 2>/dev/null
        umount -l $(awk -v w="$work" 'index($2, w) == 1 { print $2 }' /proc/mounts) 2>/dev/null
    fi
    rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

say() { printf 'engine.sh: %s\n' "$*" >&2; }

unavailable() {
    {
        printf '\n%s\n' '########################################################################'
        printf '## THE DOCKER TESTS HAVE NOT RUN: %s\n' "$1"
        [ -n "${2:-}" ] && [ -f "$2" ] && tail -n 15 "$2" | sed 's/^/##   /'
        printf '## Images and `run --runner docker` are UNTESTED here.\n'
        printf '%s\n\n' '########################################################################'
    } >&2
    exit 0
}

on_debian_as_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && grep -qi debian /etc/os-release; }

# A client that builds with BuildKit: one with buildx, or one before 23, which has its own.
builds() {
    "$1" buildx version >/dev/null 2>&1 && return 0
    local major
    major=$("$1" version --format '{{.Client.Version}}' 2>/dev/null | cut -d. -f1)
    [ -n "$major" ] && [ "$major" -lt 23 ]
}

start_engine() {
    local driver network log
    export DOCKER_HOST="unix://$work/docker.sock"
    for driver in overlay2 vfs; do
        for network in '--iptables=true' '--iptables=false --bridge=none'; do
            log="$work/dockerd-$driver.log"
            # shellcheck disable=SC2086 # two options
            nice -n 10 dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" \
                --pidfile "$work/docker.pid" --storage-driver "$driver" $network >"$log" 2>&1 &
            engine=$!
            for _ in $(seq 60); do
                docker info >/dev/null 2>&1 && say "dockerd with $driver, $network" && return 0
                kill -0 "$engine" 2>/dev/null || break
                sleep 0.5
            done
            kill "$engine" 2>/dev/null
            wait "$engine" 2>/dev/null
            engine=''
            say "WARNING: dockerd did not start with $driver, $network: $(tail -n 1 "$log")"
            rm -f "$work/docker.pid"
        done
    done
    unavailable 'dockerd does not start on this machine; its last words:' "$log"
}

install() { apt-get install -y -qq --no-install-recommends "$@" >"$work/apt.log" 2>&1; }

install_all() {
    install "$@" || { apt-get update -qq >"$work/apt.log" 2>&1 && install "$@"; }
}

base_image() {
    BASE_IMAGE=${BASE_IMAGE:-python:3.11-slim}
    export BASE_IMAGE
    docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 && return
    timeout 300 docker pull -q "$BASE_IMAGE" >"$work/pull.log" 2>&1 && return
    say "$BASE_IMAGE can't be pulled ($(tail -n 1 "$work/pull.log")): Debian 12 takes its place, made by debootstrap"
    on_debian_as_root || unavailable "no base image: $BASE_IMAGE can't be pulled" "$work/pull.log"
    command -v debootstrap >/dev/null || install_all debootstrap ||
        unavailable "debootstrap can't be installed" "$work/apt.log"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/root" \
        >"$work/debootstrap.log" 2>&1 || unavailable 'debootstrap failed' "$work/debootstrap.log"
    tar -C "$work/root" --exclude='./dev/*' --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
        --exclude='./var/log/*' --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/locale/*' -c . |
        docker import --change 'CMD ["python3"]' - base-debian:bookworm >/dev/null ||
        unavailable 'docker import failed'
    rm -rf "$work/root"
    BASE_IMAGE=base-debian:bookworm
}

serve_wheels() {
    local tools="$work/tools" port="$work/port"
    mkdir -p "$tools"
    cp setup.cfg requirements.lock docker/install.py "$tools"
    .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
        unavailable 'the wheels for the base image are gathered with Python 3.11, and .venv has another'
    .venv/bin/python "$tools/install.py" gather || exit 1
    TORCH=+cpu .venv/bin/python "$tools/install.py" gather --torch >"$work/pip.log" 2>&1 ||
        unavailable "pip finds no wheel of torch without CUDA" "$work/pip.log"
    python3 - "$tools/wheels" "$port" >"$work/server.log" 2>&1 <<'PYTHON' &
import functools, http.server, pathlib, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    pathlib.Path(sys.argv[2]).write_text(str(server.server_port))
    server.serve_forever()
PYTHON
    server=$!
    for _ in $(seq 50); do [ -s "$port" ] && break; sleep 0.2; done
    printf '[global]\nno-index = true\nfind-links = http://127.0.0.1:%s/\n' "$(cat "$port")" >"$work/pip.conf"
    export PIP_CONF="$work/pip.conf" BUILD_OPTIONS="--network=host --progress=plain ${BUILD_OPTIONS:-}"
}

if ! docker info >/dev/null 2>&1; then
    on_debian_as_root || unavailable 'no Docker engine runs, and only root on Debian can start one here'
    if ! command -v dockerd >/dev/null; then
        say "no Docker engine runs: Debian's is installed"
        install_all docker.io debootstrap || unavailable "Debian's docker.io can't be installed" "$work/apt.log"
    fi
    start_engine
fi
for DOCKER in docker /usr/bin/docker none; do builds "$DOCKER" && break; done
[ "$DOCKER" != none ] || unavailable 'no docker client here builds with BuildKit'
export DOCKER
make .venv/ready || exit 1
base_image
serve_wheels
say "$DOCKER builds on $BASE_IMAGE; $*"
"$@"
