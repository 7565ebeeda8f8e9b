"""The page in Chromium: seen, moved by hand and by keys, compared, taken away, on a narrow screen and in the dark."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import gemmi
import numpy as np
import pytest
from PIL import Image

from imitation_refinement.data.patterns import write_xy
from tests.shared.answer.conftest import measured
from tests.web import chromium
from tests.web.chromium import Tab

PROGRAM = chromium.find()
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(PROGRAM is None, reason=f"no Chromium: none of {', '.join(chromium.NAMES)} is on the path"),
]
WIDE, NARROW = (1280, 900), (400, 800)
ANSWERED = "document.getElementById('status').textContent.endsWith('answered.')"
CLICK = "document.querySelector({!r}).click()"
LINES = "document.getElementById('plot').data.find((trace) => trace.meta?.row === 0)"
CSS = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A pattern that says its wavelength, at another one a second, a third that says none, and what is no pattern."""
    folder = tmp_path_factory.mktemp("files")
    paths = {name: folder / f"{name}.xy" for name in ("BaSO4", "NaCl", "TiO2", "broken")}
    write_xy(paths["BaSO4"], *measured("BaSO4"), ("wavelength 1.5406 A",))
    write_xy(paths["NaCl"], *measured("NaCl", wavelength=0.7093), ("wavelength 0.7093 A",))
    write_xy(paths["TiO2"], *measured("TiO2"))
    paths["broken"].write_text("1 <img src=x onerror=alert(1)>\n" * 80)
    return paths


@pytest.fixture(scope="module")
def tab(address: str, files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    """The page with the patterns in it."""
    assert PROGRAM
    with chromium.tab(PROGRAM, tmp_path_factory.mktemp("chromium") / "profile") as opened:
        opened.resize(*WIDE)
        opened.colours("light")
        opened.go(address)
        opened.wait("document.getElementById('forms').textContent")
        opened.give("#files", *files.values())
        opened.wait("!document.getElementById('ask').hidden")
        said = opened.run("document.getElementById('ask-text').textContent")
        assert said.startswith("TiO2.xy does not say the wavelength.")
        assert opened.run("document.activeElement.id") == "wavelength"
        opened.run("document.getElementById('wavelength').value = 'CuKa1'")
        opened.run(CLICK.format("#ask button"))
        opened.wait(f"document.querySelectorAll('#patterns li').length === 3 && {ANSWERED}")
        yield opened
        assert not opened.complaints


def show(tab: Tab, name: str) -> None:
    tab.run(
        f"[...document.querySelectorAll('#patterns .name')].find((b) => b.textContent.startsWith({name!r})).click()"
    )
    tab.wait(f"document.getElementById('verdict').textContent.startsWith({name!r})")
    settle(tab)


def settle(tab: Tab) -> None:
    """Lets the plot be drawn."""
    tab.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 50)))")


def lines(tab: Tab) -> list[float]:
    return list(tab.run(f"{LINES}.x")[::3])


def choose(tab: Tab, selector: str) -> None:
    tab.run(CLICK.format(selector))
    settle(tab)


def test_the_answer_is_read(tab: Tab) -> None:
    show(tab, "BaSO4")
    assert "%" in tab.run("document.getElementById('verdict').textContent")
    assert tab.run("document.querySelectorAll('#systems tbody tr').length") == 7
    assert "BaSO4" in tab.run("document.querySelector('#candidates tbody').textContent")
    names = tab.run("document.getElementById('plot').data.map((trace) => trace.name)")
    assert {"measured", "baseline", "refined", "difference"} <= set(names)
    assert tab.run("document.getElementById('no-refiner').hidden")


def test_what_can_not_be_read_is_said_as_text(tab: Tab) -> None:
    said = tab.run("document.getElementById('messages').textContent")
    assert "broken.xy" in said
    assert tab.run("document.querySelectorAll('#messages img').length") == 0


