#!/usr/bin/env bash
# numba 0.68.1 (llvmlite 0.50.0): a function from the cache gives other last bits than the same one just compiled.
#
# `many` calls `fill`, which sums structure factors with fastmath={"contract", "reassoc", "nsz", "arcp"}; both are
# compiled with cache=True for the processor "generic". The process that compiles them and the next one, which loads
# them from the cache, get the same arguments on the same processor and differ in the last bits of 1,358 and 946 of
# 13,077 numbers; all later ones agree with the second. With `fill` as inline="always", and the flags on `many`, they
# agree: numba keeps a copy of a called function in its caller's library, which is optimised once more; a process that
# compiles runs the first, one that loads has the copy alone, and reassociation may come out another.
#
# Guessed before the run: the cache holds what was compiled, so all processes give the same bits.
#
# Why it matters: a data set that is simulated in several processes, one of which was the first, is not reproducible to
# the bit on one machine, and a test that compares two such runs fails only where the cache was empty.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    numba==0.68.1 \
    llvmlite==0.50.0 \
    numpy==2.4.6
cat >"$work/sums.py" <<'PYTHON'
import math
import os
import sys

import numba
import numpy as np

FAST = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}}
INLINED = os.environ["INLINED"] == "1"


@numba.njit(cache=True)
def range_of_l(h, k, metric, top):
    linear = h * metric[0, 2] + k * metric[1, 2]
    rest = h * h * metric[0, 0] + 2 * h * k * metric[0, 1] + k * k * metric[1, 1] - top
    root = linear * linear - metric[2, 2] * rest
    if root < 0:
        return 0, -1
    width = math.sqrt(root)
    return math.ceil((-linear - width) / metric[2, 2] - 1e-9), math.floor((-linear + width) / metric[2, 2] + 1e-9)


@numba.njit(cache=True, **({"inline": "always"} if INLINED else FAST))
def fill(metric, x, b, kinds, n, top, real, g2, f2):
    total = 0
    cosine, sine = np.empty((n + 1, len(x))), np.empty((n + 1, len(x)))
    for i in range(len(x)):
        for j in range(n + 1):
            cosine[j, i], sine[j, i] = math.cos(2 * math.pi * j * x[i]), math.sin(2 * math.pi * j * x[i])
    re, im = np.empty(len(x)), np.empty(len(x))
    for h in range(n + 1):
        for k in range(0 if h == 0 else -n, n + 1):
            first, last = range_of_l(h, k, metric, top)
            if last < first:
                continue
            sign = 1.0 if k >= 0 else -1.0
            for j in range(len(x)):
                re[j] = cosine[h, j] * cosine[abs(k), j] - sign * sine[h, j] * sine[abs(k), j]
                im[j] = sign * cosine[h, j] * sine[abs(k), j] + sine[h, j] * cosine[abs(k), j]
            constant = h * h * metric[0, 0] + 2 * h * k * metric[0, 1] + k * k * metric[1, 1]
            linear = 2 * (h * metric[0, 2] + k * metric[1, 2])
            for l in range(max(0, first, -last), min(n, max(last, -first)) + 1):
                square = constant + l * l * metric[2, 2]
                up, down = square + l * linear, square - l * linear
                a_re = a_im = c_re = c_im = 0.0
                for kind in range(len(kinds) - 1):
                    rc = rs = ic = js = 0.0
                    if real:
                        for j in range(kinds[kind], kinds[kind + 1]):
                            rc += re[j] * cosine[l, j]
                            js += im[j] * sine[l, j]
                    else:
                        for j in range(kinds[kind], kinds[kind + 1]):
                            rc += re[j] * cosine[l, j]
                            rs += re[j] * sine[l, j]
                            ic += im[j] * cosine[l, j]
                            js += im[j] * sine[l, j]
                    fu, fd = math.exp(-b[kind] * up), math.exp(-b[kind] * down)
                    a_re += fu * (rc - js)
                    c_re += fd * (rc + js)
                    if not real:
                        a_im += fu * (ic + rs)
                        c_im += fd * (ic - rs)
                if first <= l <= last:
                    g2[total], f2[total] = up, a_re * a_re + a_im * a_im
                    total += 1
                if l > 0 and first <= -l <= last:
                    g2[total], f2[total] = down, c_re * c_re + c_im * c_im
                    total += 1
    return total


@numba.njit(cache=True, **(FAST if INLINED else {}))
def many(metrics, xs, b, kinds, g2, f2):
    at = 0
    for i in range(len(metrics)):
        at += fill(metrics[i], xs[i], b, kinds, 6, 1.0 + 0.1 * i, i % 2 == 0, g2[at:], f2[at:])
    return at


rng = np.random.default_rng(0)
metrics = np.eye(3) * rng.uniform(0.02, 0.2, (40, 1, 3)) + 0.001 * rng.random((40, 3, 3))
g2, f2 = np.zeros(200_000), np.zeros(200_000)
n = many(metrics, rng.random((40, 23)), np.array([0.3, 0.6, 0.9]), np.array([0, 7, 12, 23]), g2, f2)
np.savez(sys.argv[1], g2=g2[:n], f2=f2[:n])
PYTHON
for inlined in 0 1; do
    for process in 1 2 3; do
        INLINED=$inlined NUMBA_CPU_NAME=generic NUMBA_CACHE_DIR="$work/cache$inlined" \
            "$work/environment/bin/python" "$work/sums.py" "$work/$inlined$process.npz"
    done
done
"$work/environment/bin/python" - "$work" <<'PYTHON'
import sys

import numpy as np

for inlined, what in enumerate(("called", "inlined")):
    first, second, third = (np.load(f"{sys.argv[1]}/{inlined}{process}.npz") for process in (1, 2, 3))
    for name in ("g2", "f2"):
        x, y, z = first[name], second[name], third[name]
        print(f"{what}: {(x != y).sum()} of {len(x)} numbers {name} differ between the first two processes, "
              f"{(y != z).sum()} between the next two; by {np.abs(x - y).max() / np.abs(y).max():.0e} of the largest at most")
        assert np.array_equal(y, z) and np.allclose(x, y, rtol=1e-9, atol=1e-9), "it has changed"
    same = all(np.array_equal(first[name], second[name]) for name in ("g2", "f2"))
    assert same == (what == "inlined"), "it has changed"
PYTHON
