"""What several gathered runs reproduce of the paper and what they don't, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from imitation_refinement.results.paper import paper_accuracy
from imitation_refinement.results.wording import (
    BETTER,
    CLOSER,
    FARTHER,
    NOISE,
    SIGNIFICANT,
    WORSE,
    change,
    gain,
    listed,
    percent,
    points,
    points_interval,
    row_label,
)
from imitation_refinement.study.gathering import LEVEL, Experiment, Json
from imitation_refinement.vocabulary import Architecture, Distance, Method, Supervision, Variant

BEST = "densenet-targeted"  # the paper's
TARGET_GAIN = 0.09  # of it over its own raw classifier; the paper's is 9.23 points
AIM = -0.30  # change of a distance to theory that is aimed at
REPRODUCED, MISSED, UNKNOWN = "reproduced", "not reproduced", "not measured"  # or NOISE


@dataclass(frozen=True)
class Check:
    """Something that the paper says or the experiment aims at, and whether the runs show it.

    Attributes:
        claim: what should be so.
        outcome: ``reproduced``, ``within noise``, ``not reproduced`` or ``not measured``.
        detail: the numbers.
    """

    claim: str
    outcome: str
    detail: str


def checks(experiment: Experiment) -> list[Check]:
    """All checks, in the order of the paper's tables."""
    return [
        _first(experiment),
        *(_above(experiment, name) for name in _refiner_names(experiment)),
        *(_above(experiment, name) for name in _named(experiment)),
        *(_targeted_above(experiment, architecture) for architecture in sorted(Architecture) if architecture.of_paper),
        _gain(experiment),
        _ablation(experiment),
        *(_distances(experiment, name) for name in (*_refiner_names(experiment), *_named(experiment))),
        *(_judge(experiment, name) for name in (*_refiner_names(experiment), *_named(experiment))),
        _control(experiment),
    ]


def against(difference: Json) -> str:
    """A difference in accuracy in words: ``+9.2 (+6.1 to +12.0) points, p < 0.001``."""
    said = gain(difference["mean"], difference["low"], difference["high"], difference["p"])
    return f"{said}, {NOISE}" if difference["in_words"] == NOISE else said


def _refiner_names(experiment: Experiment) -> list[str]:
    return [refiner["name"] for refiner in experiment.refiners]


def _named(experiment: Experiment) -> list[str]:
    """The forms that the paper does not have; what it says of the plain one is what they are measured by."""
    return [name for name, method in experiment.methods.items() if method["variant"] and method["in_table_1"]]


def _first(experiment: Experiment) -> Check:
    """DenseNet, targeted, leads the rows that the paper has."""
    claim = "DenseNet, targeted, is first in Table 1"
    methods = experiment.methods
    if BEST not in methods:
        return Check(claim, UNKNOWN, "These runs hold no such row.")
    own = methods[BEST]["accuracy"]["mean"]
    rivals = [m for m in methods.values() if m["in_table_1"] and m["name"] != BEST]
    rivals.sort(key=lambda m: -m["accuracy"]["mean"])
    papers = [m for m in rivals if paper_accuracy(m["name"]) is not None]
    if not papers:
        return Check(claim, UNKNOWN, "These runs hold no other method of the paper.")
    ahead = [m for m in papers if m["accuracy"]["mean"] >= own]
    next_best = experiment.differences[BEST, papers[0]["name"]]
    outcome = MISSED if ahead else REPRODUCED if next_best["in_words"] == BETTER else NOISE
    detail = f"{percent(own)} %, place {len(ahead) + 1} of the paper’s {len(papers) + 1} rows; "
    detail += f"against {row_label(papers[0])}: {against(next_best)}."
    if others := [m for m in rivals if m not in papers and m["accuracy"]["mean"] >= own]:
        names = "; ".join(f"{row_label(m)} ({percent(m['accuracy']['mean'])} %)" for m in others)
        detail += f" Methods that the paper leaves out do as well or better: {names}."
    return Check(claim, outcome, detail)


def _above(experiment: Experiment, name: str) -> Check:
    """A refiner is above raw and above those of the paper's baselines that its plain form is above in the paper."""
    method, methods = experiment.methods[name], experiment.methods
    own = paper_accuracy(f"{method['classifier']}-{method['supervision']}")
    rivals = []
    for rival in (m for m in Method if m is Method.RAW or m.paper_baseline):
        theirs = paper_accuracy(f"{method['classifier']}-{rival}")
        if own is not None and theirs is not None and own > theirs:
            # A rival that was trained for one architecture only stands for all.
            named = [m for c in (method["classifier"], *sorted(Architecture)) if (m := f"{c}-{rival}") in methods]
            rivals += [(rival, named[0] if named else None)]
    claim = f"{row_label(method)} is above {', '.join(rival.short for rival, _ in rivals) or 'what the paper has'}"
    if not rivals:
        return Check(claim, UNKNOWN, "The paper has no such refiner.")
    measured = [experiment.differences[name, found] for _, found in rivals if found]
    missing = [rival.short for rival, found in rivals if not found]
    details = [f"{row_label(methods[d['b']])}: {against(d)}" for d in measured]
    details += [f"{rival} is not among these runs" for rival in missing]
    return Check(claim, _all_better(measured, bool(missing)), "; ".join(details) + ".")


def _targeted_above(experiment: Experiment, architecture: Architecture) -> Check:
    targeted, other = (f"{architecture}-{supervision}" for supervision in Supervision)
    difference = experiment.differences.get((targeted, other))
    claim = f"{architecture.label}: targeted is above non-targeted"
    if difference is None:
        return Check(claim, UNKNOWN, "These runs don’t hold both.")
    return Check(claim, _all_better([difference]), f"{against(difference)}; the paper: {_of_paper(targeted, other)}.")


