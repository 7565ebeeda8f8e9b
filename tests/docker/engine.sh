#!/usr/bin/env bash
# Runs a command with what `make images` needs: engine.sh make test-docker
# - a Docker engine: the one that runs, else Debian's own, started for this command and stopped after it;
# - a base image: python:3.11-slim if it can be pulled, else Debian 12 with its Python, made by debootstrap;
# - the wheels, by this machine's pip and its settings, served to the build on the loopback interface: the build itself
#   needs no network, and no image sees these settings.
# Where that can't be had, it says so loudly on standard error and ends with 0: the command has NOT run. What it starts
# ends with it, what it writes is below TMPDIR until then, and nothing is waited for without an end.
set -uo pipefail
cd "$(dirname "$0")/../.."
export DEBIAN_FRONTEND=noninteractive
export PATH="$PATH:/usr/sbin:/sbin" # of dockerd and debootstrap

COMMAND_S=${COMMAND_S:-5400} # the command's time limit
NEEDED_GB=16                 # of disk, for an engine of our own and the wheels
work=$(mktemp -d)
engine='' server='' command=''

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

# limited SECONDS COMMAND …
limited() { timeout --kill-after=20 "$@"; }

# ends ID SECONDS: asks a process to end, and makes it
ends() {
    kill "$1" 2>/dev/null
    for _ in $(seq $(($2 * 2))); do kill -0 "$1" 2>/dev/null || return; sleep 0.5; done
    say "process $1 did not end in $2 s and is killed"
    kill -KILL -- "-$1" 2>/dev/null || kill -KILL "$1" 2>/dev/null
}

clean() {
    trap '' INT TERM HUP
    [ -n "$command" ] && ends "$command" 60
    [ -n "$server" ] && ends "$server" 5
    if [ -n "$engine" ]; then
        limited 20 docker ps --quiet | limited 60 xargs --no-run-if-empty docker rm --force >/dev/null
        ends "$engine" 40
    fi
    awk -v w="$work/" 'index($2, w) == 1 { print $2 }' /proc/mounts | tac | xargs --no-run-if-empty umount --lazy
    rm -rf --one-file-system "$work"
}
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

engine_runs() { limited 20 docker info >/dev/null 2>&1; }

on_debian_as_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && grep -qi debian /etc/os-release; }

enough_disk() { [ "$(df --output=avail --block-size=1G "$work" | tail -n 1)" -ge "$NEEDED_GB" ]; }

# A client that builds with BuildKit: one with buildx, or one before 23, which has its own.
builds() {
    limited 20 "$1" buildx version >/dev/null 2>&1 && return 0
    local major
    major=$(limited 20 "$1" version --format '{{.Client.Version}}' 2>/dev/null | cut -d. -f1)
    [ -n "$major" ] && [ "$major" -lt 23 ]
}

# Without a bridge and without rules of a firewall: this machine's network stays as it is, and nothing here needs them.
start_engine() {
    local driver log
    export DOCKER_HOST="unix://$work/docker.sock"
    for driver in overlay2 vfs; do
        log="$work/dockerd-$driver.log"
        dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" \
            --pidfile "$work/docker.pid" --storage-driver "$driver" --bridge=none --iptables=false --ip-forward=false \
            >"$log" 2>&1 &
        engine=$!
        for _ in $(seq 60); do
            engine_runs && say "dockerd with $driver" && return
            kill -0 "$engine" 2>/dev/null || break
            sleep 0.5
        done
        ends "$engine" 40
        engine=''
        say "WARNING: dockerd did not start with $driver: $(tail -n 1 "$log")"
        rm -f "$work/docker.pid"
    done
    unavailable 'dockerd does not start on this machine; its last words:' "$log"
}

install() {
    limited 600 apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=60 "$@" >"$work/apt.log" 2>&1
}

install_all() {
    install "$@" || { limited 300 apt-get update -qq >"$work/apt.log" 2>&1 && install "$@"; }
}

