#!/usr/bin/env bash
# NumPy 2.4.6: numpy.full(n, "train", object) makes n texts, one for each place, where "a[:] = 'train'" makes none.
#
# The text that is given becomes an array of NumPy's own fixed-width texts, and each place a new Python object made of it:
# 54 bytes beside the 8 of the place, so that a column of labels of 10 million rows takes 620 MB and not 80. The same
# with numpy.copyto and numpy.full_like; not with a[:] = text, a.fill(text), numpy.repeat of an object array, nor where
# the value is a tuple or another object. Only texts and bytes are copied: numbers are small objects anyway.
#
# Why it matters: that objects are shared is why columns of few texts are cheap as objects; a splitter that began with
# numpy.full took six times the memory that its result needs, and each "is" of two equal labels is false.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check numpy==2.4.6
"$work/environment/bin/python" -I - <<'PYTHON'
import tracemalloc

import numpy as np

n = 100_000
text, number = "held_out of the splits", 1234.5


def assigned():
    out = np.empty(n, object)
    out[:] = text
    return out


def filled():
    out = np.empty(n, object)
    out.fill(text)
    return out


def copied():
    out = np.empty(n, object)
    np.copyto(out, text)
    return out


ways = {
    "full": lambda: np.full(n, text, object),
    "full_like": lambda: np.full_like(np.empty(n, object), text),
    "copyto": copied,
    "a[:] =": assigned,
    "fill": filled,
    "repeat": lambda: np.repeat(np.array([text], object), n),
    "full, bytes": lambda: np.full(n, text.encode(), object),
    "full, float": lambda: np.full(n, number, object),
}
texts = {}
for name, make in ways.items():
    tracemalloc.start()
    found = make()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert found.dtype == object and set(found) in ({text}, {text.encode()}, {number})
    texts[name] = len({id(one) for one in found})
    print(f"{name:12s} {texts[name]:7,} objects, {size / n:5.1f} bytes a place")
assert texts == {name: n if name in ("full", "full_like", "copyto", "full, bytes") else 1 for name in ways}, "mended"
PYTHON
