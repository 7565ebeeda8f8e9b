"""Several runs gathered: synthetic ones, whose numbers are known."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from imitation_refinement.errors import InputError
from imitation_refinement.results import metrics
from imitation_refinement.results.paper import PAPER_TABLE_1, PAPER_TABLE_2
from imitation_refinement.study import tables
from imitation_refinement.study.findings import checks
from imitation_refinement.study.gathering import Experiment, cluster_intervals, gather
from imitation_refinement.study.runs import read_runs
from imitation_refinement.study.tables import write_tables
from imitation_refinement.vocabulary import Distance
from pipelines.cli import main
from pipelines.profiles import BUILT_IN, as_text, read_profile

OF_IMPERFECT = {"n_train": 80, "n_validation": 10, "n_test": 10, "n_held_out": 0}
NONE_EACH = dict.fromkeys(Distance)


def row(name: str, **fields: Any) -> dict[str, Any]:
    """What a row's name says."""
    parts = name.split("-")
    classifier, parts = (parts[0], parts[1:]) if parts[0] in ("vgg", "densenet") else ("", parts)
    kind, rest = parts[0], parts[1] if len(parts) > 1 else ""
    refiner = kind in ("targeted", "non_targeted")
    labelled = int(rest.removeprefix("labelled_")) if rest.startswith("labelled_") else 0
    return {
        "name": name,
        "method": "ir" if refiner else kind,
        "classifier": classifier,
        "supervision": kind if refiner else None,
        "variant": "" if labelled else rest,
        "labelled": labelled,
        "n_train": labelled or (80 if refiner else 0),
        "accuracy_low": 0.1,
        "accuracy_high": 0.9,
        "p_value": 0.5,
        "n_theory": 10,
    } | fields


