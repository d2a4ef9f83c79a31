"""Time and memory of calibrating a Wav2Vec2-Base (95 million parameters) on 32 clips of 4 seconds.

Weights are random, as are the clips: neither changes the work. Each calibration runs in a process
of its own, so that its peak memory is its own. The paper's Table 3 gives 7 s for min/max and 172 s
for cosine on an RTX 3090.

    python examples/benchmarks/calibration_cost.py
        -o examples/results/calibration-cost-wav2vec2-base.csv
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_files import csv_path, write_result

CLIPS, SECONDS, RATE = 32, 4, 16000
PAPER_SECONDS = {"minmax": 7, "hess": 161, "cosine": 172, "l1": 158, "l2": 155}

MAKE = """
import sys
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC
import json
from pathlib import Path

torch.manual_seed(0)
source = Path(sys.argv[1])
Wav2Vec2ForCTC(Wav2Vec2Config()).eval().save_pretrained(source)
(source / "preprocessor_config.json").write_text(
    json.dumps({"do_normalize": True, "sampling_rate": 16000})
)
tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
(source / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}))
from mqtool.exporters.pipeline import export_model
export_model(str(source), Path(sys.argv[2]))
"""

CALIBRATE = """
import json, sys, time
from pathlib import Path
from mqtool.recordings.clips import find_clips
from mqtool.model.folder import ModelFolder
from mqtool.context import RunContext
from mqtool.planning.quantizer import Quantizer
from mqtool.planning.recipe import Recipe

model, clips, method, twin, threads = sys.argv[1:]
folder = ModelFolder.open(Path(model))
recipe = Recipe("uniform", activations="static", act_bits=8, twin_ranges=twin == "twin")
quantizer = Quantizer(folder, find_clips([Path(clips)]), RunContext(int(threads)))
plan = quantizer.plan_of_width(recipe, 8)
start, cpu = time.perf_counter(), time.process_time()
ranges = quantizer.calibrate(plan, method)
seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024
print(json.dumps({"seconds": round(seconds, 1), "cpu_seconds": round(cpu, 1),
                  "peak_rss_mb": round(peak), "layers": len(ranges),
                  "weights": sum(layer.params for layer in folder.layers)}))
"""


def run_python(script: str, *arguments: object) -> str:
    """Run a script in a process of its own and return what it prints last."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def write_clips(folder: Path, count: int = CLIPS, seconds: int = SECONDS) -> None:
    """Noise whose loudness changes as that of speech does."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        loudness = np.repeat(random.uniform(0.01, 0.3, seconds * 8), RATE // 8)
        pcm = (random.normal(0, 1, seconds * RATE) * loudness).clip(-1, 1)
        soundfile.write(folder / f"{number:02}.wav", pcm, RATE)


def main() -> None:
    """Export, calibrate by each method, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="Folder of an exported model to use, or to make")
    parser.add_argument("--methods", default="minmax,cosine,cosine-twin,hess")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=csv_path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or Path(scratch) / "model"
        if not (model / "model.json").is_file():
            run_python(MAKE, Path(scratch) / "source", model)
        write_clips(Path(scratch) / "clips")
        for name in options.methods.split(","):
            method = name.removesuffix("-twin")
            twin = "one" if method == name else "twin"
            before = os.getloadavg()[0]
            found = run_python(
                CALIBRATE, model, Path(scratch) / "clips", method, twin, options.threads
            )
            row = {"calibration": name, **json.loads(found)}
            row["paper_seconds_rtx_3090"] = PAPER_SECONDS.get(method)
            row["load_average_before"] = round(before, 1)
            rows.append(row)
            print(json.dumps(row), flush=True)
    if options.output:
        machine = f"{platform.machine()}, {os.cpu_count()} cores"
        write_result(options.output, rows, machine=machine, clips=CLIPS, seconds_a_clip=SECONDS)


if __name__ == "__main__":
    main()
