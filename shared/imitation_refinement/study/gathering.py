"""Finished runs of one experiment, a seed each, gathered: means, spread, pooled tests. What they say is in `tables`."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon

from imitation_refinement.errors import InputError
from imitation_refinement.results.metrics import mcnemar
from imitation_refinement.results.paper import paper_accuracy, paper_change, paper_distance
from imitation_refinement.results.wording import CLOSER, FARTHER, NOISE, SIGNIFICANT, in_words
from imitation_refinement.study.runs import AGAIN, Row, Run
from imitation_refinement.vocabulary import Distance, Method, Supervision
from imitation_refinement.xrd.crystal import CRYSTAL_SYSTEMS

LEVEL, RESAMPLES = 0.95, 10_000

Json = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """Runs of one experiment, gathered.

    Attributes:
        content: what :func:`gather` gives.
    """

    content: Json

    @property
    def seeds(self) -> list[int]:
        """The seeds, one a run."""
        return list(self.content["seeds"])

    @cached_property
    def methods(self) -> dict[str, Json]:
        """Every method by its row's name."""
        return {method["name"]: method for method in self.content["methods"]}

    @cached_property
    def differences(self) -> dict[tuple[str, str], Json]:
        """Accuracy of the first minus that of the second, by their names."""
        return {(d["a"], d["b"]): d for d in self.content["differences"]}

    @property
    def refiners(self) -> list[Json]:
        """Those with the whole loss and all labels; DenseNet's first, targeted before non-targeted."""
        whole = [m for m in self.methods.values() if m["method"] == Method.IR and m["in_table_1"] and not m["variant"]]
        return sorted(whole, key=lambda m: (m["classifier"], m["supervision"] != Supervision.TARGETED))


def gather(runs: Sequence[Run], resamples: int = RESAMPLES) -> Json:
    """Everything that the tables say, as JSON.

    Means and standard deviations (n − 1) are over seeds, None where there is one seed only. Tests and intervals pool
    the (seed, pattern) pairs. Pairs of one material are not independent, all the less as a material may be in the test
    of several seeds: intervals resample whole materials (cluster bootstrap, percentiles; Davison and Hinkley 1997,
    section 3.8), while McNemar's and Wilcoxon's p take the pairs as independent and are somewhat too small.

    Args:
        runs: as :func:`read_runs` gives them.
        resamples: of the bootstrap.

    Returns:
        ``profile``, ``seeds``, ``runs``, ``data``, ``pairs``, ``materials``, ``methods`` (one each row name) and
        ``differences`` (one each pair of methods that is compared).
    """
    rows = runs[0].rows
    answers = pd.concat({run.seed: run.answers for run in runs}, names=["seed", None]).reset_index(level="seed")
    answers["right"] = (answers["predicted"] == answers["crystal_system"]).astype(float)
    right = _wide(answers, "right")
    materials = _wide(answers, "material")[next(iter(rows))]
    pairs = _pairs(rows)
    columns: dict[Hashable, Any] = {name: right[name] for name in rows}
    columns |= {(a, b): right[a] - right[b] for a, b in pairs}
    intervals = cluster_intervals(pd.DataFrame(columns).to_numpy(), materials.to_numpy(), resamples)
    between = dict(zip(columns, intervals, strict=True))
    distances = {which: _wide(answers, which) for which in Distance}

    def method(row: Row) -> Json:
        raw, best = _raw(row, rows), _best_baseline(row, runs)
        return {
            "name": row.name,
            "method": row.method,
            "classifier": row.classifier,
            "supervision": row.supervision,
            "variant": row.variant,
            "labelled": row.labelled,
            "in_table_1": row.in_table_1,
            "supervised": row.supervised,
            "n_train": _means(runs, row.name, "n_train")["mean"],
            "n_test": _means(runs, row.name, "n_test")["mean"],
            "accuracy": _means(runs, row.name, "accuracy") | _ends(between[row.name]),
            "paper": paper_accuracy(row.name),
            "validation_accuracy": _means(runs, row.name, "validation_accuracy"),
            "calibration_error": _means(runs, row.name, "calibration_error"),
            "raw": raw,
            "best_baseline": best,
            "distances": {w: d for w in Distance if (d := _distance(runs, row.name, raw, w, distances[w]))},
            "honesty": {k: _means(runs, row.name, k) for k in _measures(runs, row.name)},
            "predicted": _counts(answers.loc[answers["method"] == row.name, "predicted"]),
        }

    return {
        "profile": runs[0].results.profile,
        "seeds": [run.seed for run in runs],
        "runs": [{"folder": str(run.folder), "seed": run.seed, "data": run.results.data} for run in runs],
        "pairs": len(right),
        "materials": int(materials.nunique()),
        "truth": _counts(answers.loc[answers["method"] == next(iter(rows)), "crystal_system"]),
        "methods": [method(row) for row in rows.values()],
        "differences": [_difference(runs, right, a, b, between[a, b]) for a, b in pairs],
    }


