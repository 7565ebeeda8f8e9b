"""What a local run refuses before it starts, and how it names its folder."""

from __future__ import annotations

import builtins
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from imitation_refinement.errors import InputError
from imitation_refinement.running.portable import PORTABLE
from imitation_refinement.running.tracking import Tracker
from imitation_refinement.tracking.store import open_store
from pipelines import local
from pipelines.cli import main
from pipelines.local import run_locally
from pipelines.profiles import read_profile
from pipelines.records import Records

NONE = Records({}, "")


@pytest.mark.parametrize("option", ["structures", "imperfect"])
def test_paths_that_are_not_there(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = str(tmp_path / "nowhere")
    with pytest.raises(SystemExit) as end:
        main(["run", "--profile", "smoke", f"--{option}", nowhere, "--output", str(tmp_path / "runs")])
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert err == f"error: {nowhere}: there is no such file or folder. Check what --{option} names.\n"
    assert not (tmp_path / "runs").exists()


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [local.new_folder(tmp_path / "runs") for _ in range(5)]
    assert len(set(made)) == 5 and all(folder.is_dir() for folder in made)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs that nothing tracks."""
    monkeypatch.setattr(local, "open_store", lambda *_: None)
    monkeypatch.setattr(local.Tracker, "parent", lambda *_: nullcontext(Tracker()))
    return tmp_path / "runs"


def test_a_task_that_fails_leaves_its_reason_and_status_1(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure that is nobody's bad input."""

    def fail(*_: object, **__: object) -> None:
        raise local.TaskFailed("Task 'simulate' failed.")

    monkeypatch.setattr(local, "execute", fail)
    with pytest.raises(SystemExit) as end:
        main(["run", "--profile", "smoke", "--output", str(runs)])
    assert end.value.code == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: Task 'simulate' failed."
    assert not (runs / "latest").exists()


def test_an_error_of_a_stage_is_the_error_of_the_run(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InputError("a.cif", "is no crystal.", "Leave it out.")

    monkeypatch.setattr(local, "execute", refuse)
    with pytest.raises(InputError, match=r"a\.cif: is no crystal\. Leave it out\."):
        run_locally(read_profile("smoke", ["seed=9"]), {}, runs)
    (profile,) = runs.glob("*/profile.json")
    assert '"seed": 9' in profile.read_text()
    assert not (runs / "latest").exists()


@pytest.mark.parametrize("store", ["mlruns", "https://[x", "sqlite:/x.db"])
def test_a_store_that_refuses_leaves_no_folder_of_a_run(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with pytest.raises(SystemExit) as end:
        main(["run", "--profile", "smoke"])
    (line,) = capsys.readouterr().err.splitlines()
    assert end.value.code == 2 and line.startswith("error: MLFLOW_TRACKING_URI: can't be used: ")
    assert not list(tmp_path.iterdir())


def test_an_experiment_deleted_in_the_ui_leaves_no_folder_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runs = tmp_path / "my runs"
    runs.mkdir()
    client, experiment = open_store(local.tracking_uri(runs))
    client.delete_experiment(experiment)
    with pytest.raises(SystemExit) as end:
        main(["run", "--profile", "smoke", "--output", str(runs)])
    said = f"`MLFLOW_TRACKING_URI='{local.tracking_uri(runs)}' mlflow experiments restore -x {experiment}`"
    assert end.value.code == 2 and said in capsys.readouterr().err
    assert [path.name for path in runs.iterdir()] == ["mlflow.db"]


def test_a_path_is_handed_on_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KFP puts its workspace for /kfp-workspace inside of any text."""
    from kfp.local import placeholder_utils

    path, seen = "/mnt/kfp-workspace/sample.xy", []

    def look(**_: object) -> None:
        given = {"outputs": {"outputFile": ""}}
        seen.append(placeholder_utils.resolve_individual_placeholder(path, given, "", "", "", "", ""))
        raise RuntimeError("seen")

    with pytest.raises(local.TaskFailed, match="seen"):
        local.execute(look, {}, tmp_path, NONE)
    assert seen == [path]


def test_a_run_that_is_killed_leaves_nothing_among_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KFP makes a folder there, and removes it when a pipeline comes to an end."""
    (tmp_path / "temporary").mkdir()
    (tmp_path / "run").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))

    def die(**_: object) -> None:
        raise RuntimeError("killed")

    with pytest.raises(local.TaskFailed, match="killed"):
        local.execute(die, {}, tmp_path / "run", NONE)
    assert not list((tmp_path / "temporary").iterdir())


def test_the_built_in_print_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """KFP swaps it while a task runs; of two tasks at once, one may put the other's back."""
    ours = builtins.print

    def leave_swapped(**_: object) -> None:
        builtins.print = lambda *_, **__: None
        raise RuntimeError("failed")

    with pytest.raises(local.TaskFailed, match="failed"):
        local.execute(leave_swapped, {}, tmp_path, NONE)
    assert builtins.print is ours


@pytest.mark.parametrize("portable", [True, False])
def test_the_tasks_of_a_portable_run_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portable: bool) -> None:
    seen: list[dict[str, str]] = []

    def look(**_: object) -> None:
        seen.append(dict(os.environ))
        raise RuntimeError("seen")

    for name in PORTABLE:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(local.TaskFailed, match="seen"):
        local.execute(look, {}, tmp_path, NONE, portable=portable)
    (environment,) = seen
    told = PORTABLE.items() & environment.items()
    own = {("OMP_NUM_THREADS", environment["OMP_NUM_THREADS"])}  # of any run, by the machine's cores
    assert told - own == (PORTABLE.items() - own if portable else set())
    assert not PORTABLE.keys() & os.environ.keys()


def test_ui_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["ui", "--runs", str(tmp_path)])
    assert end.value.code == 2 and "holds no runs" in capsys.readouterr().err


def test_sync_where_nothing_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["sync", str(tmp_path)])
    assert end.value.code == 2 and "holds no journal of a run" in capsys.readouterr().err


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--help"],
        ["run", "--help"],
        ["refine", "--help"],
        ["compile", "--help"],
        ["ui", "--help"],
        ["sync", "--help"],
    ):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 0
        assert "usage: imitation-refinement" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.strip() == "0.1.0"


def test_tasks_at_once_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for cores, expected in ((1, "1"), (2, "1"), (7, "3")):
        monkeypatch.setattr(local.os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        assert local.threads() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert local.threads() == "4"
