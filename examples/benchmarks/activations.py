"""Speed of a packed model in every form of activations, against float and against dynamic ones.

Weights have 8 bits and ranges are not calibrated: neither changes the time. Both sides run in turn
in one process and ratios of medians are printed.

    python examples/benchmarks/activations.py MODEL/ -o examples/results/activations-NAME.csv
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_files import csv_path, part_rows, write_result

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
    parser.add_argument("-o", "--output", type=csv_path)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    quantizer = Quantizer(folder)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, activations) in enumerate(ACTIVATIONS.items()):
            recipe = Recipe("uniform", **activations)
            packed = Path(scratch) / str(number)
            quantizer.pack(quantizer.plan_of_width(recipe, 8), packed, calibration="none")
            run = {"threads": options.threads, "runs": options.runs}
            others = {"float": options.model} | ({"dynamic": Path(scratch) / "0"} if number else {})
            for against, other in others.items():
                facts = {"activations": name, "against": against}
                rows += part_rows(facts, bench_against(packed, other, **run))
                print(json.dumps(rows[-1]), flush=True)
    if options.output:
        write_result(options.output, rows)


if __name__ == "__main__":
    main()
