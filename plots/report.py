"""The report of a run: one HTML file with results, plots and images, which needs no server. It is made from
predictions.csv."""

import base64
import csv
import html
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from numpy import ndarray
from PIL import Image

from plots.style import MEASURE_NAMES, axis_label
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
    text: str = "",
    plots: Path | None = None,
    who: str = "student",
) -> None:
    """Write the report on predictions.csv, a row for each image. text: Markdown that comes first. plots: a folder of
    PNGs. who: whose the first predictions of a row are."""
    with open(predictions, newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = list(csv.DictReader(file))
    sets = list(dict.fromkeys(row.get("set", "") for row in rows))
    places = {name: [i for i, row in enumerate(rows) if row.get("set", "") == name] for name in sets}
    rng = np.random.default_rng(0)
    most = SHOWN // max(3, len(sets)) if len(sets) > 1 else SHOWN
    chosen = {name: sorted(rng.permutation(len(of)).tolist()[:most]) for name, of in places.items()}
    sheets = [sheet(pixels(name, of, [rows[places[name][i]]["image"] for i in of])) for name, of in chosen.items()]
    page = Environment(loader=FileSystemLoader(HERE), autoescape=True).get_template("report.html")
    artifact.write_text(
        path,
        page.render(
            title=title,
            text=markdown(text),
            plots=[
                (plot.stem.replace("_", " "), inline(plot.read_bytes(), "png")) for plot in sorted(plots.glob("*.png"))
            ]
            if plots
            else [],
            sheets=sheets,
            columns=COLUMNS,
            size=THUMBNAIL,
            data=json.dumps(
                {"said": {"student": who, "teacher": "teacher"}} | contents(rows, sets, places, chosen, classes)
            ).replace("<", "\\u003c"),
            script=(HERE / "report.js").read_text(encoding="utf-8"),
        ),
    )


def contents(
    rows: list[dict[str, str]],
    sets: list[str],
    places: dict[str, list[int]],
    chosen: dict[str, list[int]],
    classes: list[str],
) -> dict[str, Any]:
    """What the page computes with: numbers of all images, in the order of `rows`; more of those that are shown."""
    who = {name: start for name, start in WHO.items() if rows and f"{start}class" in rows[0]}
    labels = sorted({row["label"] for row in rows if row.get("label")})
    shown = [places[name][i] for name in sets for i in chosen[name]]

    parents = [str(Path(row["image"]).parent) for row in rows]
    folder = f"{os.path.commonpath(parents)}/" if parents else ""

    def numbers(column: str, of: list[int] | range) -> str:
        return encoded(np.array([float(rows[i][column]) for i in of], np.float32))

    def known(column: str, names: list[str], of: list[int] | range) -> str:
        place = {name: number for number, name in enumerate(names)}
        return encoded(np.array([place.get(rows[i].get(column, ""), -1) for i in of], np.int16))

    everything = range(len(rows))
    detailed = who if rows and f"p({classes[0]})" in rows[0] else {}
    probabilities = {
        w: [np.array([float(rows[i][f"{start}p({c})"]) for i in shown]) for c in classes]
        for w, start in detailed.items()
    }
    return {
        "classes": classes,
        "labels": labels,
        "sets": sets,
        "columns": COLUMNS,
        "size": THUMBNAIL,
        "measures": {measure: axis_label(measure) for measure in MEASURE_NAMES},
        "set": known("set", sets, everything),
        "label": known("label", labels, everything),
        "right": known("right", ["no", "yes"], everything),
        "predicted": {w: known(f"{start}class", classes, everything) for w, start in who.items()},
        "values": {w: {m: numbers(start + m, everything) for m in MEASURE_NAMES} for w, start in who.items()},
        "shown": encoded(np.array(shown, np.uint32)),
        "precision": numbers("precision", shown) if rows and "precision" in rows[0] else None,
        "names": [rows[i]["image"].removeprefix(folder) for i in shown],
        "probabilities": {
            w: encoded((65535 * np.stack(p, 1)).round().astype(np.uint16)) for w, p in probabilities.items()
        },
    }


def encoded(array: ndarray) -> str:
    """The bytes of an array as text."""
    return base64.b64encode(array.tobytes()).decode()


def inline(content: bytes, kind: str) -> str:
    """An image as an address that contains it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def sheet(images: ndarray) -> str:
    """All images uint8 [N, H, W, C] in one, COLUMNS side by side, each THUMBNAIL wide, or as wide as it is if that is
    smaller."""
    count, height, width, channels = images.shape
    lines = -(-count // COLUMNS) or 1
    cells = np.zeros((lines * COLUMNS, height, width, channels), np.uint8)
    cells[:count] = images
    table = (
        cells.reshape(lines, COLUMNS, height, width, channels)
        .transpose(0, 2, 1, 3, 4)
        .reshape(lines * height, COLUMNS * width, channels)
    )
    picture = Image.fromarray(table if channels == 3 else table[..., 0])
    if width > THUMBNAIL:
        picture = picture.resize((COLUMNS * THUMBNAIL, lines * THUMBNAIL * height // width))
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "webp", quality=75)
    return inline(buffer.getvalue(), "webp")


def markdown(text: str) -> str:
    """HTML of the paragraphs, lists, tables and bold words of a run's table.md."""
    parts = []
    for block in filter(None, text.strip().split("\n\n")):
        lines = [
            re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", re.sub(r"(?<!\*)\*([^*]+)\*(?!\*)", r"<i>\1</i>", html.escape(line)))
            for line in block.split("\n")
        ]
        if lines[0].startswith("|"):
            head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
            cells = [
                "".join(f"<{tag}>{cell}</{tag}>" for cell in row)
                for tag, row in [("th", head), *(("td", row) for row in body)]
            ]
            parts.append('<div class="wide"><table>' + "".join(f"<tr>{row}</tr>" for row in cells) + "</table></div>")
        elif lines[0].startswith("- "):
            parts.append("<ul>" + "".join(f"<li>{line[2:]}</li>" for line in lines) + "</ul>")
        else:
            parts.append("<p>" + "<br>".join(lines) + "</p>")
    return "\n".join(parts)
