"""A run that was cut goes on: tasks that are finished are kept, others are done, what was changed is noticed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from kfp import dsl

from imitation_refinement.errors import InputError
from imitation_refinement.files import digest
from pipelines import local
from pipelines.cli import main
from pipelines.local import execute
from pipelines.profiles import as_text, read_profile
from pipelines.records import Call, Records, RunRecord, source_digests


@dsl.component(base_image="python", install_kfp_package=False)
def draw(drawn: dsl.Output[dsl.Dataset], source: str, number: int = 0) -> None:
    """The content of a file, and a number."""
    from pathlib import Path

    Path(drawn.path).write_text(f"{Path(source).read_text()} {number}")
    with Path(f"{source}.calls").open("a") as calls:
        calls.write(f"draw {number}\n")


@dsl.component(base_image="python", install_kfp_package=False)
def learn(drawn: dsl.Input[dsl.Dataset], learnt: dsl.Output[dsl.Model], source: str) -> None:
    """What was drawn, reversed; dies where it is told to."""
    import os
    import signal
    from pathlib import Path

    with Path(f"{source}.calls").open("a") as calls:
        calls.write("learn\n")
    if Path(f"{source}.deadly").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    Path(learnt.path).write_text(Path(drawn.path).read_text()[::-1])


@dsl.pipeline(name="two-stages")
def two_stages(source: str, number: int = 0) -> None:
    """One after the other."""
    drawn = draw(source=source, number=number)
    learn(drawn=drawn.outputs["drawn"], source=source)


class Run:
    """A run of :func:`two_stages` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.source = folder / "run", folder / "source"
        self.folder.mkdir()
        self.source.write_text("abc")

    def go(self, number: int = 0) -> list[str]:
        """Runs or goes on; which tasks were run."""
        calls = self.source.with_name("source.calls")
        calls.unlink(missing_ok=True)
        records = Records({str(self.source): digest(self.source)}, "again")
        try:
            execute(two_stages, {"source": str(self.source), "number": number}, self.folder, records)
        finally:
            self.calls = calls.read_text().splitlines() if calls.exists() else []
        return self.calls

    @property
    def made(self) -> Path:
        return self.folder / "pipeline" / "made"


def test_what_is_finished_is_kept_and_the_rest_is_done(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path)
    deadly = tmp_path / "source.deadly"
    deadly.touch()
    with pytest.raises(local.TaskFailed, match=r"learn was killed .*SIGKILL.* Go on with: again$"):
        run.go()
    assert run.calls == ["draw 0", "learn"]
    deadly.unlink()
    assert run.go() == ["learn"]
    assert (run.made / "learn" / "learnt").read_text() == "0 cba"
    capfd.readouterr()
    assert run.go() == []
    assert "draw: was finished before, and is kept" in capfd.readouterr().err

    # What was changed is noticed.
    (run.made / "draw" / "drawn").write_text("another")
    assert run.go() == ["draw 0"]  # to the same; so what was learnt of it stays
    assert "draw is done again: its drawn was changed or replaced since" in capfd.readouterr().err
    assert (run.made / "draw" / "drawn").read_text() == "abc 0"
    assert run.go(number=7) == ["draw 7", "learn"]
    said = capfd.readouterr().err
    assert "draw is done again: its number is another" in said and "learn is done again: its drawn has changed" in said
    run.source.write_text("xyz")
    assert run.go(number=7) == ["draw 7", "learn"]
    assert f"draw is done again: {run.source} has changed" in capfd.readouterr().err
    assert (run.made / "learn" / "learnt").read_text() == "7 zyx"
    (run.made / "learn" / "learnt").unlink()
    assert run.go(number=7) == ["learn"]
    assert "learn is done again: its learnt is gone" in capfd.readouterr().err

    # A run's folder that was moved.
    shutil.move(run.folder, tmp_path / "moved")
    run.folder = tmp_path / "moved"
    assert run.go(number=7) == []
    told = json.loads((run.made / "draw" / "executor_output.json").read_text())
    assert told["artifacts"]["drawn"]["artifacts"][0]["uri"] == str(run.made / "draw" / "drawn")


def call(folder: Path, inputs: dict[str, Path], outputs: list[str], **parameters: Any) -> Call:
    """A call of KFP's executor."""
    given = {
        "inputs": {
            "parameterValues": parameters,
            "artifacts": {name: {"artifacts": [{"uri": str(path)}]} for name, path in inputs.items()},
        },
        "outputs": {
            "artifacts": {name: {"artifacts": [{"uri": str(folder / name)}]} for name in outputs},
            "outputFile": str(folder / "executor_output.json"),
        },
    }
    return Call.of(["python3", "-c", "", "--executor_input", json.dumps(given)])


