"""One line that can be printed, whatever stood in the file."""

from __future__ import annotations

import pickle

from hypothesis import given, settings
from hypothesis import strategies as st

from imitation_refinement.errors import InputError, shown


@given(st.text(st.characters(codec=None), max_size=300), st.integers(2, 50))
@settings(deadline=None, derandomize=True)
def test_any_text_is_one_line_that_can_be_printed(text: str, most: int) -> None:
    line = shown(text, most)
    assert line.isprintable()
    line.encode()  # no surrogate is left
    assert len(line) <= 10 * (most + 1)  # each of those that are left may be written as \\U0001f600
    if text.isprintable() and len(text) <= most:
        assert line == text


def test_what_a_terminal_or_a_log_would_obey() -> None:
    assert shown("a\x1b[2Jb\x00\u202e") == "a\\x1b[2Jb\\x00\\u202e"
    assert shown("two  blanks") == "two  blanks" and shown("is none (\n  in line 3)") == "is none ( in line 3)"
    error = InputError("a\nb", "is bad.", "Mend\tit.")
    assert str(error) == "a b: is bad. Mend it."
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
