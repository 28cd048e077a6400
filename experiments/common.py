"""What experiments share: the start, a trained teacher, measurements that are kept, and the files of a result."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from configs.schema import Config
from methods.teacher import Teacher, load_teacher, members
from plots.style import markdown, save
from train_teacher import train_network
from training import artifact, cli
from training.compute import Compute, choose
from training.run import made_by
from uncertainty.mc_dropout import Plan, samples_of
from uncertainty.samples import Samples


def train_teacher(config: Config) -> tuple[Teacher, Compute]:
    """The trained teacher of a config, on its device; its networks are trained if their files are missing."""
    for member in members(config).values() if config.teacher_of is None else ():
        train_network(member, overwrite=False)
    compute = choose(config.device, config.dtype)
    return load_teacher(config, compute), compute


def sample_images(teacher: Teacher, images: Tensor, passes: int, key: tuple, compute: Compute) -> Samples:
    """T passes with dropout of images [N, H, W, C]."""
    sampler, _ = teacher.samplers("mc_dropout")
    with compute.autocast():
        return samples_of(sampler, images, Plan(passes, "grouped", 256, key), 512)


def start(experiment: Callable[[Any], None], settings: type, description: str) -> None:
    """Run an experiment with the settings of the command line."""
    cli.guard(lambda: experiment(cli.read_settings(settings, description)))


def provenance(settings: Any, device: str = "auto", dtype: str = "auto") -> dict[str, Any]:
    """Where a record comes from: settings, command, commit and device."""
    return {"settings": asdict(settings), "provenance": made_by(str(choose(device, dtype)))}


def kept(file: Path, settings: Any, measure: Callable[[], dict]) -> dict:
    """The record in `file` if the same settings made it; else a new one, which is written there."""
    if file.exists() and artifact.read_json(file)["settings"] == asdict(settings):
        return artifact.read_json(file)
    return artifact.write_json(file, measure())


def write(name: str, record: dict, page: Callable[[dict], str], **figures: Figure) -> None:
    """Write results/<name>/: the record, its page, and figures."""
    folder = Path("results") / name
    for title, figure in figures.items():
        save(figure, folder / f"{title}.png")
    text = page(artifact.write_json(folder / f"{name}.json", record))
    artifact.write_text(folder / "README.md", text)
    print(text)


def table(rows: dict[str, dict[str, str | float | None]]) -> str:
    """A Markdown table: a line for each row, a column for each key of the first row; numbers have three decimals."""
    lines = []
    for name, row in rows.items():
        lines.append([name, *(f"{cell:.3f}" if isinstance(cell, float) else str(cell or "-") for cell in row.values())])
    return markdown(["", *next(iter(rows.values()))], lines)


def plot_lines(title: str, xlabel: str, panels: dict[str, list[tuple]]) -> Figure:
    """A panel for each title, with lines (x, y, label, options of the line); the last panel has the legend."""
    figure = Figure(figsize=(3 + 3.5 * len(panels), 4), layout="constrained")
    figure.suptitle(title)
    for axis, (name, lines) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for x, y, label, options in lines:
            axis.plot(x, y, marker="o", markersize=4, label=label, **options)
        axis.set(title=name, xlabel=xlabel, ylim=(0, None))
    axis.legend()
    return figure


def origin(record: dict) -> str:
    """The line of a page that says what made it."""
    made = record["provenance"]
    return f"Made by `{made['command']}` (commit {made['commit']}; {made['device']})."
