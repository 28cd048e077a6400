"""Change one thing of the recipe at a time, and measure what it is worth, on validation images and on synthetic shifts of them.

    python ablate.py --config configs/fidelity.yaml

Trains one teacher, which never sees the validation images, and a student for each of EXPERIMENTS; no test image and no
out-of-distribution image is touched. Writes results/<name>/experiments.json, a row an experiment as they come, a table and two figures. The same
command again goes on with the experiments that are not there; --overwrite starts anew.
"""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import torch

import data
import plots
import train_student
import train_teacher
from configs.schema import Config
from data.dataset import Dataset
from data.shifts import SHIFTS, shifted
from methods import student, teacher
from models.inference import outputs_of
from plots.ablation import SHOWN, table, worth_in
from plots.style import PANELS, save
from training import artifact, cli, process_group
from training.compute import Compute
from training.run import begin, provenance
from uncertainty.cache import SampleCache
from uncertainty.distribution import measures_of
from uncertainty.reference import Reference

AUGMENTED = "--sampling.views [augmented]"
EIGHT = "--sampling.views [" + ",".join(2 * ["augmented", "mixup", "cutmix", "strong"]) + "] --sampling.passes 8"
HEADS = ("points", "softplus")
EXPERIMENTS = {  # title: what it changes of the config, as on the command line
    "Truong 2019, from random weights": "--config configs/truong2019.yaml",
    "Truong 2019, from random weights, 100 epochs": "--config configs/truong2019.yaml --student.epochs 100",
    "Truong 2019, from the teacher's weights": "--config configs/truong2019_from_teacher.yaml",
    **{
        f"head {name}" + (f", seed {seed}" if seed else ""): f"--student.options.head {name} --student.seed {seed}"
        for seed in range(3)
        for name in HEADS
    },
    "head laplace_bridge": "--student.options.head laplace_bridge",
    "logit Gaussian": "--student.method logit_gaussian",
    # From the recipe, one thing at a time.
    "a weight of 4 for the mean": "--student.options.mean_weight 4",
    "a weight of 36 for the mean": "--student.options.mean_weight 36",
    "expected entropy matched": "--student.options.matched [expected_entropy]",
    "4 epochs of 8 views, 8 passes": f"--student.epochs 4 {EIGHT}",
    "16 epochs": "--student.epochs 16",
    "batch norm by batches": "--student.batch_norm batch",
    "a tenth of its learning rate": "--student.lr 1e-5",
    "ten times its learning rate": "--student.lr 1e-3",
    "augmented views alone": AUGMENTED,
    "without strong views": "--sampling.views [augmented,mixup,cutmix]",
    "factor of rank 3": "--student.options.rank 3",
    "propagated variance for the perceptron": "--student.propagation true",
    "from scratch": "--student.init random --student.lr 1e-3",
    "student of half the width, from scratch": "--student.width 0.125 --student.init random --student.lr 1e-3",
}


def main(config: Config, overwrite: bool) -> None:
    """Teacher, references, one student after another, figures."""
    process_group.require_alone("ablate.py")
    folder = Path("results") / config.name
    file = folder / "experiments.json"
    train_teacher.main(config, overwrite=False)
    run, compute = begin(config, "ablate")
    _, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    trained = teacher.load_teacher(config, compute)
    cache = SampleCache(config, run, compute, trained.sampler(config.teacher.method), trained.checksum)
    references = [Reference(cache, dataset) for dataset in evaluation_sets(validation, config.seed)]

    written = json.loads(file.read_text()) if file.exists() and not overwrite else {"experiments": []}
    done = {row["experiment"] for row in written["experiments"]}
    written["provenance"] = provenance(config, compute, {r.dataset.name: r.dataset.fingerprint() for r in references})
    folder.mkdir(parents=True, exist_ok=True)
    for title, changes in EXPERIMENTS.items():
        if title in done:
            continue
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        own = ["--name", f"{config.name}/{slug}", "--teacher_of", config.name]
        changed, _ = cli.parse([*sys.argv[1:], *shlex.split(changes), *own])
        train_student.main(changed, overwrite)
        written["experiments"].append(row_of(title, changes, changed, references, compute))
        artifact.write_json(file, written)
        run.log(summary(written["experiments"][-1]))
    rows = [row for title in EXPERIMENTS for row in written["experiments"] if row["experiment"] == title]
    (folder / "table.md").write_text(table(rows) + "\n")
    save(plots.worth_by_recipe(rows), folder / "worth_by_recipe.png")
    save(plots.worth_by_cost(rows), folder / "worth_by_cost.png")


def evaluation_sets(validation: Dataset, seed: int) -> list[Dataset]:
    """The validation images, and each of `SHIFTS` on its own share of them."""
    parts = torch.arange(len(validation)).tensor_split(len(SHIFTS))
    return [validation, *(shifted(validation.subset(part), kind, seed) for part, kind in zip(parts, SHIFTS))]


def row_of(title: str, changes: str, config: Config, references: list[Reference], compute: Compute) -> dict[str, Any]:
    """One experiment's entry in experiments.json."""
    model, distilled = student.load_distilled(config, compute, teacher.load_teacher(config, compute).checksum)
    sets = {}
    for reference in references:
        outputs = outputs_of(model.outputs, reference.dataset.images, compute).cpu()
        sets[reference.dataset.name] = reference.judge(measures_of(model.distribution(outputs)), PANELS)
    return {
        "experiment": title,
        "changes": changes,
        "seed": config.student.seed,
        "sampling_seconds": distilled["sampling_seconds"],
        "student_seconds": distilled["seconds"],
        "sets": sets,
    }


def summary(row: dict[str, Any]) -> str:
    """One line: worth of the two epistemic measures on the validation images and their shifts."""
    worths = [f"{name} {inside:.0f}, {shifted:.0f}" for name in SHOWN for inside, shifted in [worth_in(row, name)]]
    return f"{row['experiment']}: worth on validation images, on shifts: {'; '.join(worths)} ({row['student_seconds']:.0f} s)"


if __name__ == "__main__":
    cli.main(main, __doc__)