def test_lines_move_at_once_by_hand(tab: Tab) -> None:
    """Against Bragg's law: a strain ε takes each line's d to (1 + ε)-fold about, a zero error adds to its angle."""
    show(tab, "BaSO4")
    set_by = "((e) => {{ e.value = {}; e.dispatchEvent(new Event('input')); }})(document.getElementById('{}'))"
    tab.run(set_by.format(0, "zero-number"))
    tab.run(set_by.format(0, "strain-number"))
    before = np.array(lines(tab))
    tab.run(set_by.format(1, "strain-number"))
    tab.run(set_by.format(0.25, "zero"))
    after = np.array(lines(tab))
    n = min(len(before), len(after))  # lines may leave at the end, none at the beginning
    d = 1.5406 / (2 * np.sin(np.radians(before[:n] / 2)))
    expected = 2 * np.degrees(np.arcsin(1.5406 / (2 * d / 0.99))) + 0.25
    np.testing.assert_allclose(after[:n], expected, atol=1e-4)
    assert tab.run("document.getElementById('zero-number').value") == "0.250"
    tab.run(CLICK.format("#fitted"))
    assert float(tab.run("document.getElementById('zero').value")) != 0.25


def test_axes_and_scales(tab: Tab) -> None:
    show(tab, "NaCl")
    curve = "document.getElementById('plot').data[0]"
    x, y = measured("NaCl", wavelength=0.7093)
    q = 4 * np.pi * np.sin(np.radians(x / 2)) / 0.7093
    choose(tab, "input[value=q]")
    np.testing.assert_allclose(tab.run(f"{curve}.x"), q, rtol=1e-5)
    choose(tab, "input[value=d]")
    np.testing.assert_allclose(tab.run(f"{curve}.x"), 2 * np.pi / q, rtol=1e-5)
    choose(tab, "input[value=root]")
    np.testing.assert_allclose(tab.run(f"{curve}.y"), np.sqrt(y), rtol=1e-5)
    choose(tab, "input[value=log]")
    assert tab.run("document.getElementById('plot').layout.yaxis.type") == "log"
    for value in ("two_theta", "linear"):
        choose(tab, f"input[value={value}]")
    np.testing.assert_allclose(tab.run(f"{curve}.x"), x, rtol=1e-6)
    np.testing.assert_allclose(tab.run(f"{curve}.y"), y, rtol=1e-6)


def test_patterns_of_two_wavelengths_are_compared_at_one(tab: Tab) -> None:
    show(tab, "BaSO4")
    for box in range(2):
        choose(tab, f"#patterns li:nth-child({box + 1}) input")
    traces = tab.run(
        "document.getElementById('plot').data.slice(0, 2).map((trace) => [trace.name, trace.x[0], trace.x.at(-1)])"
    )
    assert {name for name, _, _ in traces} == {"BaSO4", "NaCl"}
    for name, first, last in traces:
        wavelength = {"BaSO4": 1.5406, "NaCl": 0.7093}[name]
        ends = measured(name, wavelength=wavelength)[0][[0, -1]]
        expected = 2 * np.degrees(np.arcsin(np.sin(np.radians(ends / 2)) * 1.5406 / wavelength))
        np.testing.assert_allclose([first, last], expected, rtol=1e-5)
    assert "Other wavelengths than 1.5406" in tab.run("document.getElementById('plot-note').textContent")
    for box in range(2):
        choose(tab, f"#patterns li:nth-child({box + 1}) input")


def test_elements_are_chosen_in_the_table(tab: Tab) -> None:
    show(tab, "TiO2")
    tab.run("document.getElementById('chemistry').open = true")
    press = "[...document.querySelectorAll('#table button')].find((b) => b.textContent === 'Ti').click()"
    tab.run(press)
    assert tab.run("document.getElementById('elements').elements.must.value") == "Ti"
    tab.run(CLICK.format("#elements .row button"))
    tab.wait(f"{ANSWERED} && document.querySelectorAll('#candidates tbody tr').length === 1")
    assert "TiO2" in tab.run("document.querySelector('#candidates tbody').textContent")
    tab.run(CLICK.format("#any"))
    tab.wait(f"{ANSWERED} && document.querySelectorAll('#candidates tbody tr').length > 1")


