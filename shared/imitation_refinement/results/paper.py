"""The paper's numbers, to stand beside ours.

J. Bai, Z. Lai, R. Yang, Y. Xue, J. Gregoire, C. Gomes, "Imitation Refinement for X-ray Diffraction Signal Processing",
ICASSP 2019, pp. 3337–3341, Tables 1 to 3: means of five runs; no spread is given.

Keys are the names of result rows, as ``densenet-targeted``. The paper gives one number each for DWT, ADDA and GTA and
does not say with which classifier: it stands under both. The prototypical classifier on raw patterns is ``raw``.
"""

from __future__ import annotations

from collections.abc import Mapping

CITATION = (
    "J. Bai, Z. Lai, R. Yang, Y. Xue, J. Gregoire, C. Gomes, “Imitation Refinement for X-ray Diffraction Signal "
    "Processing”, ICASSP 2019, pp. 3337–3341"
)

# Accuracy on the imperfect test part, 0 to 1.
PAPER_TABLE_1: Mapping[str, float] = {
    "vgg-standard": 0.6854,
    "vgg-raw": 0.6901,
    "vgg-dwt": 0.7128,
    "vgg-adda": 0.7378,
    "vgg-gta": 0.7318,
    "vgg-non_targeted": 0.7163,
    "vgg-targeted": 0.7398,
    "densenet-standard": 0.6774,
    "densenet-raw": 0.7082,
    "densenet-dwt": 0.7128,
    "densenet-adda": 0.7378,
    "densenet-gta": 0.7318,
    "densenet-non_targeted": 0.7474,
    "densenet-targeted": 0.8005,
}

# Accuracy of DenseNet, targeted, without parts of its loss, 0 to 1.
PAPER_TABLE_2: Mapping[str, float] = {
    "densenet-targeted-without_prediction": 0.7933,
    "densenet-targeted-without_prototype": 0.7576,
    "densenet-targeted": 0.8005,
}

_RAW = {"l1": 26.749, "l2": 1.718, "kl": 12.195, "ncc": 20.870}
_DWT = {"l1": 25.642, "l2": 1.706, "kl": 11.972, "ncc": 20.884}
_GTA = {"l1": 90.914, "l2": 6.861, "kl": 23.306, "ncc": 20.618}

# Median distance to theory. The grid is not ours and NCC's scale is not told: compare changes against raw, not values.
PAPER_TABLE_3: Mapping[str, Mapping[str, float]] = {
    "vgg-raw": _RAW,
    "vgg-dwt": _DWT,
    "vgg-gta": _GTA,
    "vgg-non_targeted": {"l1": 26.034, "l2": 1.630, "kl": 12.545, "ncc": 21.232},
    "vgg-targeted": {"l1": 26.200, "l2": 1.603, "kl": 11.686, "ncc": 20.956},
    "densenet-raw": _RAW,
    "densenet-dwt": _DWT,
    "densenet-gta": _GTA,
    "densenet-non_targeted": {"l1": 27.235, "l2": 1.754, "kl": 11.834, "ncc": 21.079},
    "densenet-targeted": {"l1": 25.101, "l2": 1.671, "kl": 11.945, "ncc": 22.481},
}


def paper_accuracy(name: str) -> float | None:
    """The accuracy that the paper's Table 1 gives a result row, or else its Table 2, 0 to 1; None where neither does.

    Args:
        name: the row's name, as ``densenet-targeted``.
    """
    return PAPER_TABLE_1.get(name, PAPER_TABLE_2.get(name))


def paper_ablation(name: str) -> float | None:
    """The accuracy that the paper's Table 2 gives a result row, 0 to 1; None where it has none.

    Args:
        name: the row's name.
    """
    return PAPER_TABLE_2.get(name)


def paper_distance(name: str, distance: str) -> float | None:
    """The median distance to theory that the paper's Table 3 gives a result row; None where it has none.

    Args:
        name: the row's name.
        distance: ``l1``, …, a :class:`~imitation_refinement.vocabulary.Distance`.
    """
    return PAPER_TABLE_3.get(name, {}).get(distance)


def paper_change(name: str, distance: str) -> float | None:
    """What the paper's Table 3 says that a method did to a distance, relative to raw: −0.06 is 6 % less.

    Args:
        name: the row's name.
        distance: as of :func:`paper_distance`.

    Returns:
        (method − raw) / raw, or None where the paper has no such number or the row is raw itself.
    """
    value = paper_distance(name, distance)
    return None if value is None or PAPER_TABLE_3[name] is _RAW else value / _RAW[distance] - 1
