"""Which revision of the software runs, and who runs it."""

from __future__ import annotations

import getpass
import os
import subprocess
from functools import cache
from pathlib import Path

from imitation_refinement import __version__

REVISION_VARIABLE = "IMITATION_REFINEMENT_REVISION"  # images have it: what they are built from is not in them
CHANGED = "-changed"  # ends the revision of a work tree that differs from its commit
ROOT = Path(__file__).resolve().parents[3]  # of the repository, where this is one's work tree
# As MLflow calls them.
USER_TAG, COMMIT_TAG, REVISION_TAG = "mlflow.user", "mlflow.source.git.commit", "revision"


@cache
def revision(root: Path = ROOT) -> str:
    """The commit, 40 hexadecimal digits, and ``-changed`` if the work tree differs from it; an image's is its own.

    Without either the version of the package.
    """
    if known := os.environ.get(REVISION_VARIABLE):
        return known
    if not (root / ".git").exists():
        return __version__
    words = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", f"--dirty={CHANGED}"]
    try:
        return subprocess.run(words, cwd=root, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):  # no git, or a repository that is not this user's
        return __version__


def changed(found: str) -> bool:
    """Whether a revision is of a work tree that differs from its commit."""
    return found.endswith(CHANGED)


def user() -> str:
    """Who runs this; the number of a user without a name, as in a container."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def identity() -> dict[str, str]:
    """Tags of a run: who runs it, and which revision."""
    found = revision()
    commit = {COMMIT_TAG: found.removesuffix(CHANGED)} if found.removesuffix(CHANGED) != __version__ else {}
    return {USER_TAG: user(), REVISION_TAG: found, **commit}