def test_what_is_taken_away(tab: Tab, tmp_path: Path) -> None:
    tab.download_to(tmp_path)
    show(tab, "BaSO4")

    def taken(selector: str, name: str) -> Path:
        tab.run(CLICK.format(selector))
        end = time.monotonic() + chromium.PATIENCE_S
        while not ((path := tmp_path / name).exists() and path.stat().st_size):
            assert time.monotonic() < end, sorted(tmp_path.iterdir())
            time.sleep(0.05)
        return path

    above = taken("[data-take=above]", "BaSO4_above_baseline.xy")
    assert "# wavelength 1.5406 Å" in above.read_text(encoding="utf-8")
    x, y = np.loadtxt(above).T
    angles, counts = measured("BaSO4")
    inside = np.isin(angles.round(6), x.round(6))
    assert len(x) > 0.9 * len(angles) and ((counts[inside] - y) > 0).all()
    refined = taken("[data-take=xy]", "BaSO4_refined.xy")
    assert "no counting data" in refined.read_text(encoding="utf-8")
    np.testing.assert_allclose(np.loadtxt(refined)[:, 0], angles, rtol=1e-6)
    svg = taken("[data-take=svg]", "BaSO4.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg") and root.get("width") == "720" and "2θ" in svg
    with Image.open(taken("[data-take=png]", "BaSO4.png")) as image:
        assert image.size == (2880, 2160) and image.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
    report = taken("[data-take=report]", "BaSO4.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in report and "data:image/svg+xml" in report and "<script" not in report
    assert "Rietveld" in report and "BaSO4" in report
    first = tab.run("document.querySelector('#candidates tbody tr small').textContent")
    formula = tab.run("document.querySelector('#candidates tbody tr td:nth-child(2)').firstChild.data")
    cif = taken("#candidates tbody button:last-child", f"{formula}_{first}.cif")
    assert gemmi.cif.read(str(cif)).sole_block().find_value("_cell_length_a")


def test_keys_are_enough(tab: Tab) -> None:
    """Every kind of control is reached by Tab; the plot moves by arrows, a slider too."""
    show(tab, "BaSO4")
    tab.run("document.activeElement.blur()")
    wanted = {"theme", "files", "axis", "scale", "measured", "plot", "zero", "strain", "pan", "by hand", "CIF"}
    for _ in range(300):
        tab.press("Tab")
        wanted.discard(
            tab.run("document.activeElement.id || document.activeElement.name || document.activeElement.textContent")
        )
        if not wanted:
            break
    assert not wanted
    ends = "document.getElementById('plot').layout.xaxis.range"
    tab.run("document.getElementById('plot').focus()")
    before = tab.run(ends)
    tab.press("+", "+")
    settle(tab)
    closer = tab.run(ends)
    assert closer[1] - closer[0] == pytest.approx(0.6 * (before[1] - before[0]))
    tab.press("ArrowRight")
    settle(tab)
    assert tab.run(ends)[0] == pytest.approx(closer[0] + 0.2 * (closer[1] - closer[0]))
    tab.press("0", "0")
    settle(tab)
    assert tab.run(ends) == pytest.approx(before)
    tab.run("document.getElementById('zero').focus()")
    slid = float(tab.run("document.getElementById('zero').value"))
    tab.press("ArrowRight")
    assert float(tab.run("document.getElementById('zero-number').value")) == pytest.approx(slid + 0.005, abs=1e-3)


@pytest.mark.parametrize(("size", "scheme"), [(NARROW, "light"), (NARROW, "dark"), (WIDE, "dark")])
def test_narrow_screens_and_the_dark(tab: Tab, size: tuple[int, int], scheme: str) -> None:
    tab.resize(*size)
    tab.colours(scheme)
    settle(tab)
    tab.wait(f"document.getElementById('plot')._fullLayout.width <= {size[0]}")
    wide = f"[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > {size[0]})"
    assert tab.run("document.documentElement.scrollWidth") <= size[0], tab.run(
        f"{wide}.map((e) => e.outerHTML.slice(0, 99))"
    )
    red, green, blue = map(int, tab.run(CSS).removeprefix("rgb(").removesuffix(")").split(","))
    assert (red + green + blue > 600) == (scheme == "light")
    paper = tab.run("document.getElementById('plot').layout.paper_bgcolor")
    assert (paper == "#fff") == (scheme == "light")
    tab.resize(*WIDE)
    tab.colours("light")
    settle(tab)


def test_nobody_else_was_asked_for_anything(tab: Tab, address: str) -> None:
    asked = tab.run("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert len(asked) > 5 and all(name.startswith((address, "blob:", "data:")) for name in asked)