def cluster_intervals(
    values: ArrayLike, clusters: ArrayLike, resamples: int = RESAMPLES, seed: int = 0, level: float = LEVEL
) -> NDArray[np.float64]:
    """Percentile bootstrap intervals of means of clustered values: whole clusters are drawn, with replacement.

    Args:
        values: shape (n, k), k quantities of the same n cases; all k see the same resamples.
        clusters: what each case belongs to, shape (n,).
        resamples: number of resamples.
        seed: of the resampling.
        level: share of the resamples inside.

    Returns:
        Lower and upper end of each quantity's mean, shape (k, 2).
    """
    values = np.asarray(values, float)
    _, code = np.unique(np.asarray(clusters), return_inverse=True)
    sizes = np.bincount(code)
    sums = np.stack([np.bincount(code, column) for column in values.T], axis=1)
    rng, block = np.random.default_rng(seed), 500  # in blocks, so that many clusters fit into memory
    means = []
    for start in range(0, resamples, block):
        drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), min(block, resamples - start))
        means.append((drawn @ sums) / (drawn @ sizes)[:, None])
    return np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2], axis=0).T


def _wide(answers: pd.DataFrame, column: str) -> pd.DataFrame:
    """One column of the answers, a row each (seed, pattern) pair, a column each method."""
    parts = answers.set_index(["seed", "pattern_id"]).groupby("method")
    return pd.DataFrame({name: part[column] for name, part in parts})


def _means(runs: Sequence[Run], name: str, key: str) -> Json:
    """Mean and standard deviation over seeds of a row's field; None where a run has none.

    Raises:
        InputError: if it is no number in one of them.
    """
    found = [getattr(run.rows[name], key, None) for run in runs]
    for run, value in zip(runs, found, strict=True):
        if value is not None and type(value) not in (int, float):
            raise InputError(run.folder / "results.json", f"has a {key} of {name} that is no number.", AGAIN)
    values = [float(v) for v in found if v is not None]
    if len(values) < len(found):
        return {"mean": None, "sd": None, "by_seed": found}
    return {"mean": float(np.mean(values)), "sd": _sd(values), "by_seed": values}


def _measures(runs: Sequence[Run], name: str) -> list[str]:
    return list(dict.fromkeys(key for run in runs for key in run.rows[name].measures()))


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _ends(interval: NDArray[np.float64]) -> Json:
    return {"low": float(interval[0]), "high": float(interval[1])}


def _raw(row: Row, rows: Mapping[str, Row]) -> str | None:
    """The raw patterns under the same architecture."""
    same = [r.name for r in rows.values() if r.method is Method.RAW and r.classifier == row.classifier]
    return same[0] if same and same[0] != row.name else None


def _best_baseline(row: Row, runs: Sequence[Run]) -> str | None:
    """The best method without imitation refinement; where seeds disagree, by the mean over seeds."""
    named = list(dict.fromkeys(b for run in runs if (b := run.rows[row.name].best_baseline)))
    return max(named, key=lambda name: _means(runs, name, "accuracy")["mean"], default=None)


def _pairs(rows: Mapping[str, Row]) -> list[tuple[str, str]]:
    """What is compared: all methods with raw, refiners with all of Table 1, their variants with the whole loss."""
    refiners = [row for row in rows.values() if row.method is Method.IR]
    whole = {(row.classifier, row.supervision): row.name for row in refiners if row.in_table_1 and not row.variant}
    pairs = [(row.name, raw) for row in rows.values() if (raw := _raw(row, rows))]
    pairs += [(a.name, b.name) for a in refiners if a.in_table_1 for b in rows.values() if b.in_table_1]
    pairs += [(row.name, whole.get((row.classifier, row.supervision), row.name)) for row in refiners]
    return [(a, b) for a, b in dict.fromkeys(pairs) if a != b]


def _difference(runs: Sequence[Run], right: pd.DataFrame, a: str, b: str, interval: NDArray[np.float64]) -> Json:
    """Accuracy of a minus that of b on the same patterns, by seed and pooled."""
    by_seed = [run.rows[a].accuracy - run.rows[b].accuracy for run in runs]
    p, ends = mcnemar(right[a], right[b]), _ends(interval)
    found: Json = {"a": a, "b": b, "mean": float(np.mean(by_seed)), "sd": _sd(by_seed), "by_seed": by_seed}
    return found | ends | {"p": p, "in_words": in_words(ends["low"], ends["high"], p)}


def _distance(runs: Sequence[Run], name: str, raw: str | None, which: Distance, pooled: pd.DataFrame) -> Json | None:
    """Medians of one distance over seeds; against raw the change of their means, and Wilcoxon's test of the pairs."""
    medians = _means(runs, name, which)
    if medians["mean"] is None:
        return None
    found = medians | {"paper": paper_distance(name, which), "paper_change": paper_change(name, which)}
    before = _means(runs, raw, which)["mean"] if raw else None
    if raw is None or before is None:
        return found
    gains = (which.sign * (pooled[name] - pooled[raw])).dropna().to_numpy()
    if not len(gains):
        return found
    p = float(wilcoxon(gains).pvalue) if np.any(gains) else 1.0
    words = NOISE if p >= SIGNIFICANT else CLOSER if np.median(gains) > 0 else FARTHER
    change = medians["mean"] / before - 1 if before else None
    return found | {"change": change, "closer": float((gains > 0).mean()), "p": p, "in_words": words}


def _counts(systems: pd.Series) -> dict[str, int]:
    counts = systems.value_counts()
    return {str(system): int(counts.get(str(system), 0)) for system in CRYSTAL_SYSTEMS}
