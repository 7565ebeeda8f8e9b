"""Writes figures that benchmarks left as files into the pages that show them, between two comments.

    python benchmarks/identify.py MEASURED --model FOLDER --parts --output measured        # and so on
    python benchmarks/write_docs.py card measured simulated --window cut --model FOLDER
    python benchmarks/write_docs.py ablation measured simulated --against "networks of 20,000 samples" m s
        --comparison unseen.csv known.csv

Folders are what `identify.py --parts --output` wrote of one model, on the two sets in turn; `--against` names those of
another model, of which something is said in a word or two: what is different. ``card`` fills docs/model.md, writes the
identifiers of all test patterns to docs/test_patterns.csv and, of a model with --model, draws docs/samples.png;
``ablation`` fills docs/results.md. Differences are of the same patterns, with the bootstrap's 95 % interval.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
from identify import ANSWER, LATTICE, MAJORITY, NEAREST, NETWORKS, ONE, PROTOCOLS, REFINED, SEARCH, TEN, said
from stream import differences
from worth import verdicts

from imitation_refinement.errors import InputError
from imitation_refinement.files import write_text
from imitation_refinement.learning.models import load_classifier
from imitation_refinement.results.figures import samples_figure, save_figure
from imitation_refinement.results.metrics import compare
from imitation_refinement.results.table import Table
from imitation_refinement.results.wording import MISSING, number, percent, points, points_interval, share_interval
from imitation_refinement.running.stage import exit_on_input_error
from imitation_refinement.xrd.crystal import CLASS_INDEX, CRYSTAL_SYSTEMS

DOCS = Path(__file__).parents[1] / "docs"
KEPT = (".parquet", ".safetensors", ".json")  # of a model's folder
COMPARED = "of stream.py compare, of a bank without the patterns' formulas and of one with them"
SYSTEMS = [f"p_{system}" for system in CRYSTAL_SYSTEMS]
# What each part of an answer adds: its name, what is compared, by the names of identify.py.
PARTS = (
    ("search: strain and zero error free, vote of ten, instead of the nearest", TEN, NEAREST),
    ("search: cells refined, evidence ranked, instead of that", SEARCH, TEN),
    ("ensemble: all networks instead of one", NETWORKS, ONE),
    ("fusion instead of the search alone", ANSWER, SEARCH),
    ("lattice alone instead of the networks alone", LATTICE, NETWORKS),
    ("fusion instead of the networks alone", ANSWER, NETWORKS),
    ("fusion instead of the lattice alone", ANSWER, LATTICE),
    ("refinement before the answer", REFINED, ANSWER),
)


class Judged:
    """What `identify.py --output` wrote of one set of patterns."""

    def __init__(self, folder: Path) -> None:
        try:
            self.results: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
            self.answers = pd.read_csv(folder / "answers.csv")
        except (OSError, ValueError) as error:
            remedy = "Give a folder of `benchmarks/identify.py --output`."
            raise InputError(folder, f"holds no results ({error}).", remedy) from None

    def right(self, protocol: str, by: str) -> pd.Series:
        """Whether each pattern's crystal system is named, by its identifier.

        Raises:
            InputError: if nothing was answered by that name.
        """
        rows = self.answers[(self.answers["protocol"] == protocol) & (self.answers["by"] == by)]
        if not len(rows) and by in (TEN, ONE):
            raise InputError(self.results["patterns"], f"has no answers by {by!r}.", "Run identify.py with --parts.")
        truth = rows["crystal_system"].map(CLASS_INDEX).to_numpy(int)
        return pd.Series(verdicts(rows[SYSTEMS].to_numpy(float), truth)[0], rows["pattern_id"].to_numpy())

    def rows(self, protocol: str) -> dict[str, Any]:
        """What identify.py judged, by name."""
        return dict(self.results["protocols"][protocol])


def gained(right: pd.Series, other: pd.Series) -> str:
    """How many points more are right of the patterns of both, with its interval; a dash where there are none."""
    ids = right.index.intersection(other.index)
    if not len(ids):
        return MISSING
    found = compare(right[ids].to_numpy(bool), other[ids].to_numpy(bool), seed=0)
    return f"{points(found['gain'])} ({points_interval(found['gain_low'], found['gain_high'])})"


def ablation(options: argparse.Namespace) -> None:
    own = [Judged(folder) for folder in options.folders]
    heads = [f"{name}, {protocol}" for name in ("measured", "simulated") for protocol in PROTOCOLS]
    rows = []
    if options.comparison:
        unseen, known = map(pd.read_csv, options.comparison)
        n = int(unseen["samples"].max())
        for (what, found), others in zip(differences(unseen).items(), differences(known).values(), strict=True):
            cells = [of[Path(one.results["patterns"]).stem] for one in own for of in (others, found)]
            rows.append([f"{what}, networks of {n:,} samples", *cells])
    for what, *folders in options.against:
        others = [Judged(Path(folder)) for folder in folders]
        pairs = [(a, b, protocol) for a, b in zip(own, others, strict=True) for protocol in PROTOCOLS]
        for by in (NETWORKS, ANSWER):
            cells = [gained(a.right(protocol, by), b.right(protocol, by)) for a, b, protocol in pairs]
            rows.append([f"instead of {what}: {by}", *cells])
    for what, by, instead in PARTS:
        found = [gained(one.right(p, by), one.right(p, instead)) for one in own for p in PROTOCOLS]
        rows.append([what, *found])
    into(options.into, "ablation", Table("", "", ["what", *heads], [("", rows)]).as_markdown())


def card(options: argparse.Namespace) -> None:
    own = [Judged(folder) for folder in options.folders]
    about, library = own[0].results["model"], own[0].results["library"]
    curves = {}
    for file in sorted(options.model.glob("network-*.safetensors")) if options.model else ():
        history: Any = load_classifier(file)[2]["history"]
        curves[file.stem] = history["samples"], history["validation_accuracy"]
    kept = [f"{seen[right.index(max(right))]:,.0f}" for seen, right in curves.values()]  # the best on what is held out
    samples = f", kept after {', '.join(kept)} samples" if kept else ""
    made = (
        f"{own[0].results['networks']} networks{samples}, from "
        f"{about.get('number_of_structures', 0):,} structures, {about.get('random_crystals', 0):,} random and "
        f"{about.get('derived_crystals', 0):,} derived crystals, "
        f"{about.get('formulas_kept_out', 0):,} formulas kept out;"
        f" searched: {library['crystals']:,} crystals (`{library['digest'][:16]}`)."
    )
    if options.model:
        size = sum(file.stat().st_size for file in options.model.iterdir() if file.suffix in KEPT)
        made += f" Files of {size / 1e6:.1f} MB."
    lines = [made, "", worth_table(own), "", system_table(own), ""]
    for name, one in zip(("Measured", "Simulated"), own, strict=True):
        found = one.results["phase"]
        surest = [f"{percent((one.rows(p)[ANSWER]['surest'] or {}).get('0.5'))} % {p}" for p in PROTOCOLS]
        lines.append(
            f"- {name}: of {found['first']['n']} phases in the library {said(found['first'])} % are first, "
            f"{said(found['among ten'])} % among ten. The surest half: {', '.join(surest)}. Left out as calculated: "
            f"{len(one.results['calculated'])}; refused, and counted as wrong: {len(one.results['refused'])}."
        )
    if options.window:
        cut = Judged(options.window)
        low, high = cut.results["window"]
        found = ", ".join(f"{said(cut.rows(p)[ANSWER]['system'])} % {p}" for p in PROTOCOLS)
        lines += [f"- Measured, cut to {low:g}–{high:g}° (copper), the window of the best published figure: {found}."]
    if options.model:
        save_figure(samples_figure(curves), options.into.with_name("samples.png"))
        lines += [
            "",
            "![Accuracy on virtual measurements of stoichiometries not learnt, against samples seen](samples.png)",
        ]
    into(options.into, "figures", "\n".join(lines))
    ids = [one.answers.drop_duplicates("pattern_id")[["pattern_id", "formula", "crystal_system"]] for one in own]
    named = [part.assign(patterns=name) for part, name in zip(ids, ("measured", "simulated"), strict=True)]
    write_text(options.ids, pd.concat(named)[["patterns", *ids[0].columns]].to_csv(index=False))


def worth_table(own: list[Judged]) -> str:
    columns = ["%"] + [f"{name}, {p}" for name in ("measured", "simulated") for p in PROTOCOLS]
    of = [one.rows(protocol) for one in own for protocol in PROTOCOLS]
    rows = [["patterns", *(str(found[ANSWER]["system"]["n"]) for found in of)]]
    for what, by, key in (
        ("answer", ANSWER, "system"),
        ("first two answers", ANSWER, "first two"),
        ("crystal family", ANSWER, "family"),
        ("search alone", SEARCH, "system"),
        ("networks alone", NETWORKS, "system"),
        ("lattice alone", LATTICE, "system"),
        ("nearest neighbour", NEAREST, "system"),
        ("majority class", MAJORITY, "system"),
    ):
        rows.append([what, *(said(found[by][key]) for found in of)])
    for name, key in (("calibration error of the answer", ""), ("by chance, were probabilities true", " by chance")):
        rows.append([name, *(number(found[ANSWER][f"calibration error{key}"], 3) for found in of)])
    return Table("", "", columns, [("", rows)]).as_markdown()


def system_table(own: list[Judged]) -> str:
    """Of each crystal system how many are answered right; with interval."""
    columns = ["%"] + [f"{name}, {p}" for name in ("measured", "simulated") for p in PROTOCOLS]
    rows = []
    for system in CRYSTAL_SYSTEMS:
        found = [one.rows(protocol)[ANSWER]["by system"][system] for one in own for protocol in PROTOCOLS]
        cells = [
            f"{percent(f['share'])} ({share_interval(f['low'], f['high'])}) of {f['n']}" if f["n"] else MISSING
            for f in found
        ]
        rows.append([str(system), *cells])
    return Table("", "", columns, [("", rows)]).as_markdown()


def into(page: Path, name: str, text: str) -> None:
    """Replaces what stands between ``<!-- name: … -->`` and ``<!-- /name -->``.

    Raises:
        InputError: if the page lacks one of them.
    """
    content = page.read_text(encoding="utf-8")
    head, begin, rest = content.partition(f"<!-- {name}: written by benchmarks/write_docs.py -->\n")
    _, end, tail = rest.partition(f"<!-- /{name} -->")
    if not begin or not end:
        raise InputError(page, f"has no place for {name}.", f"Put the two comments of {name} into it.")
    write_text(page, f"{head}{begin}{text}\n{end}{tail}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for function, page in ((card, "model.md"), (ablation, "results.md")):
        command = commands.add_parser(function.__name__)
        command.set_defaults(function=function)
        command.add_argument("folders", type=Path, nargs=2, metavar="FOLDER", help="of measured, of simulated patterns")
        command.add_argument("--into", type=Path, default=DOCS / page, metavar="PAGE")
        if function is card:
            command.add_argument("--model", type=Path, help="its folder, for the size")
            command.add_argument("--window", type=Path, metavar="FOLDER", help="of identify.py --window, measured")
            command.add_argument("--ids", type=Path, default=DOCS / "test_patterns.csv")
        else:
            names = ("WHAT", "MEASURED", "SIMULATED")
            command.add_argument("--against", nargs=3, action="append", default=[], metavar=names)
            command.add_argument("--comparison", type=Path, nargs=2, metavar=("UNSEEN", "KNOWN"), help=COMPARED)
    options = parser.parse_args()
    options.function(options)


if __name__ == "__main__":
    with exit_on_input_error():
        main()
