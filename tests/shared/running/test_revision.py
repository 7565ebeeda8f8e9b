"""Which revision runs: a work tree's commit, an image's, or the package's version."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imitation_refinement import __version__
from imitation_refinement.running import revision as module
from imitation_refinement.running.revision import REVISION_VARIABLE, changed, identity, revision


@pytest.fixture(autouse=True)
def afresh() -> Iterator[None]:
    revision.cache_clear()
    yield
    revision.cache_clear()


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=A", "-c", "user.email=a@b.example"]
    done = subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "one")
    git(tmp_path, "tag", "-am", "a tag", "v1")
    return tmp_path


def test_the_commit_of_a_work_tree_and_whether_it_was_changed(tree: Path) -> None:
    commit = git(tree, "rev-parse", "HEAD")
    assert revision(tree) == commit and not changed(commit)
    revision.cache_clear()
    (tree / "a").write_text("2")
    assert revision(tree) == f"{commit}-changed" and changed(revision(tree))


def test_without_a_work_tree_it_is_the_version(tmp_path: Path) -> None:
    assert revision(tmp_path) == __version__
    (tmp_path / ".git").write_text("gitdir: nowhere")
    revision.cache_clear()
    assert revision(tmp_path) == __version__


def test_tags_of_a_run(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "curie")
    monkeypatch.setenv(REVISION_VARIABLE, "abc-changed")
    tags = {"mlflow.user": "curie", "revision": "abc-changed", "mlflow.source.git.commit": "abc"}
    assert identity() == tags
    monkeypatch.delenv(REVISION_VARIABLE)
    revision.cache_clear()
    monkeypatch.setattr(module, "revision", lambda: __version__)
    assert identity() == {"mlflow.user": "curie", "revision": __version__}