def test_a_model_that_was_replaced_between_two_stages_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = tmp_path / "error.txt"
    monkeypatch.setenv("IMITATION_REFINEMENT_ERROR_FILE", str(error))
    records = Records({}, "imitation-refinement run --resume runs/1")
    pretrain, model = call(tmp_path / "pretrain", {}, ["classifier"]), tmp_path / "pretrain" / "classifier"
    model.parent.mkdir()
    model.write_bytes(b"trained")
    records.note(pretrain)
    refine = call(tmp_path / "refine", {"classifier": model}, ["refiner"])
    assert records.before(refine) is None
    other = tmp_path / "other"
    other.write_bytes(b"another")
    other.replace(model)
    assert records.before(refine) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: {model}: is not what pretrain made: it was changed or replaced since. "
        "`imitation-refinement run --resume runs/1` makes it anew."
    )
    assert json.loads(error.read_text())[0] == str(model)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run that was cut before its first task."""
    folder = tmp_path / "runs" / "20261129-101500"
    folder.mkdir(parents=True)
    (tmp_path / "cifs").mkdir()
    sources = dict.fromkeys(("imperfect", "test", "keep_out", "classifiers"), "")
    sources["structures"] = str(tmp_path / "cifs")
    profile = read_profile("smoke", ["seed=3"])
    (folder / "profile.json").write_text(as_text(profile))
    RunRecord(sources=sources, digests=source_digests(sources), program="p", threads="1").write(folder)
    return folder


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--seed", "4"], "profile, seed: contradicts"),
        (["--set", "targeted.optimiser.epochs=9"], "profile, targeted.optimiser.epochs: contradicts"),
        (["--profile", "default"], "contradicts"),
        (["--profile", "smoke"], "profile, seed: contradicts"),
        (["--portable"], "profile, portable: contradicts"),
        (["--structures", "random"], "--structures random: contradicts"),
        (["--runner", "docker"], "--runner docker: contradicts"),
        (["--output", "elsewhere"], "--output elsewhere: contradicts"),
    ],
)
def test_options_that_contradict_the_run_are_refused(
    run: Path, options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["run", "--resume", str(run), *options])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and line.startswith("error: ") and said in line, line
    assert not (run / "log.txt").exists()


def test_options_that_do_not_are_let_be(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone_on: list[Path] = []
    monkeypatch.setattr(local, "_finish", lambda folder, *_: gone_on.append(folder))
    monkeypatch.setattr(local, "opened_store", lambda runs: ("", None))
    (run / "results.txt").touch()
    own = ["--structures", str(tmp_path / "cifs"), "--output", str(tmp_path / "runs"), "--runner", "subprocess"]
    main(["run", "--resume", str(run), "--profile", "smoke", "--seed", "3", *own])
    main(["run", "--resume", str(run), "--seed", "3"])
    assert gone_on == [run, run]


def test_a_finished_run_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunRecord.read(run).at("finished").write(run)
    (run / "results.txt").write_text("the table")
    main(["run", "--resume", str(run)])
    said = capsys.readouterr()
    assert said.err == f"{run} is finished: there is nothing to go on with\n" and "the table" in said.out


def test_what_is_no_run(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error(folder: Path, *verb: str) -> str:
        with pytest.raises(SystemExit) as end:
            main([*(verb or ("run",)), "--resume", str(folder)])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    assert "holds no run that can be gone on with: it has no run.json" in error(tmp_path)
    assert f"`imitation-refinement run --resume {run}`" in error(run, "batch", "run")
    (tmp_path / "cifs").rmdir()
    assert f"{tmp_path / 'cifs'}: there is no such file or folder" in error(run)
    (run / "run.json").write_text("{")
    assert "run.json" in error(run)
    (run / "run.json").write_text('{"threads": 1}')
    assert "run.json: sources: " in error(run)


def test_two_can_not_go_on_with_one_run(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from imitation_refinement.files import alone

    monkeypatch.setattr(local, "LOCK_PATIENCE_S", 0.1)
    with alone(run / ".lock", run, ""), pytest.raises(InputError, match="is being written by another command"):
        local.resume(run)


def test_moving_what_is_kept_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    made = tmp_path / "pipeline" / "made"

    def make() -> None:
        for output in local.KEPT:
            (made / output).parent.mkdir(parents=True, exist_ok=True)
            if output == "evaluate/figures":
                (made / output).mkdir()
                (made / output / "a.png").write_text("png")
            else:
                (made / output).write_text(output)
        for i in range(2):
            (made / f"for-loop-1-iteration-{i}" / "simulate").mkdir(parents=True)
            (made / f"for-loop-1-iteration-{i}" / "simulate" / "rejected").write_text(f"item,reason,remedy\nx{i},y,z\n")

    make()
    local.keep(tmp_path)
    whole = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert not (tmp_path / "pipeline").exists()
    assert whole[Path("data/rejected_simulated.csv")] == "item,reason,remedy\nx0,y,z\nx1,y,z\n"
    assert whole[Path("figures/a.png")] == "png" and len(whole) == len(local.KEPT) + 1
    for cut in range(0, len(local.KEPT) + 1, 3):
        shutil.rmtree(tmp_path)
        make()
        for output, place in list(local.KEPT.items())[:cut]:
            (tmp_path / place).parent.mkdir(exist_ok=True)
            (made / output).replace(tmp_path / place)
        local.keep(tmp_path)
        found = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
        assert found == whole
