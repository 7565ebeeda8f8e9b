#!/bin/sh
# The tests on a machine that lacks what others have, all of it at once:
#
#   sh benchmarks/any_machine.sh [PYTEST OPTIONS]
#
# a clone whose path has spaces and letters beyond ASCII, one core, a processor without AVX-512, 1 MiB of /dev/shm, a home
# that is not there, LANG=C, no Docker. Needs Linux's unshare and taskset, and the right to mount (root, or user
# namespaces). PYTHON: of an environment with the package's requirements; .venv/bin/python by default. What is not
# committed is left out.
set -eu
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
trap 'exit 143' INT TERM
git clone --quiet . "$place/a clöne of it"
cd "$place/a clöne of it"
user=$([ "$(id -u)" = 0 ] || echo --map-root-user)
unshare --mount $user taskset --cpu-list 0 sh -c '
    mount -t tmpfs -o size=1m none /dev/shm
    docker=$(command -v docker) && mount --bind /dev/null "$docker"
    exec "$@"' sh \
    env -i PATH="$PATH" HOME=/nonexistent LANG=C PYTHONPATH="$PWD/shared:$PWD" \
    NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES=+avx2,+fma,+bmi,+bmi2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 \
    OPENBLAS_CORETYPE=Haswell NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR" \
    "$python" -m pytest -p no:cacheprovider "$@"
