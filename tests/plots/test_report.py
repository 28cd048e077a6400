"""The report, as a browser shows it, against NumPy."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from PIL import Image

from plots import report
from plots.style import MEASURE_NAMES
from plots.table import Part

CLASSES = ["cat", "dog", "<b>eel</b>"]
COUNTS = {"pets": 700, "letters": 300}
RNG = np.random.default_rng(0)
RESULTS = [
    Part("Two sentences.\nOne < two."),
    Part("", ["set", "score"], [["pets", "**0.9** (<b>)"]], {"score": "more is better"}),
    Part("", [f"equivalent passes {i}" for i in range(9)], [["0.123 (0.100-0.200)"] * 9]),
]


def row_of(name: str, i: int) -> dict:
    """A row as evaluate.py writes it, with random numbers."""
    label = "" if name == "letters" else CLASSES[RNG.integers(3)]
    row = {"set": name, "image": f"{name}/{i}.png", "label": label, "precision": RNG.random()}
    for start in report.WHO.values():
        p = RNG.dirichlet([1, 1, 1])
        row |= {f"{start}class": CLASSES[p.argmax()], f"{start}probability": p.max()}
        row |= {start + m: RNG.random() for m in MEASURE_NAMES} | {f"{start}p({c})": x for c, x in zip(CLASSES, p)}
    return row | {"right": label and ("no", "yes")[row["class"] == label]}


ROWS = [row_of(name, i) for name, count in COUNTS.items() for i in range(count)]


def write(folder: Path, rows: list[dict], *arguments: Any, **options: str) -> str:
    """The address of the page that shows these predictions."""
    with open(folder / "p.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)

    def pixels(name: str, places: list[int], names: list[str]) -> np.ndarray:
        return np.stack([np.full((8, 8, 3), place % 256, np.uint8) for place in places])

    report.write(folder / "p.html", folder / "p.csv", CLASSES, pixels, *arguments, **options)
    return (folder / "p.html").as_uri()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    """The report of a run with two plots."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "plots").mkdir()
    for name in ("extremes_pets", "roc"):
        Image.new("RGB", (900, 300)).save(folder / f"plots/{name}.png")
    return write(folder, ROWS, "a run", RESULTS, folder / "plots")


@pytest.fixture(scope="module")
def browser(tmp_path_factory, page):
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) to test the report")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    browser.open(page)
    yield browser
    browser.close()
    assert not browser.errors


def choose(browser: Browser, **choices: str) -> None:
    """Set selects and other inputs to values, as a user does."""
    for name, value in choices.items():
        browser.run(f"{{ const e = document.getElementById({name.replace('_', '-')!r}); e.value = {value!r};"
                    "e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')); }")  # fmt: skip


def names(browser: Browser) -> list[str]:
    """The images of the grid, in order."""
    return browser.run("[...document.querySelectorAll('#grid .image')].map(e => e.ariaLabel.split(',')[0])")


def text(browser: Browser, name: str) -> str:
    return browser.run(f"document.getElementById({name!r}).innerText")


def test_images_are_sorted_and_filtered(browser):
    choose(browser, sort="difference expected_entropy")
    by_value = sorted(ROWS, key=lambda row: row["teacher expected_entropy"] - row["expected_entropy"])
    assert names(browser) == [row["image"] for row in by_value[:120]]
    choose(browser, set="0", predicted="2", right="0", label=str(sorted(CLASSES).index("dog")))
    chosen = [row for row in by_value if (row["class"], row["label"]) == (CLASSES[2], "dog") and row["set"] == "pets"]
    assert names(browser) == [row["image"] for row in chosen] and 10 < len(chosen) < 120
    assert text(browser, "count") == f"{len(chosen)} of 1000 images."
    choose(browser, set="", predicted="", right="", label="")


@pytest.mark.parametrize("share", [0, 20, 100])
def test_answers_below_a_threshold(browser, share):
    choose(browser, answer_by="teacher total_variance", threshold=str(share))
    inside = [row["teacher total_variance"] for row in ROWS if row["set"] == "pets"]
    threshold = np.sort(inside)[round(len(inside) * share / 100) - 1] if share else -1
    table = "[...document.querySelectorAll('#answers tr')].map(r => [...r.children].map(c => c.textContent))"
    for line, (name, count) in zip(browser.run(table)[1:], COUNTS.items(), strict=True):
        answered = [row for row in ROWS if row["set"] == name and row["teacher total_variance"] <= threshold]
        wrong = [row["right"] == "no" for row in answered if row["right"]]
        error = f"{100 * np.mean(wrong):.1f}%" if wrong else "–"
        assert line == [name, str(count), str(len(answered)), f"{100 * len(answered) / count:.1f}%", error]


def test_the_stored_threshold_says_which_images_are_answered_and_why_not(browser, tmp_path):
    browser.open(write(tmp_path, ROWS, "new photos", thresholds={"predictive_entropy": 0.25}))
    share = np.mean([row["predictive_entropy"] <= 0.25 for row in ROWS if row["set"] == "pets"])
    assert float(browser.run("document.querySelector('#threshold').value")) == pytest.approx(100 * share, abs=0.5)
    choose(browser, sort="student predictive_entropy", answered="0")
    above = sorted([row for row in ROWS if row["predictive_entropy"] > 0.25], key=lambda row: row["predictive_entropy"])
    last = above[0]
    assert text(browser, "count").startswith(f"{len(above)} of 1000")
    browser.run("document.getElementById('ascending').click()")
    assert names(browser)[0] == last["image"]
    browser.run("document.querySelector('#grid .image').focus()")
    share = 100 * last["mutual_information"] / last["predictive_entropy"]
    assert f"is above the threshold. Of its predictive entropy, {share:.1f}% is epistemic" in text(browser, "detail")
    choose(browser, answered="")
    framed = browser.run("[...document.querySelectorAll('#grid .image')].map(e => e.classList.contains('unanswered'))")
    assert framed == [place >= len(ROWS) - len(above) for place in range(120)]


@pytest.mark.parametrize("width", [420, 1200])
def test_nothing_runs_off_the_page(browser, page, width):
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=True)
    browser.open(page)
    browser.run("document.querySelector('details').open = true")
    wide = "[...document.querySelectorAll('table, p, img, fieldset')].filter(e => e.getBoundingClientRect().right > {})"
    assert browser.run(f"{wide.format(width)}.length") == 0
    browser.call("Emulation.clearDeviceMetricsOverride")


def test_an_image_in_detail(browser):
    choose(browser, sort="student total_variance")
    browser.run("document.querySelector('#grid .image').focus()")
    browser.key("ArrowRight")
    row = sorted(ROWS, key=lambda row: -row["total_variance"])[1]
    shown = [row["image"], f"student: {row['class']}", f"teacher: {row['teacher class']}"]
    shown += [f"{row[start + measure]:.3f}" for start in report.WHO.values() for measure in MEASURE_NAMES]
    shown += [f"{100 * row[f'p({c})']:.1f}% / {100 * row[f'teacher p({c})']:.1f}%" for c in CLASSES]
    said = text(browser, "detail")
    assert not [part for part in shown if part not in said]
    place = browser.run("getComputedStyle(document.querySelector('#grid .image:nth-child(2)')).backgroundPosition")
    line, column = divmod(int(Path(row["image"]).stem), 40)
    assert place == f"{-48 * column}px {-48 * line}px".replace("-0px", "0px")
