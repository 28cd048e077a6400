"""The report of a run: one HTML file with results, plots and images, which needs no server. It is made from
predictions.csv."""

import base64
import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader
from numpy import ndarray
from PIL import Image, ImageOps

from plots.about import about
from plots.style import MEASURE_NAMES, axis_label
from plots.table import Part
from training import artifact

HERE = Path(__file__).parent
SHOWN = 6000  # images that are shown, of all sets together; at most a third of them of one set of several
THUMBNAIL = 48  # the largest side of an image that is shown, in pixels
COLUMNS = 40  # images side by side in a sheet
WHO = {"student": "", "teacher": "teacher "}  # how their columns in predictions.csv begin

Pixels = Callable[[str, list[int], list[str]], ndarray]
"""(name of a set, places of images in it, their names in predictions.csv) → their pixels, uint8 [N, H, W, C]."""


def write(
    path: Path,
    predictions: Path,
    classes: list[str],
    pixels: Pixels,
    title: str,
    results: Sequence[Part] = (),
    plots: Path | None = None,
    who: str = "student",
    thresholds: dict[str, float] | None = None,
) -> None:
    """Write the report on predictions.csv, a row for each image. results: the first is shown, the others are folded up.
    plots: a folder of an evaluation's PNGs. who: whose the first predictions of a row are. thresholds: of each measure,
    where the slider starts; default: where 95% of the first set's images are answered."""
    with open(predictions, newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *lines = csv.reader(file)
    table = dict(zip(header, np.array(lines, object).reshape(-1, len(header)).T))
    sets = list(dict.fromkeys(table.setdefault("set", np.full(len(lines), "", object))))
    most = SHOWN // max(3, len(sets)) if len(sets) > 1 else SHOWN
    rng = np.random.default_rng(0)
    shown, sheets = [], []  # rows of the table; images
    for name in sets:
        (rows,) = np.nonzero(table["set"] == name)
        chosen = np.sort(rng.permutation(len(rows))[:most])
        shown += rows[chosen].tolist()
        sheets.append(sheet(pixels(name, chosen.tolist(), table["image"][rows[chosen]].tolist())))
    data = {"said": {"student": who, "teacher": "teacher"}, "sets": sets, "thresholds": thresholds or {}}
    data |= contents(table, shown, classes)
    figures = sorted(plots.glob("*.png"), key=lambda plot: about(plot.stem)[0]) if plots else []
    page = (
        Environment(loader=FileSystemLoader(HERE), autoescape=True)
        .get_template("report.html")
        .render(
            title=title,
            results=results,
            plots=[(about(plot.stem)[1], inline(plot.read_bytes(), "png")) for plot in figures],
            sheets=sheets,
            columns=COLUMNS,
            size=THUMBNAIL,
            data=json.dumps(data).replace("<", "\\u003c"),
            script=(HERE / "report.js").read_text(encoding="utf-8"),
        )
    )
    artifact.write_text(path, page)


def contents(table: dict[str, ndarray], shown: list[int], classes: list[str]) -> dict:
    """What the page computes with: numbers of all images, and more of those that are shown."""
    images = table["image"].tolist()
    folder = f"{os.path.commonpath([str(Path(image).parent) for image in images])}/" if images else ""
    labels = sorted(set(table.get("label", [])) - {""})
    who = {name: start for name, start in WHO.items() if f"{start}class" in table}

    def numbers(*columns: str) -> ndarray:
        return np.stack([table[column] for column in columns], 1).astype(np.float32)

    def known(column: str, names: list[str]) -> str:
        place = {name: number for number, name in enumerate(names)}
        return encoded(np.array([place.get(cell, -1) for cell in table.get(column, [""] * len(images))], np.int16))

    return {
        "classes": classes,
        "labels": labels,
        "columns": COLUMNS,
        "size": THUMBNAIL,
        "measures": {measure: axis_label(measure) for measure in MEASURE_NAMES},
        "set": known("set", list(dict.fromkeys(table["set"]))),
        "label": known("label", labels),
        "right": known("right", ["no", "yes"]),
        "predicted": {w: known(f"{start}class", classes) for w, start in who.items()},
        "values": {w: {m: encoded(numbers(start + m)) for m in MEASURE_NAMES} for w, start in who.items()},
        "shown": encoded(np.array(shown, np.uint32)),
        "precision": encoded(numbers("precision")[shown]) if "precision" in table else None,
        "names": [images[place].removeprefix(folder) for place in shown],
        "probabilities": {
            w: encoded((65535 * numbers(*(f"{start}p({c})" for c in classes))[shown]).round().astype(np.uint16))
            for w, start in who.items()
            if f"{start}p({classes[0]})" in table
        },
    }


def encoded(array: ndarray) -> str:
    """The bytes of an array as text."""
    return base64.b64encode(array.tobytes()).decode()


def inline(content: bytes, kind: str) -> str:
    """An image as an address that contains it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def sheet(images: ndarray) -> str:
    """All images uint8 [N, H, W, C] in one, COLUMNS side by side, each in a square of THUMBNAIL pixels, or as large as
    it is if that is smaller."""
    if images.shape[-1] not in (1, 3):  # vectors: their mean
        images = images.mean(-1, keepdims=True).astype(np.uint8)
    count, height, width, _ = images.shape
    side = min(max(height, width), THUMBNAIL)
    picture = Image.new("RGB", (COLUMNS * side, (-(-count // COLUMNS) or 1) * side))
    for place, image in enumerate(np.broadcast_to(images, (count, height, width, 3))):  # grey: the same in each channel
        line, column = divmod(place, COLUMNS)
        picture.paste(ImageOps.pad(Image.fromarray(image), (side, side)), (column * side, line * side))
    buffer = io.BytesIO()
    picture.save(buffer, "webp", quality=75)
    return inline(buffer.getvalue(), "webp")
