"""The report, as a browser shows it, against NumPy."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser

from plots import report
from plots.style import MEASURE_NAMES

CLASSES = ["cat", "dog", "<b>eel</b>"]
COUNTS = {"pets": 700, "letters": 300}


def rows_of_set(name: str, count: int, rng: np.random.Generator) -> list[dict]:
    """Rows as evaluate.py writes them, with random numbers."""
    rows = []
    for i in range(count):
        label = "" if name == "letters" else CLASSES[rng.integers(3)]
        row = {"set": name, "image": f"{name}/{i}.png", "label": label, "right": ""}
        for start in report.WHO.values():
            p = rng.dirichlet([1, 1, 1])
            chosen = CLASSES[p.argmax()]
            if not start:
                row["right"] = ("no", "yes")[chosen == label] if label else ""
            row |= {
                f"{start}class": chosen,
                f"{start}probability": p.max(),
                **{start + m: rng.random() for m in MEASURE_NAMES},
            }
            row |= {f"{start}precision": rng.random()} if not start else {}
            row |= {f"{start}p({c})": share for c, share in zip(CLASSES, p)}
        rows.append(row)
    return rows


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    rng = np.random.default_rng(0)
    return [row for name, count in COUNTS.items() for row in rows_of_set(name, count, rng)]


@pytest.fixture(scope="module")
def page(rows, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    with open(folder / "predictions.csv", "w", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)

    def pixels(name: str, places: list[int], names: list[str]) -> np.ndarray:
        assert names == [f"{name}/{place}.png" for place in places]
        return np.stack([np.full((8, 8, 3), place % 256, np.uint8) for place in places])

    text = "Two **good** sentences.\n\n| a | b |\n|---|---|\n| 1 | <2 |\n\n- *one*\n- two"
    report.write(folder / "report.html", folder / "predictions.csv", CLASSES, pixels, "a run", text)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) to test the report")
    browser = Browser(tmp_path_factory.mktemp("profile"))
    browser.open(page.as_uri())
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


@pytest.mark.parametrize("sort, value", [
    ("student total_variance", lambda r: r["total_variance"]),
    ("teacher mutual_information", lambda r: r["teacher mutual_information"]),
    ("difference expected_entropy", lambda r: r["expected_entropy"] - r["teacher expected_entropy"]),
])  # fmt: skip
def test_images_are_sorted(browser, rows, sort, value):
    choose(browser, sort=sort)
    by_value = sorted(rows, key=value, reverse=True)
    assert names(browser) == [row["image"] for row in by_value[:240]]
    browser.run("document.getElementById('ascending').click()")
    assert names(browser)[:20] == [row["image"] for row in by_value[:-21:-1]]
    browser.run("document.getElementById('more').click(); document.getElementById('ascending').click()")


def test_images_are_filtered(browser, rows):
    choose(browser, set="0", predicted="2", right="0", label=str(sorted(CLASSES).index("dog")))
    chosen = [
        r
        for r in rows
        if r["set"] == "pets" and r["class"] == CLASSES[2] and r["right"] == "no" and r["label"] == "dog"
    ]
    assert sorted(names(browser)) == sorted(row["image"] for row in chosen) and 10 < len(chosen) < 240
    assert (
        browser.run("document.getElementById('count').textContent")
        == f"{len(chosen)} of 1000 images shown here, of 1000 in all"
    )
    choose(browser, set="", predicted="", right="", label="")


@pytest.mark.parametrize("share", [0, 20, 95, 100])
def test_answers_below_a_threshold(browser, rows, share):
    choose(browser, answer_by="teacher total_variance", threshold=str(share))
    inside = [row["teacher total_variance"] for row in rows if row["set"] == "pets"]
    threshold = np.sort(inside)[round(len(inside) * share / 100) - 1] if share else -1
    lines = browser.run(
        "[...document.querySelectorAll('#answers tr')].map(r => [...r.children].map(c => c.textContent))"
    )[1:]
    for line, (name, count) in zip(lines, COUNTS.items()):
        answered = [row for row in rows if row["set"] == name and row["teacher total_variance"] <= threshold]
        wrong = [row["right"] == "no" for row in answered if row["right"]]
        error = f"{100 * np.mean(wrong):.1f}%" if wrong else "–"
        assert line == [name, str(count), str(len(answered)), f"{100 * len(answered) / count:.1f}%", error]


def test_an_image_in_detail(browser, rows):
    choose(browser, sort="student total_variance")
    browser.run("document.querySelector('#grid .image').focus()")
    browser.key("ArrowRight")
    row = sorted(rows, key=lambda r: r["total_variance"], reverse=True)[1]
    text = browser.run("document.getElementById('detail').innerText")
    assert row["image"] in text and f"student: {row['class']}" in text and f"teacher: {row['teacher class']}" in text
    for start in report.WHO.values():
        assert all(f"{row[start + measure]:.3f}" in text for measure in MEASURE_NAMES)
    found = dict(re.findall(r"(\S+)\s+([\d.]+% / [\d.]+%)", text))
    assert found == {c: f"{100 * row[f'p({c})']:.1f}% / {100 * row[f'teacher p({c})']:.1f}%" for c in CLASSES}
    assert f"{row['precision'] * row['p(cat)']:.3f}" in text


@pytest.mark.parametrize("number, name", [*enumerate(COUNTS)])
def test_an_image_is_the_part_of_its_sets_sheet_at_its_place(browser, number, name):
    choose(browser, set=str(number))
    places = browser.run(
        "[...document.querySelectorAll('#grid .image')].map(e => getComputedStyle(e).backgroundPosition)"
    )
    for image, place in zip(names(browser), places):
        line, column = divmod(int(Path(image).stem), 40)
        assert place == f"{-48 * column}px {-48 * line}px".replace("-0px", "0px")
    assert browser.run(f"document.querySelector('#grid .image').classList.contains('sheet{number}')")
    choose(browser, set="")


def test_a_report_of_predictions_alone(tmp_path, rows, browser, monkeypatch):
    """No sets, no labels, no teacher; a sample of the images."""
    left_out = (
        "set",
        "label",
        "right",
        *(f"p({c})" for c in CLASSES),
    )  # probabilities: as if there were very many classes
    few = [{k: v for k, v in row.items() if not k.startswith("teacher") and k not in left_out} for row in rows]
    many = [row | {"image": f"{i}.png"} for i, row in enumerate(3 * few)]
    with open(tmp_path / "p.csv", "w", newline="") as file:
        table = csv.DictWriter(file, many[0])
        table.writeheader()
        table.writerows(many)
    monkeypatch.setattr(report, "SHOWN", 2000)

    def pixels(name: str, places: list[int], names: list[str]) -> np.ndarray:
        return np.zeros((len(places), 8, 8, 1), np.uint8)

    report.write(tmp_path / "p.html", tmp_path / "p.csv", CLASSES, pixels, "photos", who="network")
    browser.open((tmp_path / "p.html").as_uri())
    assert (
        browser.run("document.getElementById('count').textContent")
        == "2000 of 2000 images shown here, of 3000 in all (a random sample)"
    )
    assert browser.run(
        "document.getElementById('right').parentElement.hidden && document.getElementById('set').parentElement.hidden"
    )
    assert browser.run("document.getElementById('bars')") is None
    assert browser.run("document.title") == "photos"
    assert browser.run("document.getElementById('sort').options[0].textContent").startswith(
        "network: predictive entropy"
    )
    assert browser.run("document.querySelectorAll('#grid [tabindex=\"0\"]').length") == 1
    browser.run("document.getElementById('more').click()")
    assert browser.run("[...document.getElementById('grid').children].indexOf(document.activeElement)") == 240
    assert browser.run("document.querySelectorAll('#grid [tabindex=\"0\"]').length") == 1
    assert not any(
        "teacher" in choice
        for choice in browser.run("[...document.querySelectorAll('option')].map(o => o.textContent)")
    )
    assert (tmp_path / "p.html").stat().st_size < 1e6