def _gain(experiment: Experiment) -> Check:
    """The gain that the experiment has to reach, and more than noise."""
    least = percent(TARGET_GAIN, 0)
    claim = f"DenseNet, targeted, gains at least {least} points over its raw classifier, p < {SIGNIFICANT}"
    difference = experiment.differences.get((BEST, "densenet-raw"))
    if difference is None:
        return Check(claim, UNKNOWN, "These runs don’t hold both.")
    reached = difference["mean"] >= TARGET_GAIN
    outcome = MISSED if not reached else REPRODUCED if difference["in_words"] == BETTER else NOISE
    paper = _of_paper(BEST, "densenet-raw")
    return Check(claim, outcome, f"{against(difference)}; the paper: {paper}.")


def _ablation(experiment: Experiment) -> Check:
    """The whole loss is above the loss without ℓ_pred, and that above the loss without ℓ_proto."""
    claim = "DenseNet, targeted: all three terms are above those without ℓ_pred, those without ℓ_proto are last"
    names = (BEST, f"{BEST}-{Variant.WITHOUT_PREDICTION}", f"{BEST}-{Variant.WITHOUT_PROTOTYPE}")
    if not set(names) <= set(experiment.methods):
        return Check(claim, UNKNOWN, "These runs hold no such ablation.")
    means = [experiment.methods[name]["accuracy"]["mean"] for name in names]
    losses = [experiment.differences[name, BEST] for name in names[1:]]
    if means[0] > means[1] > means[2]:
        outcome = REPRODUCED if all(d["in_words"] == WORSE for d in losses) else NOISE
    else:
        outcome = MISSED
    paper = " and ".join(_of_paper(name, BEST) for name in names[1:])
    detail = f"Without ℓ_pred {against(losses[0])}; without ℓ_proto {against(losses[1])}; the paper: {paper}."
    return Check(claim, outcome, detail)


def _distances(experiment: Experiment, name: str) -> Check:
    """A refiner is closer to theory than raw, by every distance."""
    method = experiment.methods[name]
    claim = f"{row_label(method)} is closer to theory than raw in {listed([which.label for which in Distance])}"
    found = {Distance(w): d for w, d in method["distances"].items() if d.get("change") is not None}
    if len(found) < len(Distance):
        return Check(claim, UNKNOWN, "These runs hold no distance to theory of both.")
    words = [d["in_words"] for d in found.values()]
    improved = all(which.sign * d["change"] > 0 for which, d in found.items())
    outcome = REPRODUCED if improved and set(words) == {CLOSER} else MISSED if FARTHER in words else NOISE
    details = [
        f"{which.label} {change(d['change'])} (the paper {change(d['paper_change'])}), {d['in_words']}"
        for which, d in found.items()
    ]
    aimed = [which.label for which, d in found.items() if which.sign < 0 and d["change"] <= AIM]
    reached = f"{', '.join(aimed)} reach{'' if len(aimed) > 1 else 'es'}" if aimed else "none reaches"
    return Check(claim, outcome, f"{'; '.join(details)}. Of the aimed {change(AIM)}: {reached} it.")


def _judge(experiment: Experiment, name: str) -> Check:
    """A refiner gains under a classifier that it was not trained through, too."""
    method = experiment.methods[name]
    claim = f"{row_label(method)} gains under the independent judge, too"
    gain = method["honesty"].get("judge_gain")
    if gain is None or gain["mean"] is None:
        return Check(claim, UNKNOWN, "These runs hold no judge’s answers.")
    low, high = _over_seeds(gain["by_seed"])
    outcome = MISSED if gain["mean"] <= 0 else REPRODUCED if low > 0 else NOISE
    interval = f" (95 % of Student’s t over seeds: {points_interval(low, high)})" if np.isfinite(low) else ""
    alone = "" if interval else " One seed has no spread."
    own = experiment.differences.get((name, method["raw"]))
    beside = f"; under its own classifier {points(own['mean'])}" if own else ""
    return Check(claim, outcome, f"{points(gain['mean'])} points{interval}{beside}.{alone}")


def _control(experiment: Experiment) -> Check:
    """Labels at random teach nothing."""
    claim = "Control: a refiner trained on shuffled labels does not gain over raw"
    controls = [m for m in experiment.methods.values() if Variant(m["variant"]).control]
    found = [d for m in controls if (d := experiment.differences.get((m["name"], m["raw"])))]
    if not found:
        return Check(claim, UNKNOWN, "These runs hold no such control.")
    outcome = MISSED if any(d["in_words"] == BETTER for d in found) else REPRODUCED
    details = [f"{row_label(experiment.methods[d['a']])}: {against(d)}" for d in found]
    return Check(claim, outcome, "; ".join(details) + ".")


def _all_better(differences: Sequence[Json], incomplete: bool = False) -> str:
    if any(d["mean"] <= 0 for d in differences):
        return MISSED
    if incomplete or not differences:
        return UNKNOWN
    return REPRODUCED if all(d["in_words"] == BETTER for d in differences) else NOISE


def _of_paper(name: str, other: str) -> str:
    """The difference of two accuracies of the paper, in points."""
    own, theirs = paper_accuracy(name), paper_accuracy(other)
    return points(None if own is None or theirs is None else own - theirs)


def _over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Student's interval of a mean over seeds; infinite where there is one seed."""
    if len(values) < 2:
        return -np.inf, np.inf
    half = float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return float(np.mean(values)) - half, float(np.mean(values)) + half
