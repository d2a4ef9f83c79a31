"""What it takes to open a packed model, against the stock folder that it stands for.

Memory and time of processes that open a model with coded weights, and then hear 10 s with it: what
`mqtool expand` makes of it, the packed folder, the same as a bundle, both opened again from a
cache, and onnxruntime's own int8 of the float model. Beside them the time that inflating alone
takes. Sides run in turn; medians and their ratios to the expanded folder are printed. Processor
time is what the process itself used, whatever else runs.

    python examples/benchmarks/load.py MODEL/ PACKED/ -o examples/results/load-whisper-base.csv
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

import mqtool
from mqtool.bundles.package import write_package
from mqtool.evaluation.onnxruntime_int8 import quantize_with_onnxruntime

STOCK = "expanded folder"

OPEN = """
import json, sys, time
from pathlib import Path

import numpy, onnxruntime
from mqruntime.recognition import Recognizer
from mqtool.evaluation.measure import typical_noise

def peak_mb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6

threads, model = int(sys.argv[1]), Path(sys.argv[2])
cache = Path(sys.argv[3]) if len(sys.argv) > 3 else None
before, wall, cpu = peak_mb(), time.perf_counter(), time.process_time()
recognizer = Recognizer.open(model, threads=threads, cache=cache)
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

INFLATE = """
import json, sys, time
from pathlib import Path

from mqruntime.bundle.manifest import Manifest
from mqruntime.engine.coded_data import inflate
from mqruntime.recognition import coded_graph

threads, model = int(sys.argv[1]), Path(sys.argv[2])
manifest = Manifest.read(model)
graphs = [coded_graph(model, manifest, role) for role in manifest.graphs]
streams = [graph.stream for graph in graphs]
wall, cpu = time.perf_counter(), time.process_time()
inflated = sum(len(inflate(stream, threads=threads)) for stream in streams)
wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps({"load_ms": 1000 * wall, "load_cpu_ms": 1000 * cpu, "int8_mb": inflated / 1e6}))
"""


def measured(script: str, threads: int, *paths: Path) -> dict[str, float]:
    """Figures of one process."""
    command = [sys.executable, "-c", script, str(threads), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="float model folder")
    parser.add_argument("packed", type=Path, help="the same, packed with coded weights")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=csv_path)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as name:
        top, packed = Path(name), arguments.packed
        mqtool.expand(packed, output=top / "stock")
        quantize_with_onnxruntime(arguments.model, top / "int8")
        write_package(packed, top / "app.mqz", golden=False)
        sides = {
            STOCK: (OPEN, top / "stock"),
            "inflating alone": (INFLATE, packed),
            "packed folder": (OPEN, packed),
            "bundle": (OPEN, top / "app.mqz"),
            "packed folder, cached": (OPEN, packed, top / "cache"),
            "bundle, cached": (OPEN, top / "app.mqz", top / "cache"),
            "onnxruntime int8": (OPEN, top / "int8"),
        }
        runs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
        for run in range(arguments.runs + 1):
            for side, (script, *paths) in sides.items():
                figures = measured(script, arguments.threads, *paths)
                if run:  # the first one fills page and model caches
                    runs[side].append(figures)
    result = {
        side: {key: median(figures[key] for figures in found) for key in found[0]}
        for side, found in runs.items()
    }
    stock, rows = result[STOCK], []
    for side, figures in result.items():
        ratios = {
            f"{key}_of_stock": figures[key] / stock[key]
            for key in stock
            if stock[key] and key in figures
        }
        rows.append({"opened": side, **figures, **ratios})
        print(side, *(f"{key} {value:.2f}" for key, value in ratios.items()), sep="\n  ")
    if arguments.output:
        write_result(
            arguments.output, rows, medians_of_runs=arguments.runs, threads=arguments.threads
        )


if __name__ == "__main__":
    main()
