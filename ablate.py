"""Change one thing of the recipe at a time, and measure what it is worth, on validation images and on synthetic shifts of them.

    python ablate.py --config configs/fidelity.yaml

Trains one teacher, which never sees the validation images, and a student for each of EXPERIMENTS; no test image and no
out-of-distribution image is touched. Writes results/<name>/experiments.json, a row an experiment as they come, and two figures. The same
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
from configs import artifact, cli, ranks
from configs.run import Run
from configs.schema import Config
from data.dataset import Dataset
from data.shifts import SHIFTS, shifted
from models import student, teacher
from models.inference import outputs_of
from plots.ablation import SHOWN, worth_in
from plots.style import PANELS, save
from uncertainty.cache import SampleCache
from uncertainty.distribution import measures_of
from uncertainty.reference import Reference

FIRST = "--student.averaging 0 --student.lr 5e-4 --student.batch_norm batch"  # what is usual
FEW = "--sampling.views [augmented,augmented]"
FOUR, SIXTEEN = ("--sampling.views [" + ",".join(n * ["augmented", "mixup", "cutmix", "strong"]) + "]" for n in (1, 4))
LAST_LAYER = "--student.head_lr 1e-2"
TV = "--student.matched [total_variance]"  # a Dirichlet can have the teacher's expected entropy or its total variance, not both
RANDOM = "--student.init random --student.lr 1e-3"
EXPERIMENTS = {  # title: what it changes of the config, as on the command line
    # From the first work's recipe to this one, a step at a time.
    "likelihood, last layer, from scratch": f"--student.method dirichlet_likelihood {LAST_LAYER} --student.init random {FEW} {FIRST}",
    "+ the teacher's weights": f"--student.method dirichlet_likelihood {LAST_LAYER} {FEW} {FIRST}",
    "+ moments for the likelihood": f"--student.method dirichlet_linear {LAST_LAYER} {TV} {FEW} {FIRST}",
    "+ a perceptron for the precision": f"--student.method dirichlet_precision {TV} {FEW} {FIRST}",
    "+ Gaussian logits": f"{FEW} {FIRST}",
    "+ mixup, CutMix and strong views": FIRST,
    "+ averaged weights": "--student.lr 5e-4 --student.batch_norm batch",
    "+ the teacher's batch norm": "--student.lr 5e-4",
    "+ a low learning rate: the recipe": "",
    "the recipe read as a Dirichlet": "--student.method dirichlet",
    # From the recipe, one thing at a time.
    "batch norm by batches": "--student.batch_norm batch",
    "half its learning rate": "--student.lr 5e-6",
    "twice its learning rate": "--student.lr 2e-5",
    "ten times its learning rate": "--student.lr 1e-4",
    "augmented views alone": FEW,
    "strong views alone": "--sampling.views [strong,strong]",
    "without strong views": "--sampling.views [augmented,mixup,cutmix,augmented,mixup,cutmix]",
    "total variance alone matched": TV,
    "covariance of rank 1": "--student.rank 1",
    "a perceptron for the precision alone": f"--student.method dirichlet_precision {TV}",
    "propagated variance for the perceptron": "--student.propagation true",
    "from scratch": RANDOM,
    "2 epochs": "--student.epochs 2",
    "8 epochs": "--student.epochs 8",
    "16 epochs": "--student.epochs 16",
    "8 epochs of 4 views, 16 passes": f"--student.epochs 8 {FOUR} --sampling.passes 16",
    "8 epochs of 16 views, 4 passes": f"--student.epochs 8 {SIXTEEN} --sampling.passes 4",
    "hidden layers of 64": "--student.hidden 64",
    "hidden layers of 256": "--student.hidden 256",
    "student of half the width, from scratch": f"--student.width 0.125 {RANDOM}",
    "student with two more convolutions (VGG-13)": "--student.network vgg13 --student.lr 2.5e-4",
    "another seed": "--student.seed 1",
}


def main(config: Config, overwrite: bool) -> None:
    """Teacher, references, one student after another, figures."""
    ranks.require_alone("ablate.py")
    folder = Path("results") / config.name
    file = folder / "experiments.json"
    train_teacher.main(config, overwrite=False)
    run = Run(config, "ablate")
    _, validation = data.load_train(config.data, config.split_seed, config.teacher.train_on_all)
    trained = teacher.load_teacher(run)
    cache = SampleCache(run, trained.sampler(config.teacher.method), trained.checksum)
    references = [Reference(cache, dataset) for dataset in evaluation_sets(validation, config.seed)]

    written = json.loads(file.read_text()) if file.exists() and not overwrite else {"experiments": []}
    done = {row["experiment"] for row in written["experiments"]}
    written["provenance"] = run.provenance({r.dataset.name: r.dataset.fingerprint() for r in references})
    folder.mkdir(parents=True, exist_ok=True)
    for title, changes in EXPERIMENTS.items():
        if title in done:
            continue
        slug = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
        own = ["--name", f"{config.name}/{slug}", "--teacher_of", config.name]
        changed, _ = cli.parse([*sys.argv[1:], *shlex.split(changes), *own])
        train_student.main(changed, overwrite)
        written["experiments"].append(row_of(title, changes, changed, references))
        artifact.write_json(file, written)
        run.log(summary(written["experiments"][-1]))
    rows = [row for title in EXPERIMENTS for row in written["experiments"] if row["experiment"] == title]
    save(plots.worth_by_recipe(rows), folder / "worth_by_recipe.png")
    save(plots.worth_by_cost(rows), folder / "worth_by_cost.png")


def evaluation_sets(validation: Dataset, seed: int) -> list[Dataset]:
    """The validation images, and each of `SHIFTS` on its own share of them."""
    parts = torch.arange(len(validation)).tensor_split(len(SHIFTS))
    return [validation, *(shifted(validation.subset(part), kind, seed) for part, kind in zip(parts, SHIFTS))]


def row_of(title: str, changes: str, config: Config, references: list[Reference]) -> dict[str, Any]:
    """One experiment's entry in experiments.json."""
    run = Run(config, "ablate")
    model, distilled = student.load_distilled(run, teacher.load_teacher(run).checksum)
    sets = {}
    for reference in references:
        outputs = outputs_of(model.outputs, reference.dataset.images, run).cpu()
        sets[reference.dataset.name] = reference.judge(measures_of(model.distribution(outputs)), PANELS)
    return {
        "experiment": title,
        "changes": changes,
        "seed": config.student.seed,
        "information_scale": model.settings.information_scale,
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
