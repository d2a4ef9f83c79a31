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
from mqtool.packing.size import PackOptions, SizeModel
from mqtool.packing.write import pack
from mqtool.planning.calibration import calibrate
from mqtool.planning.make import allocate, plan_of

FORMS = {
    "dynamic": PackOptions("dynamic"),
    "static, 8 bits": PackOptions("static"),
    "static, 6 bits": PackOptions("static", act_bits=6),
    "static, 8 bits, twin ranges": PackOptions("static", twin_ranges=True),
    "static, 12 bits": PackOptions("static", act_bits=12),
}


def main() -> None:
    """Pack in every form, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    allocation = allocate(folder, [], method="uniform", rounding="nearest")
    widths = {layer.name: (8, 0) for layer in folder.layers}
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, (name, form) in enumerate(FORMS.items()):
            plan = plan_of(SizeModel(folder, form), allocation, widths, 2 * folder.bytes)
            packed = Path(scratch) / str(number)
            pack(folder, plan, packed, ranges=calibrate(folder, plan, [], "none"))
            run = {"threads": options.threads, "runs": options.runs}
            row = {"name": name, "float": bench_against(packed, options.model, **run)}
            if number:
                row["dynamic"] = bench_against(packed, Path(scratch) / "0", **run)
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.json:
        command = "python " + " ".join(sys.argv)
        result = {"command": command, "date": date.today().isoformat(), "rows": rows}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
