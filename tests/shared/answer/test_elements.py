import re

import pytest

from imitation_refinement.answer.elements import Elements
from imitation_refinement.answer.library import Library
from imitation_refinement.errors import InputError


@pytest.mark.parametrize(
    ("text", "must", "may_only", "excluded"),
    [
        ("Fe,O", (), ("Fe", "O"), ()),
        ("+fe, o", ("Fe",), ("O",), ()),
        ("-Pb", (), (), ("Pb",)),
        ("+Fe +O −Pb;-As", ("Fe", "O"), (), ("Pb", "As")),  # a minus as word processors write it
    ],
)
def test_what_a_person_writes(text: str, must: tuple, may_only: tuple, excluded: tuple) -> None:
    assert Elements.parse(text) == Elements(must, may_only, excluded)


@pytest.mark.parametrize("text", ["", "Fe,", "++Fe", "iron", "Fe2O3", "Fe|O"])
def test_what_is_no_list_of_elements(text: str) -> None:
    with pytest.raises(InputError, match=r"is no element. Write Fe,O for these alone"):
        Elements.parse(text)


@pytest.mark.parametrize("text", ["+S,O,Ca,Ba", "O,Ti,Sn", "-O", "+Cl,-K"])
def test_which_crystals_are_left(library: Library, text: str) -> None:
    asked = Elements.parse(text)
    for formula, allowed in zip(library.formula.tolist(), asked.allowed(library), strict=True):
        has = set(re.findall("[A-Z][a-z]?", formula))
        others = has - {*asked.may_only, *asked.must} if asked.may_only else set()
        assert allowed == (has >= set(asked.must) and not has & set(asked.excluded) and not others)


def test_elements_that_leave_nothing(library: Library) -> None:
    with pytest.raises(InputError, match="leaves no crystal of the library"):
        Elements.parse("+U").allowed(library)
    with pytest.raises(InputError, match="'Xx' is no element with form factors"):
        Elements.parse("Xx").allowed(library)
    with pytest.raises(InputError, match="must be there and must not"):
        Elements.parse("+Fe,-Fe").allowed(library)
