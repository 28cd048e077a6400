"""Rename keys and settings in results/ to the names of this version; run once from the project's root."""

import json
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open

from training import artifact

KEYS = {
    "floor_pearson": "baseline_pearson",
    "floor_head_pearson": "last_layer_pearson",
    "limit_pearson": "noise_ceiling",
    "repeatability_pearson": "split_half_pearson",
    "repeatability_spearman": "split_half_spearman",
}
GONE = {
    "teacher": ["compile"],
    "student": ["compile"],
    "sampling": ["dtype", "keep_samples", "batch_size"],
    "evaluation": ["dtype", "batch_size", "speed_images", "speed_passes", "shifted_passes"],
}


def section(name: str, values: dict[str, Any]) -> None:
    """Rename and drop settings of one section."""
    for key in GONE.get(name, ()):
        values.pop(key, None)
    options = values.get("options")
    if name == "student" and isinstance(options, dict):
        if options.get("head") == "points":
            options["head"] = "cubature"
        if "loss" in options:
            options["objective"] = options.pop("loss")
    if name == "teacher" and values.get("method") == "head_dropout":
        values["method"] = "last_layer_dropout"


def renamed(value: Any) -> Any:
    """Nested values with today's names."""
    if isinstance(value, list):
        return [renamed(part) for part in value]
    if not isinstance(value, dict):
        return value
    for name, part in value.items():
        if name in GONE and isinstance(part, dict):
            section(name, part)
    if value.get("teacher") == "head_dropout":
        value["teacher"] = "last_layer_dropout"
    return {KEYS.get(name, name): renamed(part) for name, part in value.items()}


for path in sorted(Path("results").glob("**/*")):
    if path.suffix == ".json":
        before = json.loads(path.read_text())
        text = json.dumps(renamed(before), indent=1, allow_nan=False) + "\n"
        if text != path.read_text():
            path.write_text(text)
    elif path.name == "config.yaml":
        path.write_text(yaml.safe_dump(renamed(yaml.safe_load(path.read_text())), sort_keys=False))
    elif path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            kind = file.metadata()["kind"]
        tensors, metadata = artifact.load(path, kind)
        artifact.save(path, kind, tensors, renamed(metadata))
