"""What experiments share: the start, a trained teacher, measurements that are kept, and the files of a result."""

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from configs import cli
from configs.errors import UserError
from configs.schema import Config
from configs.start import before_imports
from methods.teacher import Teacher, load_teacher, members
from plots.cells import markdown
from plots.style import save
from train_teacher import train
from training import artifact, script
from training.compute import Compute, choose
from training.run import made_by
from uncertainty.mc_dropout import Plan, samples_of
from uncertainty.samples import Samples

OTHERS = ("sets", "seeds", "root")  # settings that one result of several does not depend on

Tables = dict[str, dict[str, dict]]  # {caption: {row: {column: text, number or None}}}


def train_teacher(config: Config) -> tuple[Teacher, Compute]:
    """The trained teacher of a config, on its device; its networks are trained if their files are missing."""
    for member in members(config).values() if config.teacher_of is None else ():
        train(member)
    compute = choose(config.device, config.dtype)
    return load_teacher(config, compute), compute


def sample_images(teacher: Teacher, images: Tensor, passes: int, key: tuple, compute: Compute) -> Samples:
    """T passes with dropout of images [N, H, W, C]."""
    sampler, _ = teacher.samplers("mc_dropout")
    with compute.autocast():
        return samples_of(sampler, images.to(compute.device), Plan(passes, "grouped", 256, key))


def start(experiment: Callable[[Any], None], settings: type, description: str) -> None:
    """Run an experiment with the settings of the command line."""
    before_imports(description, (), settings)

    def work() -> None:
        chosen, overwrite = cli.parse(sys.argv[1:], settings, None)
        if overwrite:
            raise UserError("--overwrite: an experiment measures anew what is missing in runs/; delete it there")
        experiment(chosen)

    script.guard(work)


def provenance(settings: Any, device: str = "auto", dtype: str = "auto") -> dict:
    """Where a record comes from: settings, command, commit and device."""
    return {"settings": asdict(settings), "provenance": made_by(str(choose(device, dtype)))}


def kept(file: Path, settings: Any, measure: Callable[[], dict]) -> dict:
    """The result in `file` if the same settings made it; else a new one, which is written there. How many sets and
    seeds there are beside it does not matter."""

    def decisive(given: dict) -> dict:
        return {key: value for key, value in given.items() if key not in OTHERS}

    made = artifact.read_json(file) if file.exists() else {}
    if decisive(made.get("settings", {})) != decisive(asdict(settings)):
        made = artifact.write_json(file, {"settings": asdict(settings), "result": measure()})
    return made["result"]


def write(name: str, record: dict, tables: Callable[[dict], Tables], **figures: Figure) -> None:
    """Write results/<name>/: the record, its page, and figures."""
    folder = Path("results") / name
    for title, figure in figures.items():
        save(figure, folder / f"{title}.png")
    text = page(name, artifact.write_json(folder / f"{name}.json", record), tables)
    artifact.write_text(folder / "README.md", text)
    print(text)


def page(name: str, record: dict, tables: Callable[[dict], Tables]) -> str:
    """A page: what made the record, its tables {caption: rows}, and the figures in its folder."""
    made = [of["provenance"] for of in (record, *record.values()) if "provenance" in of]  # parts can have their own
    origins = [f"`{of['command']}` (commit {of['commit']}; {of['device']})" for of in made]
    parts = [f"# {name}", f"Made by {', '.join(dict.fromkeys(origins))}."]
    for caption, rows in tables(record).items():
        parts.append(f"{caption}:\n\n{table(rows)}")
    parts += [f"![{file.stem}]({file.name})" for file in sorted(Path("results", name).glob("*.png"))]
    return "\n\n".join(parts) + "\n"


def table(rows: dict[str, dict]) -> str:
    """A Markdown table: a line for each row, a column for each key of the first row; numbers have three decimals."""
    lines = []
    for name, row in rows.items():
        lines.append([name, *(f"{cell:.3f}" if isinstance(cell, float) else str(cell or "-") for cell in row.values())])
    return markdown(["", *next(iter(rows.values()))], lines)


def plot_lines(title: str, xlabel: str, panels: dict[str, list[tuple]]) -> Figure:
    """A panel for each title, with lines (x, y, label, options of the line); the last panel has the legend."""
    figure = Figure(figsize=(3 + 3.5 * len(panels), 4))
    figure.suptitle(title)
    for axis, (name, lines) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for x, y, label, options in lines:
            axis.plot(x, y, marker="o", markersize=4, label=label, **options)
        axis.set(title=name, xlabel=xlabel)
    axis.legend()
    return figure
