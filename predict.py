"""Classes, probabilities and uncertainties of new images, by the trained student of a run.

    python predict.py --run runs/digits --images photos/ --out predictions.csv

Images (png, jpg, jpeg, webp, bmp, tif, in any folder below --images) are resized to what the student was trained on and streamed: memory
does not grow with their number. A broken image is skipped with a line that names it.
"""

import training  # noqa: F401  # isort: skip  # first: Ctrl-C during the other imports is one line then
import argparse
import csv
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from data.folder import SUFFIXES, decode, files_below, images_below
from methods.student import load_student
from training import artifact, cli
from training.bar import note, progress_bar
from training.compute import choose_device
from training.errors import UserError
from uncertainty.distribution import MEASURES


def main() -> None:
    """Student, images batch by batch, rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, help="folder of a run with a trained student, such as runs/digits")
    parser.add_argument("--images", required=True, type=Path, help="folder of images")
    parser.add_argument("--out", type=Path, default="predictions.csv", help="CSV file to write (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, help="images at once (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if there is one)")
    options = parser.parse_args()
    if not options.images.is_dir():
        raise UserError(f"--images: no folder {options.images}")
    if options.batch_size < 1:
        raise UserError(f"--batch-size: {options.batch_size} is not a positive number")

    device = choose_device(options.device)
    student = load_student(options.run, device)
    size, channels = student.architecture.size, student.architecture.channels

    def read(path: Path) -> np.ndarray | None:
        try:
            return decode(path, size, channels)
        except UserError as error:
            note(f"skipped: {error}")
            return None

    paths = images_below(options.images)
    predicted = skipped = 0
    with (
        artifact.whole(options.out) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ThreadPoolExecutor() as pool,
        progress_bar(unit="image") as bar,
    ):
        rows = csv.writer(file)
        rows.writerow(["image", "class", "probability", *MEASURES, *(f"p({name})" for name in student.classes)])
        while batch := list(islice(paths, options.batch_size)):
            kept = {path: image for path, image in zip(batch, pool.map(read, batch)) if image is not None}
            if kept:
                images = torch.from_numpy(np.stack(list(kept.values())))
                distribution = student(images.to(device))
                columns = torch.stack([distribution.max_probability, *(getattr(distribution, m) for m in MEASURES)], 1)
                numbers = torch.cat([columns, distribution.mean], 1).tolist()
                for path, label, values in zip(kept, distribution.predicted.tolist(), numbers):
                    rows.writerow([path, student.classes[label], *(f"{value:.6g}" for value in values)])
                predicted += len(kept)
            skipped += len(batch) - len(kept)
            bar.update(len(batch))
        if not predicted:
            raise UserError(f"--images: no readable image ({', '.join(sorted(SUFFIXES))}) below {options.images}")
    others = sum(1 for _ in files_below(options.images)) - predicted - skipped
    print(f"{predicted} images: {options.out} ({skipped} broken images and {others} other files left out)")


if __name__ == "__main__":
    cli.guard(main)
