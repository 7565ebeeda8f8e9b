#!/usr/bin/env bash
# PyWavelets 1.9.0: soft thresholding with threshold 0 turns coefficients that are 0 into NaN.
#
# threshold(data, 0) should change nothing: no coefficient is below it. Mode hard does so. Modes soft and garrote, and
# threshold_firm, give NaN for 0; numpy's RuntimeWarning is the only sign. In the usual denoising (noise from the median
# of the finest details, universal threshold) a pattern without noise has noise 0, so threshold 0: one line in a pattern
# of 512 points, sym8 to level 4, gives 510 NaN of 512.
#
# Why it matters: calculated patterns, and measured ones with most points at zero counts, have just that.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/environment"
"$work/environment/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check \
    PyWavelets==1.9.0 \
    numpy==2.4.6
"$work/environment/bin/python" -I - <<'PYTHON'
import warnings

import numpy as np
import pywt

warnings.simplefilter("ignore", RuntimeWarning)
data = np.array([0.0, 1.0, -2.0])
for mode in ("soft", "garrote"):
    print(mode, pywt.threshold(data, 0, mode))
    assert np.array_equal(pywt.threshold(data, 0, mode), [np.nan, 1, -2], equal_nan=True), f"{mode} has changed"
assert np.isnan(pywt.threshold_firm(data, 0, 2)[0]), "threshold_firm has changed"
assert np.array_equal(pywt.threshold(data, 0, "hard"), data)

pattern = np.zeros(512)
pattern[100] = 100.0
approximation, *details = pywt.wavedec(pattern, "sym8", level=4)
noise = np.median(np.abs(details[-1])) / 0.6745
limit = noise * np.sqrt(2 * np.log(pattern.size))
denoised = pywt.waverec([approximation, *(pywt.threshold(detail, limit, "soft") for detail in details)], "sym8")
print(f"noise {noise}, {np.isnan(denoised).sum()} of {denoised.size} points are NaN")
assert noise == 0 and np.isnan(denoised).sum() > 400
PYTHON
