"""Time and memory of exporting models of their real sizes, planning them by measuring, packing.

Weights are random, as are the clips: that changes what comes out, hardly the work. Every text that
is written token by token runs to its limit, of Whisper 28 tokens. Each step is a process of its
own, so that its peak memory is its own: with mapped files, which the system takes back where memory
is short, and without (anonymous, looked at ten times a second). Rows of other models that a result
holds stay.

    python examples/benchmarks/real_sizes.py --models moonshine-tiny,parakeet-ctc-0.6b
        -o examples/results/real-sizes.csv
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from calibration_cost import run_python, write_clips
from result_files import csv_path, read_result, write_result

from mqtool.choices import EFFORTS

SECONDS = 5


@dataclass(frozen=True)
class Model:
    """A kind of model: its class in transformers, what differs from its defaults, its budget."""

    architecture: str
    budget_kb: int
    shape: dict[str, Any] = field(default_factory=dict)


LIMITS = {"max_position_embeddings": 194, "pad_head_dim_to_multiple_of": 8}
BASE = {
    "hidden_size": 416,
    "intermediate_size": 1664,
    "encoder_num_hidden_layers": 8,
    "decoder_num_hidden_layers": 8,
}
WHISPER = "WhisperForConditionalGeneration"
LARGE = {
    "vocab_size": 51866,
    "num_mel_bins": 128,
    "d_model": 1280,
    "encoder_layers": 32,
    "encoder_attention_heads": 20,
    "encoder_ffn_dim": 5120,
    "decoder_attention_heads": 20,
    "decoder_ffn_dim": 5120,
}
MODELS = {
    "moonshine-tiny": Model("MoonshineForConditionalGeneration", 12_000, LIMITS),
    "moonshine-base": Model("MoonshineForConditionalGeneration", 26_000, LIMITS | BASE),
    "moonshine-streaming-tiny": Model(
        "MoonshineStreamingForConditionalGeneration", 16_000, {"num_key_value_heads": 8}
    ),
    "parakeet-ctc-0.6b": Model("ParakeetForCTC", 300_000),
    "parakeet-ctc-1.1b": Model(
        "ParakeetForCTC", 520_000, {"encoder_config": {"num_hidden_layers": 42}}
    ),
    "wav2vec2-bert": Model("Wav2Vec2BertForCTC", 290_000, {"vocab_size": 32, "pad_token_id": 0}),
    "data2vec-audio-base": Model("Data2VecAudioForCTC", 46_000),
    "hubert-base": Model("HubertForCTC", 46_000),
    "unispeech-base": Model("UniSpeechForCTC", 46_000),
    "unispeech-sat-base": Model("UniSpeechSatForCTC", 46_000),
    "wavlm-base": Model("WavLMForCTC", 46_000),
    "parakeet-tdt-0.6b": Model("ParakeetForTDT", 300_000),
    "distil-large-v3": Model(WHISPER, 350_000, LARGE | {"decoder_layers": 2}),
    "large-v3-turbo": Model(WHISPER, 380_000, LARGE | {"decoder_layers": 4}),
    "large-v3": Model(WHISPER, 700_000, LARGE | {"decoder_layers": 32}),
    "sew": Model("SEWForCTC", 46_000),
    "sew-d": Model("SEWDForCTC", 46_000),
}

MEASURE = """
import json, re, sys, threading, time
from pathlib import Path
benchmarks, architecture, shape, budget, effort, source, clips, model, plan, packed = sys.argv[1:]
sys.path.insert(0, benchmarks)
peak = 0
def sample():
    global peak
    while True:
        status = Path("/proc/self/status").read_text()
        peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", status)[1]))
        time.sleep(0.1)
threading.Thread(target=sample, daemon=True).start()
start, cpu = time.perf_counter(), time.process_time()
"""

REPORT = """
status = Path("/proc/self/status").read_text()
print(json.dumps({
    "seconds": round(time.perf_counter() - start, 1),
    "cpu_seconds": round(time.process_time() - cpu, 1),
    "peak_mb": int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024,
    "peak_anonymous_mb": peak // 1024,
}))
"""

MAKE = "import real_sources\nreal_sources.make(architecture, json.loads(shape), source)\n"

STEPS = {
    "export": "import mqtool\nmqtool.export(source, output=model)\n",
    "plan": (
        "import mqtool\n"
        "made = mqtool.plan(model, budget_kb=int(budget), recordings=clips, effort=effort)\n"
        "open(plan, 'wb').write(made.to_bytes())\n"
    ),
    "pack": "import mqtool\nmqtool.pack(model, plan=plan, recordings=clips, output=packed)\n",
}


def main(given: list[str] | None = None) -> None:
    """Make, export, plan and pack each, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default=",".join(MODELS), help="some of the default")
    parser.add_argument("--shape", type=json.loads, default={}, help="settings over those known")
    parser.add_argument("--budget-kb", type=int, help="another one")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--effort", choices=EFFORTS, default="full", help="of planning")
    parser.add_argument("--steps", default=",".join(STEPS), help="the first of the default")
    parser.add_argument("-o", "--output", type=csv_path)
    options = parser.parse_args(given)
    names = options.models.split(",")
    rows = []
    if options.output and options.output.is_file():
        rows = [row for row in read_result(options.output) if row["model"] not in names]
    with tempfile.TemporaryDirectory() as scratch:
        clips = Path(scratch) / "clips"
        write_clips(clips, options.clips, SECONDS)
        for name in names:
            rows += measured(MODELS[name], name, clips, Path(scratch) / name, options)
            if options.output:
                machine = f"{platform.machine()}, {os.cpu_count()} cores"
                facts = {"seconds_a_clip": SECONDS}
                write_result(options.output, rows, machine=machine, **facts)


def measured(
    model: Model, name: str, clips: Path, folder: Path, options: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row a step, printed as it is known."""
    folder.mkdir()
    packed = folder / "packed"
    places = [folder / "source", clips, folder / "model", folder / "plan", packed]
    shape = json.dumps(model.shape | options.shape)
    budget = str(options.budget_kb or model.budget_kb)
    here = str(Path(__file__).resolve().parent)
    arguments = [here, model.architecture, shape, budget, options.effort, *map(str, places)]
    run_python(MEASURE + MAKE + REPORT, *arguments)
    rows = []
    for step in options.steps.split(","):
        before = os.getloadavg()[0]
        found = json.loads(run_python(MEASURE + STEPS[step] + REPORT, *arguments))
        row = {"model": name, "step": step, **found, "load_average_before": round(before, 1)}
        if step != "export":
            row["clips"] = options.clips
        if step == "plan":
            row["effort"] = options.effort
        if packed.is_dir():
            size = sum(path.stat().st_size for path in packed.iterdir())
            row["packed_kb"] = round(size / 1024, 1)
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


if __name__ == "__main__":
    main()
