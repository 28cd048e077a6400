"""Rename the keys of committed results: worth in passes → equivalent passes; the limits of families go."""
import json
from pathlib import Path

def convert(value):
    if isinstance(value, list):
        return [convert(v) for v in value]
    if not isinstance(value, dict):
        return value
    value = {key: convert(v) for key, v in value.items() if key not in ("family_limit_pearson", "families")}
    if "worth_passes" in value:
        passes, above, below, ci = (value.pop(key) for key in ("worth_passes", "worth_above", "worth_below", "worth_ci"))
        value |= {"equivalent_passes": above or (0.0 if below else passes), "equivalent_passes_ci": ci, "censored": above is not None}
    return value

for path in sorted(Path("results").glob("*/*.json")):
    if path.name == "summary.json":
        continue
    text = path.read_text()
    path.write_text(json.dumps(convert(json.loads(text)), indent=1) + "\n")