base_image() {
    export BASE_IMAGE=${BASE_IMAGE:-python:3.11-slim}
    limited 20 docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 && return
    limited 300 docker pull -q "$BASE_IMAGE" >"$work/pull.log" 2>&1 && return
    say "$BASE_IMAGE can't be pulled ($(tail -n 1 "$work/pull.log")): Debian 12 takes its place, made by debootstrap"
    on_debian_as_root || unavailable "no base image: $BASE_IMAGE can't be pulled" "$work/pull.log"
    command -v debootstrap >/dev/null || install_all debootstrap ||
        unavailable "debootstrap can't be installed" "$work/apt.log"
    limited 900 debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/root" \
        >"$work/debootstrap.log" 2>&1 || unavailable 'debootstrap failed' "$work/debootstrap.log"
    tar -C "$work/root" --exclude='./dev/*' --exclude='./var/cache/apt/*' --exclude='./var/lib/apt/lists/*' \
        --exclude='./var/log/*' --exclude='./usr/share/doc/*' --exclude='./usr/share/man/*' \
        --exclude='./usr/share/locale/*' -c . |
        limited 300 docker import --change 'CMD ["python3"]' - base-debian:bookworm >/dev/null ||
        unavailable 'docker import failed'
    rm -rf --one-file-system "$work/root"
    BASE_IMAGE=base-debian:bookworm
}

serve_wheels() {
    local tools="$work/tools" port="$work/port"
    mkdir -p "$tools"
    cp setup.cfg requirements.lock docker/install.py docker/more.lock docker/sbom.lock "$tools"
    .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
        unavailable 'the wheels for the base image are gathered with Python 3.11, and .venv has another'
    limited 1200 .venv/bin/python "$tools/install.py" gather || exit 1
    TORCH=+cpu limited 1200 .venv/bin/python "$tools/install.py" gather --torch >"$work/pip.log" 2>&1 ||
        unavailable "pip finds no wheel of torch without CUDA" "$work/pip.log"
    .venv/bin/python - "$tools/wheels" "$port" >"$work/server.log" 2>&1 <<'PYTHON' &
import functools, http.server, pathlib, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
    pathlib.Path(sys.argv[2]).write_text(str(server.server_port))
    server.serve_forever()
PYTHON
    server=$!
    for _ in $(seq 100); do [ -s "$port" ] && break; sleep 0.2; done
    [ -s "$port" ] || unavailable 'the server of the wheels does not start' "$work/server.log"
    printf '[global]\nno-index = true\nfind-links = http://127.0.0.1:%s/\n' "$(cat "$port")" >"$work/pip.conf"
    export PIP_CONF="$work/pip.conf" BUILD_OPTIONS="--network=host --progress=plain ${BUILD_OPTIONS:-}"
}

if ! engine_runs; then
    on_debian_as_root || unavailable 'no Docker engine runs, and only root on Debian can start one here'
    enough_disk || unavailable "an engine of our own needs $NEEDED_GB GB below ${TMPDIR:-/tmp}"
    if ! command -v dockerd >/dev/null; then
        say "no Docker engine runs: Debian's is installed"
        install_all docker.io debootstrap || unavailable "Debian's docker.io can't be installed" "$work/apt.log"
    fi
    engine_runs || start_engine # the package may have started one
fi
for DOCKER in docker /usr/bin/docker none; do builds "$DOCKER" && break; done
[ "$DOCKER" != none ] || unavailable 'no docker client here builds with BuildKit'
export DOCKER
limited 1800 make .venv/ready || exit 1
base_image
serve_wheels
say "$DOCKER builds on $BASE_IMAGE; $*"
set -m # a process group of its own, which an interrupt of this script reaches by `clean`
limited "$COMMAND_S" "$@" &
command=$!
set +m
wait "$command"
status=$?
command=''
[ "$status" != 124 ] || say "the command was stopped after $COMMAND_S s"
exit "$status"
