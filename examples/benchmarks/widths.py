"""Speed and load memory of a packed model at every width, against float and onnxruntime's int8.

All layers get one width. Both sides run in turn in one process and the ratios of their medians are
printed; load memory is the peak of a process that only opens the model.

    python examples/benchmarks/widths.py MODEL/ -o examples/results/widths-whisper-tiny.en.csv
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_files import csv_path, part_rows, write_result

from mqtool.evaluation.bench import bench_against
from mqtool.evaluation.onnxruntime_int8 import quantize_with_onnxruntime
from mqtool.model.folder import ModelFolder
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe

LOAD = """
import sys
from pathlib import Path

import numpy, onnxruntime
from mqruntime.recognition import Recognizer

def peak_kb():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])

before = peak_kb()
Recognizer.open(Path(sys.argv[1]))
print((peak_kb() - before) * 1024)
"""


def load_peak(model: Path) -> int:
    """Bytes by which opening a model raises the peak memory of a process."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(model)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def main() -> None:
    """Pack at every width, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--widths", default="2,3,4,5,6,7,8")
    parser.add_argument("--rounding", default="grouped")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("-o", "--output", type=csv_path)
    options = parser.parse_args()
    folder = ModelFolder.open(options.model)
    quantizer = Quantizer(folder)
    recipe = Recipe("uniform", rounding=options.rounding)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        int8 = Path(scratch) / "int8"
        quantize_with_onnxruntime(options.model, int8)
        run = {"threads": options.threads, "runs": options.runs}
        facts = {"weights": "onnxruntime int8", "load_peak_bytes": load_peak(int8)}
        facts["against"] = "float"
        rows += part_rows(facts, bench_against(int8, options.model, **run))
        for bits in map(int, options.widths.split(",")):
            packed = Path(scratch) / f"packed{bits}"
            quantizer.pack(quantizer.plan_of_width(recipe, bits), packed)
            facts = {"weights": f"{bits} bits", "load_peak_bytes": load_peak(packed)}
            for against, other in {"float": options.model, "onnxruntime int8": int8}.items():
                rows += part_rows(facts | {"against": against}, bench_against(packed, other, **run))
                print(rows[-1], file=sys.stderr)
    if options.output:
        write_result(options.output, rows)


if __name__ == "__main__":
    main()
