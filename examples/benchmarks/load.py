"""What it takes to open a packed model, against onnxruntime's own int8 of the same model.

Memory and time of processes that open the model, and then hear 10 s with it: the packed folder,
the same as a bundle, and both opened again from a cache. Sides run in turn; medians and their
ratios to int8 are printed. Processor time is what the process itself used, whatever else runs.

    python examples/benchmarks/load.py MODEL/ -o examples/results/load-whisper-base.csv
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_files import csv_path, write_result

from mqtool.bundles.package import write_package
from mqtool.evaluation.onnxruntime_int8 import quantize_with_onnxruntime
from mqtool.model.folder import ModelFolder
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe

OPEN = """
import json, sys, time
from pathlib import Path

import numpy, onnxruntime
from mqruntime.recognition import Recognizer
from mqtool.evaluation.measure import typical_noise

def peak_mb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6

model, cache = Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None
before, wall, cpu = peak_mb(), time.perf_counter(), time.process_time()
recognizer = Recognizer.open(model, threads=1, cache=cache)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
opened = peak_mb()
recognizer.transcribe(typical_noise(recognizer))
print(json.dumps({
    "load_ms": 1000 * wall,
    "load_cpu_ms": 1000 * cpu,
    "load_peak_mb": opened - before,
    "load_and_run_peak_rss_mb": peak_mb(),
    "cache_bytes": recognizer.cache_bytes,
}))
"""


def pack_uniformly(model: Path, bits: int, target: Path) -> None:
    """Write the model with every layer at `bits`."""
    quantizer = Quantizer(ModelFolder.open(model))
    quantizer.pack(quantizer.plan_of_width(Recipe("uniform"), bits), target)


def opened(*arguments: Path) -> dict[str, float]:
    """Figures of one process."""
    command = [sys.executable, "-c", OPEN, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="float model folder")
    parser.add_argument("--bits", type=int, default=6)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-o", "--output", type=csv_path)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        quantize_with_onnxruntime(arguments.model, top / "int8")
        pack_uniformly(arguments.model, arguments.bits, top / "packed")
        write_package(top / "packed", top / "app.mqz", golden=False)
        sides = {
            "onnxruntime int8": [top / "int8"],
            "packed folder": [top / "packed"],
            "bundle": [top / "app.mqz"],
            "packed folder, cached": [top / "packed", top / "cache"],
            "bundle, cached": [top / "app.mqz", top / "cache"],
        }
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for run in range(arguments.runs + 1):
            for side, paths in sides.items():
                figures = opened(*paths)
                if run:  # the first one fills page and model caches
                    runs[side].append(figures)
    result = {
        side: {key: median(figures[key] for figures in found) for key in found[0]}
        for side, found in runs.items()
    }
    int8 = result["onnxruntime int8"]
    for side, figures in result.items():
        print(side)
        for key in int8:
            if key != "cache_bytes":
                print(f"  {key:<26}{figures[key]:>9.0f}  {figures[key] / int8[key]:.2f} x int8")
        if figures["cache_bytes"]:
            print(f"  {'cache_bytes':<26}{figures['cache_bytes']:>13,.0f}")
    if arguments.output:
        rows = [{"opened": side, **figures} for side, figures in result.items()]
        write_result(arguments.output, rows, bits=arguments.bits, medians_of_runs=arguments.runs)


if __name__ == "__main__":
    main()