def write_run(
    folder: Path,
    seed: int,
    right: Mapping[str, Sequence[int]],
    distances: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
    materials: Sequence[str] | None = None,
    first: int = 0,
) -> Path:
    """A finished run: `right` says of each row which test patterns it gets right; the patterns count from `first`."""
    folder.mkdir(parents=True)
    rows, answers = [], []
    for name, marks in right.items():
        n, own = len(marks), (distances or {}).get(name, {})
        rows.append(
            row(name, n_test=n, accuracy=sum(marks) / n)
            | {metric: float(np.median(own[metric])) if own else None for metric in Distance}
            | dict((fields or {}).get(name, {}))
        )
        answers.append(
            pd.DataFrame(
                {
                    "method": name,
                    "pattern_id": [f"p{first + i}" for i in range(n)],
                    "material": materials or [f"A{first + i}" for i in range(n)],
                    "crystal_system": "cubic",
                    "predicted": ["cubic" if mark else "trigonal" for mark in marks],
                }
                | {metric: own.get(metric, np.nan) for metric in Distance}
            )
        )
    data = {
        "structures": {"source": "structures.parquet", "sha256": f"a{seed}", "n_train": 900 + seed},
        "imperfect": {"source": "imperfect.parquet", "sha256": f"b{seed}", **OF_IMPERFECT},
    }
    write_json(folder / "results.json", {"profile": "paper", "seed": seed, "data": data, "rows": rows})
    options = {"optimiser": {"epochs": 3, "seed": seed, "device": "cpu"}}
    write_json(folder / "profile.json", {"name": "paper", "seed": seed, "targeted": options})
    pd.concat(answers).to_csv(folder / "predictions.csv", index=False)
    return folder


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def change_json(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    write_json(path, content)


def share(n: int, of: int = 100) -> list[int]:
    return [1] * n + [0] * (of - n)


def gathered(folders: Sequence[Path]) -> Experiment:
    return Experiment(gather(read_runs(folders), resamples=2000))


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two runs that fit."""
    return [
        write_run(tmp_path / name, seed, {"densenet-raw": share(6, 10), "densenet-targeted": share(8, 10)}, first=first)
        for name, seed, first in (("b", 2, 5), ("a", 1, 0))
    ]


def test_each_seed_may_have_taken_its_own_classifiers(pair: list[Path]) -> None:
    change_json(pair[0] / "results.json", lambda r: r["data"].update(classifiers={"source": "seeds/2"}))
    assert gathered(pair).seeds == [1, 2]
    change_json(pair[1] / "results.json", lambda r: r["data"].update(classifiers={"source": "seeds/1"}))
    assert gathered(pair).seeds == [1, 2]


def test_means_and_standard_deviations_over_seeds(tmp_path: Path) -> None:
    right = [(60, 70), (62, 75), (67, 71)]
    folders = [
        write_run(tmp_path / str(s), s, {"vgg-raw": share(a), "vgg-targeted": share(b)}, first=100 * s)
        for s, (a, b) in enumerate(right)
    ]
    experiment = gathered(folders)
    assert experiment.seeds == [0, 1, 2] and experiment.content["pairs"] == 300
    for index, name in enumerate(("vgg-raw", "vgg-targeted")):
        values = [pair[index] / 100 for pair in right]
        accuracy = experiment.methods[name]["accuracy"]
        assert accuracy["mean"] == pytest.approx(statistics.mean(values))
        assert accuracy["sd"] == pytest.approx(statistics.stdev(values))
        assert accuracy["by_seed"] == values
        assert accuracy["low"] < accuracy["mean"] < accuracy["high"]
    gain = experiment.differences["vgg-targeted", "vgg-raw"]
    assert gain["mean"] == pytest.approx(0.09) and gain["sd"] == pytest.approx(statistics.stdev([0.10, 0.13, 0.04]))
    assert gain["in_words"] == "better" and "vgg-raw" not in {d["a"] for d in experiment.content["differences"]}


def test_mcnemar_pools_the_seeds(tmp_path: Path) -> None:
    """Nine pairs for one, one for the other, over both seeds: 2 (1 + 10) / 2^10."""
    marks = [([0] * 5 + [1] * 5, [1] * 5 + [1] * 5), ([0] * 4 + [1] * 6, [1] * 4 + [0] + [1] * 5)]
    folders = [
        write_run(tmp_path / str(s), s, {"vgg-raw": a, "vgg-targeted": b}, first=10 * s)
        for s, (a, b) in enumerate(marks)
    ]
    difference = gathered(folders).differences["vgg-targeted", "vgg-raw"]
    assert difference["p"] == pytest.approx(22 / 1024)
    assert difference["by_seed"] == pytest.approx([0.5, 0.3])


def test_cluster_interval_of_clusters_that_agree_is_the_binomial_one() -> None:
    """Fifty clusters of eight equal answers, thirty of them right, are fifty answers, not four hundred."""
    clusters = np.repeat(np.arange(50), 8)
    values = (clusters < 30).astype(float)
    (interval,) = cluster_intervals(values[:, None], clusters)
    assert interval == pytest.approx(binom.ppf([0.025, 0.975], 50, 0.6) / 50, abs=0.021)
    low, high = metrics.bootstrap_interval(values, 0)
    assert np.ptp(interval) == pytest.approx((high - low) * np.sqrt(8), rel=0.1)


def test_cluster_interval_of_single_cases_is_the_plain_one() -> None:
    values = np.array(share(140, 200), float)
    (interval,) = cluster_intervals(values[:, None], np.arange(200))
    assert interval == pytest.approx(metrics.bootstrap_interval(values, 0), abs=0.01)


def test_cluster_interval_of_unequal_clusters_weighs_cases() -> None:
    """Two clusters, of one and three cases: a resample is one of three means, with chances 1/4, 1/2, 1/4."""
    values = np.array([[1.0], [0.0], [0.0], [0.0]])
    assert cluster_intervals(values, ["a", "b", "b", "b"], level=0.9)[0] == pytest.approx([0, 1])
    assert cluster_intervals(values, ["a", "b", "b", "b"], level=0.4)[0] == pytest.approx([0.25, 0.25])
    assert cluster_intervals(values, ["a"] * 4)[0] == pytest.approx([0.25, 0.25])


def test_material_in_several_seeds_is_one_cluster(tmp_path: Path) -> None:
    """The same hundred patterns in four seeds say no more than in one."""
    right = {"vgg-raw": share(60)}
    folders = [write_run(tmp_path / str(s), s, right) for s in range(4)]
    many, one = (gathered(f).methods["vgg-raw"]["accuracy"] for f in (folders, folders[:1]))
    assert many["high"] - many["low"] == pytest.approx(one["high"] - one["low"])


def test_best_baseline_that_seeds_disagree_on_is_the_best_on_average(tmp_path: Path) -> None:
    tested = [(6, 5), (6, 7), (9, 6)]  # of 10, by DWT and by GTA; the validation part must not matter
    folders = [
        write_run(
            tmp_path / str(seed),
            seed,
            {"densenet-targeted": share(8, 10), "densenet-dwt": share(dwt, 10), "densenet-gta": share(gta, 10)},
            fields={
                "densenet-targeted": {"best_baseline": "densenet-dwt" if dwt > gta else "densenet-gta"},
                "densenet-gta": {"validation_accuracy": 0.9},
            },
            first=10 * seed,
        )
        for seed, (dwt, gta) in enumerate(tested)
    ]
    assert gathered(folders).methods["densenet-targeted"]["best_baseline"] == "densenet-dwt"


def test_distances_to_theory(tmp_path: Path) -> None:
    """Six pairs that all come closer: Wilcoxon's p is 2 / 2^6; a pattern without theory does not count."""
    nan = float("nan")
    folders = []
    for seed, (raw, refined) in enumerate((([2.0, 4, 6, nan], [1.0, 2, 3, nan]), ([5.0, 6, 7, nan], [4.5, 4, 5, nan]))):
        before, after = (dict.fromkeys(Distance, values) for values in (raw, refined))
        marks = share(2, 4)
        medians = [dict.fromkeys(Distance, float(np.nanmedian(v))) for v in (raw, refined)]
        folders.append(
            write_run(
                tmp_path / str(seed),
                seed,
                {"vgg-raw": marks, "vgg-targeted": marks},
                {"vgg-raw": before, "vgg-targeted": after},
                fields=dict(zip(("vgg-raw", "vgg-targeted"), medians, strict=True)),
                first=4 * seed,
            )
        )
    methods = gathered(folders).methods
    found = methods["vgg-targeted"]["distances"]
    assert found["l1"]["by_seed"] == [2, 4.5] and found["l1"]["mean"] == 3.25
    assert found["l1"]["change"] == pytest.approx(3.25 / 5 - 1)
    assert found["l1"]["p"] == pytest.approx(2 / 2**6)
    assert (found["l1"]["in_words"], found["l1"]["closer"]) == ("closer", 1)
    assert (found["ncc"]["in_words"], found["ncc"]["closer"]) == ("farther", 0)
    assert found["l1"]["paper_change"] == pytest.approx(26.2 / 26.749 - 1)
    assert "p" not in methods["vgg-raw"]["distances"]["l1"]


def as_in_the_paper(folder: Path, seed: int) -> Path:
    """A run whose accuracies are the paper's, on a thousand patterns, with every further thing that tables show."""
    random = np.random.default_rng(seed)
    shares = PAPER_TABLE_1 | PAPER_TABLE_2
    shares = {**shares, "majority": 0.27, "nearest": 0.4, "densenet-augmented": 0.75, "densenet-finetuned": 0.7}
    shares |= {"densenet-targeted-shuffled_labels": 0.70, "densenet-targeted-labelled_30": 0.72}
    shares["densenet-targeted-labelled_10"] = 0.71
    right = {name: share(round(1000 * s), 1000) for name, s in shares.items()}
    scale = {"raw": 1.0, "dwt": 0.9, "gta": 3.0, "non_targeted": 0.8, "targeted": 0.65}
    distances = {}
    for name in right:
        kind = name.split("-", 1)[-1]
        if kind in scale:
            base = random.uniform(10, 40, 1000)
            nearer = base * scale[kind]
            distances[name] = {which: nearer if which.sign < 0 else 1 - 0.02 * nearer for which in Distance}
    measures = {"judge_gain": 0.08 + 0.005 * seed, "judge_gain_low": 0.01, "judge_accuracy": 0.6, "noise_entropy": 0.9}
    refiners = [n for n in right if n.endswith("targeted")]
    fields: dict[str, dict[str, Any]] = {n: {"best_baseline": "densenet-adda", **measures} for n in refiners}
    fields["densenet-targeted-shuffled_labels"] = {"noise_entropy": 0.9, "later_measure": 3}
    return write_run(folder, seed, right, distances, fields, [f"M{i // 2}" for i in range(1000)])


@pytest.fixture(scope="module")
def paper_like(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("paper")
    return [as_in_the_paper(folder / str(seed), seed) for seed in range(3)]


def test_what_the_paper_shows_counts_as_reproduced(paper_like: list[Path]) -> None:
    outcomes = {check.claim: check.outcome for check in checks(gathered(paper_like))}
    assert len(outcomes) == 18
    noise = {claim for claim, outcome in outcomes.items() if outcome == "within noise"}
    # Two thirds of a point on a thousand patterns of five hundred materials.
    assert all("VGG: IR" in claim or "ℓ_pred" in claim for claim in noise)
    assert set(outcomes.values()) == {"reproduced", "within noise"}


def test_what_the_paper_does_not_show_counts_as_not_reproduced(tmp_path: Path) -> None:
    shares = {"raw": 80, "dwt": 78, "non_targeted": 70, "targeted": 60, "targeted-shuffled_labels": 95}
    right = {f"densenet-{name}": share(n) for name, n in shares.items()} | {"densenet-finetuned": share(99)}
    experiment = gathered([write_run(tmp_path / str(s), s, right, first=100 * s) for s in range(2)])
    found = {check.claim: check for check in checks(experiment)}
    outcomes = [check.outcome for check in found.values()]
    assert set(outcomes) == {"not reproduced", "not measured"} and outcomes.count("not measured") == 6
    first = found["DenseNet, targeted, is first in Table 1"].detail
    assert "60.0 %, place 4 of the paper’s 4 rows" in first and "Fine-tuned classifier (99.0 %)" in first


def test_gain_below_the_aim_is_missed_even_if_it_is_no_noise(tmp_path: Path) -> None:
    right = {"densenet-raw": share(600, 1000), "densenet-targeted": share(680, 1000)}
    found = checks(gathered([write_run(tmp_path / "a", 1, right)]))
    (gain,) = (check for check in found if "at least 9 points" in check.claim)
    assert gain.outcome == "not reproduced" and gain.detail.startswith("+8.0 (+") and "< 0.001" in gain.detail


def test_terminal_shows_tables_1_to_3(paper_like: list[Path], tmp_path: Path) -> None:
    text = write_tables(paper_like, tmp_path / "out")
    lines = text.splitlines()
    titles = [line for line in lines if line.startswith("Table")]
    assert [title[:7] for title in titles] == ["Table 1", "Table 1", "Table 2", "Table 3", "Table 3"]
    assert text.startswith("Profile paper, 3 seeds (0, 1, 2): 3000 (seed, test pattern) pairs of 500 materials.")
    (best,) = (line for line in lines if re.match(r"DenseNet +IR, targeted +80", line))
    assert re.fullmatch(r"DenseNet +IR, targeted +80 +80\.\d ± 0\.0 +7\d\.\d–8\d\.\d +80\.05", best)
    blocks = [line for line in lines if line.startswith("With") and line.endswith(":")]
    assert blocks == ["Without labels of imperfect patterns:", "With labels of imperfect patterns:"]
    labelled = lines[lines.index(blocks[1]) : lines.index(blocks[1]) + 6]
    assert [line.split()[0] for line in labelled[1:5]] == ["–", "VGG", "DenseNet", "DenseNet"]
    assert sum(line.startswith("Raw patterns ") for line in lines) == 1  # in Table 3 under no classifier
    assert lines[-1] == f"tables: {tmp_path / 'out' / 'tables.html'}"


def test_files(paper_like: list[Path], tmp_path: Path) -> None:
    write_tables(paper_like, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {
        "tables.md",
        "tables.json",
        "tables.html",
        "table_1.png",
        "labels.png",
    }
    content = json.loads((tmp_path / "tables.json").read_text())
    assert [p["labelled"] for p in content["curves"]["densenet"]] == [10, 30, 80] and "vgg" not in content["curves"]
    html = (tmp_path / "tables.html").read_text()
    assert html.count("<img ") == html.count("data:image/png;base64,") == 2 and html.rstrip().endswith("</html>")
    assert not re.search(r"https?://|<script|<link", html)
    markdown = (tmp_path / "tables.md").read_text()
    for text in (html, markdown):
        assert "later measure" in text and "Honesty of the refiner" in text and "Predicted classes" in text
    for table in re.findall(r"(?:^\|.*\|\n)+", markdown, re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert "| measure |" in markdown and "![" in markdown


def test_one_run_has_no_standard_deviation(paper_like: list[Path], tmp_path: Path) -> None:
    text = write_tables(paper_like[:1], tmp_path)
    assert "One seed has no standard deviation: it is written –." in text
    assert re.search(r"DenseNet +IR, targeted +80 +80\.\d ± –", text)
    assert gathered(paper_like[:1]).methods["densenet-targeted"]["accuracy"]["sd"] is None
    assert "nan" not in text and "NaN" not in (tmp_path / "tables.json").read_text()


def test_nothing_is_written_if_a_part_fails(pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(tables, "as_html", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tables(pair, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_formula_that_reads_like_a_missing_value(tmp_path: Path) -> None:
    """NaN is sodium nitride's formula unit, too."""
    folder = write_run(tmp_path / "a", 1, {"vgg-raw": share(2, 4)}, materials=["NaN", "NA", "NaN", "null"])
    assert gathered([folder]).content["materials"] == 3


def test_generated_patterns_may_differ_by_seed(pair: list[Path]) -> None:
    for seed, folder in enumerate(pair):
        change_json(
            folder / "results.json",
            lambda r, seed=seed: r["data"]["imperfect"].update(source="built-in", n_train=80 + seed),
        )
    frame = pd.read_csv(pair[0] / "predictions.csv")
    frame.assign(material="X" + frame["material"]).to_csv(pair[0] / "predictions.csv", index=False)
    assert "Each seed drew imperfect patterns of its own." in write_tables(pair)


def drop_method(folder: Path) -> None:
    change_json(folder / "results.json", lambda r: r["rows"].pop())


def change_answers(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        change(pd.read_csv(folder / "predictions.csv")).to_csv(folder / "predictions.csv", index=False)

    return apply


def change_results(change: Callable[[Any], None]) -> Callable[[Path], None]:
    return lambda folder: change_json(folder / "results.json", change)


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no results": (lambda f: (f / "results.json").unlink(), "holds no results.json: no finished run"),
    "no profile": (lambda f: (f / "profile.json").unlink(), "holds no profile.json: no finished run"),
    "no predictions": (lambda f: (f / "predictions.csv").unlink(), "holds no predictions.csv: no finished run"),
    "no distance": (change_results(lambda r: r["rows"][1].update(l1=[1.0])), "a l1 of densenet-targeted that is no"),
    "half a file": (lambda f: (f / "results.json").write_text('{"rows": ['), "is no JSON"),
    "older rows": (change_results(lambda r: r["rows"][1].pop("name")), "rows.1.name: Field required"),
    "older answers": (change_answers(lambda a: a.drop(columns="material")), "has no column material"),
    "empty answers": (lambda f: (f / "predictions.csv").write_text(""), "has no column method"),
    "no number": (change_answers(lambda a: a.assign(l1="much")), "can't be read"),
    "no system": (change_answers(lambda a: a.assign(predicted="glass")), "'glass', which is no crystal system"),
    "answers cut off": (change_answers(lambda a: a.iloc[:-1]), "holds 9 answers of densenet-targeted, results.json 10"),
    "answers lacking": (change_answers(lambda a: a.iloc[:10]), "holds no answers of densenet-targeted"),
    "answers twice": (change_answers(lambda a: a.assign(pattern_id="p1")), "answers a pattern twice"),
    "other accuracy": (change_results(lambda r: r["rows"][0].update(accuracy=0.7)), "accuracy of 0.6000, results.json"),
    "two of a name": (change_results(lambda r: r["rows"].append(r["rows"][0])), "two rows of one name"),
    "no baseline": (change_results(lambda r: r["rows"][1].update(best_baseline="x")), "has no row x"),
    "same seed": (change_results(lambda r: r.update(seed=1)), "has seed 1, as"),
    "profile": (change_results(lambda r: r.update(profile="smoke")), "is of profile smoke"),
    "options": (
        lambda f: change_json(f / "profile.json", lambda p: p["targeted"]["optimiser"].update(epochs=4)),
        "targeted.optimiser.epochs is 4, not 3",
    ),
    "source": (
        change_results(lambda r: r["data"]["imperfect"].update(source="b.parquet")),
        "imperfect.source is b.parquet, not imperfect.parquet",
    ),
    "size": (change_results(lambda r: r["data"]["imperfect"].update(n_train=81)), "has 101 imperfect patterns"),
    "another truth": (
        change_answers(lambda a: a.replace({"material": {"A7": "B7"}})),
        "another material or system for pattern p7",
    ),
    "method": (drop_method, "holds no row densenet-targeted, which"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, pair: list[Path], tmp_path: Path) -> None:
    spoil, message = REFUSED[case]
    spoil(pair[0])
    with pytest.raises(InputError) as caught:
        write_tables(pair, tmp_path / "out")
    assert message in str(caught.value) and str(pair[0]) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_seed_and_device_are_no_difference_of_options(pair: list[Path]) -> None:
    change_json(pair[0] / "profile.json", lambda p: p["targeted"]["optimiser"].update(device="cuda", seed=77))
    assert read_runs(pair)[0].seed == 1


@pytest.mark.parametrize("name", BUILT_IN)
def test_profiles_of_two_seeds_fit_together(pair: list[Path], name: str) -> None:
    for seed, folder in enumerate(pair):
        (folder / "profile.json").write_text(as_text(read_profile(name, [f"seed={seed}"])))
    assert len(read_runs(pair)) == 2


def test_command(pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latest = tmp_path / "latest"
    latest.symlink_to("a")
    main(["tables", str(latest), str(pair[0])])
    out = capsys.readouterr().out
    assert "Table 1. Accuracy" in out and out.endswith(f"tables: {tmp_path / 'tables' / 'tables.html'}\n")
    assert (tmp_path / "tables" / "tables.md").exists()
    main(["tables", *map(str, pair), "--output", str(tmp_path / "there")])
    assert (tmp_path / "there" / "tables.html").exists()


def test_command_refuses_with_one_message(pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tables", str(pair[0]), str(tmp_path / "nothing")])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path / 'nothing'}: holds no results.json")
