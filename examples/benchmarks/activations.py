"""Speed of a packed model in every form of activations, against float and against dynamic ones.

Weights have 8 bits and ranges are not calibrated: neither changes the time. Both sides run in turn
in one process and ratios of medians are printed.

    python examples/benchmarks/activations.py MODEL/ --json examples/results/activations-NAME.json
"""

import argparse
import json
import sys
import tempfile
from datetime import date
from pathlib import Path

from mqtool.evaluation.bench import bench_against
from mqtool.model.folder import ModelFolder
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe

ACTIVATIONS = {
    "dynamic": {"activations": "dynamic"},
    "static, 8 bits": {"activations": "static"},
    "static, 6 bits": {"activations": "static", "act_bits": 6},
    "static, 8 bits, twin ranges": {"activations": "static", "twin_ranges": True},
    "static, 12 bits": {"activations": "static", "act_bits": 12},
}


def main() -> None:
    """Pack with all kinds of activations, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    quantizer = Quantizer(folder)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, options_of_row) in enumerate(ACTIVATIONS.items()):
            recipe = Recipe("uniform", **options_of_row)
            packed = Path(scratch) / str(number)
            quantizer.pack(quantizer.plan_of_width(recipe, 8), packed, calibration="none")
            run = {"threads": options.threads, "runs": options.runs}
            row = {"name": name, "float": bench_against(packed, options.model, **run).to_json()}
            if number:
                row["dynamic"] = bench_against(packed, Path(scratch) / "0", **run).to_json()
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.json:
        command = "python " + " ".join(sys.argv)
        result = {"command": command, "date": date.today().isoformat(), "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
