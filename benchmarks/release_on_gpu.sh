#!/bin/sh
# Trains a network of the release model on a machine with a GPU and many cores, without a network:
#
#   OUT=folder sh benchmarks/release_on_gpu.sh bank.npz [--seconds 570] [--samples 20000000] [--number 1]
#
# bank.npz is what `imitation-refinement release` makes first. Given again, the same command goes on from its checkpoint;
# on another machine, put $OUT/network-1.safetensors.checkpoint of the last call into the folder of --state first.
# PYTHON: a Python from 3.11 on with torch, numba, pyarrow, pandas, scipy, matplotlib, safetensors and tqdm.
# WHEELS: a folder of wheels for what is missing (pydantic, pydantic_core, annotated_types, typing_inspection).
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
export PYTHONPATH="$PWD/shared:$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
export NUMBA_CACHE_DIR="${NUMBA_CACHE_DIR:-$PWD/build/numba}"
if [ -n "${WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --upgrade --target build/site "$WHEELS"/*.whl
    export PYTHONPATH="$PYTHONPATH:$PWD/build/site"
fi
exec "$python" benchmarks/release_on_gpu.py "$@"
