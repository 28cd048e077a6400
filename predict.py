"""Predict classes, probabilities and uncertainties of new images with the trained student of a run.

    python predict.py --run runs/digits --images photos/ --out predictions.csv
    python predict.py --run runs/digits --images photos/ --report             # also predictions.html, a page to look at
    python predict.py --run runs/digits --images photos/ --teacher-passes 16  # with its teacher, by MC-dropout

Images (png, jpg, jpeg, webp, bmp, tif, gif, in any folder below --images, or one file) are resized as in the student's
training. They are streamed, so memory does not grow with their number. A broken image is skipped, and a line names it.

The columns: `class`, the most probable one. `answer`: yes if the predictive entropy is as low as it is for 95% of the
in-distribution test images. `probability`: of the class. The uncertainties: predictive entropy = everything; mutual
information and total variance = epistemic, what the network does not know; expected entropy and entropy - variance =
aleatoric, what nobody can know from the image. Entropies and information are in nats. `precision`: the sum of a
Dirichlet's concentrations; the larger it is, the less the probabilities vary. `p(class)`: of each class.
"""

from configs.start import before_imports

if __name__ == "__main__":
    before_imports()

import argparse
from pathlib import Path

import numpy as np

from configs.cli import config_of_run
from configs.errors import UserError
from data.folder import SUFFIXES, counts, decode, files_below
from methods.prediction import write_csv
from methods.student import load_student
from methods.teacher import load_teacher
from plots import report
from training import script
from training.compute import Compute, choose_device


def main() -> None:
    """Read the options, predict batch by batch, and write the CSV file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", required=True, type=Path, help="folder of a run with a trained student, such as runs/digits"
    )
    parser.add_argument("--images", required=True, type=Path, help="folder of images, or one image")
    parser.add_argument("--out", type=Path, default="predictions.csv", help="CSV file to write (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
    parser.add_argument(
        "--teacher-passes",
        type=int,
        help="use this many passes of the run's teacher instead of its student; best is a multiple of 16 (docs/use.md)",
    )
    parser.add_argument(
        "--report", action="store_true", help="also write a page with images and uncertainties, beside the CSV file"
    )
    options = parser.parse_args()
    if not options.images.exists():
        raise UserError(f"--images: no folder or file {options.images}")
    if options.teacher_passes is not None and options.teacher_passes < 2:
        raise UserError(f"--teacher-passes: {options.teacher_passes} is less than two")
    if options.out.suffix.lower() in SUFFIXES:
        raise UserError(f"--out: {options.out} is the name of an image; name a CSV file")
    if options.report and options.out.suffix == ".html":
        raise UserError(f"--out: {options.out} is the CSV file's name; the report gets the same name with .html")

    device, thresholds = choose_device(options.device), {}
    if options.teacher_passes is None:
        model = load_student(options.run, device)
        thresholds = model.about.get("thresholds", {})
        rows = model.predict(options.images)
    else:
        model = load_teacher(config_of_run(options.run), Compute(device, "float32"))
        rows = model.predict(options.images, options.teacher_passes)
    predicted = write_csv(options.out, rows)
    if not predicted:
        raise UserError(f"--images: no readable image ({', '.join(sorted(SUFFIXES))}) below {options.images}")
    images, others = counts(files_below(options.images))
    print(f"{predicted} images: {options.out} ({images - predicted} broken images and {others} other files left out)")
    if thresholds:
        print(f"answer: yes up to a predictive entropy of {model.threshold:.3g} nats; the other columns: --help")
    elif options.teacher_passes is None:
        print("no column `answer`: it needs a threshold, which evaluate.py finds and stores with the student")
    if options.report:
        page, a = options.out.with_suffix(".html"), model.architecture

        def pixels(name: str, places: list[int], paths: list[str]) -> np.ndarray:
            return np.stack([decode(Path(path), (report.THUMBNAIL, report.THUMBNAIL, 3), a.resize) for path in paths])

        title = f"{options.images} by {options.run}"
        report.write(
            page,
            options.out,
            model.classes,
            pixels,
            title,
            who="teacher" if options.teacher_passes else "student",
            thresholds=thresholds,
        )
        print(f"report: {page}")


if __name__ == "__main__":
    script.guard(main)
