"""Time and memory of exporting Moonshines of their real sizes, planning them by measuring, packing.

Weights are random, as are the four clips: that changes what comes out, hardly the work. Every text
runs to its limit. Each step is a process of its own, so that its peak memory is its own. Rows of
other models that a result holds stay.

    python examples/benchmarks/moonshine_plans.py --models tiny,base
        -o examples/results/moonshine-plans.csv
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from calibration_cost import run_python, write_clips
from result_files import csv_path, read_result, write_result

CLIPS, SECONDS = 4, 5
BUDGETS_KB = {"tiny": 12_000, "base": 26_000, "streaming-tiny": 16_000}
LIMITS = {"max_position_embeddings": 194, "pad_head_dim_to_multiple_of": 8}
BASE = {
    "hidden_size": 416,
    "intermediate_size": 1664,
    "encoder_num_hidden_layers": 8,
    "decoder_num_hidden_layers": 8,
}
SHAPES = {"tiny": LIMITS, "base": LIMITS | BASE, "streaming-tiny": {"num_key_value_heads": 8}}
"""What differs from transformers' defaults."""

MEASURE = """
import json, resource, sys, time
name, shape, budget, source, clips, model, plan, packed = sys.argv[1:]
start = time.perf_counter()
"""

REPORT = """
print(json.dumps({
    "seconds": round(time.perf_counter() - start, 1),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}))
"""

MAKE = """
from pathlib import Path
import torch, transformers
torch.manual_seed(0)
kind = "MoonshineStreaming" if name.startswith("streaming") else "Moonshine"
config = getattr(transformers, f"{kind}Config")(**json.loads(shape))
made = getattr(transformers, f"{kind}ForConditionalGeneration")(config).eval()
made.save_pretrained(source)
tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
replace = {"type": "Replace", "pattern": {"String": "\\u2581"}, "content": " "}
decoders = [replace, {"type": "ByteFallback"}, {"type": "Fuse"}]
(Path(source) / "tokenizer.json").write_text(json.dumps({
    "model": {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": []},
    "decoder": {"type": "Sequence", "decoders": decoders},
}))
settings = {"do_normalize": False, "sampling_rate": 16000, "return_attention_mask": True}
(Path(source) / "preprocessor_config.json").write_text(json.dumps(settings))
"""

STEPS = {
    "export": "import mqtool\nmqtool.export(source, output=model)\n",
    "plan": (
        "import mqtool\n"
        "made = mqtool.plan(model, budget_kb=int(budget), method='measured', recordings=clips)\n"
        "open(plan, 'wb').write(made.to_bytes())\n"
    ),
    "pack": "import mqtool\nmqtool.pack(model, plan=plan, recordings=clips, output=packed)\n",
}


def main() -> None:
    """Make, export, plan and pack each, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", default="tiny,streaming-tiny,base")
    parser.add_argument("-o", "--output", type=csv_path)
    options = parser.parse_args()
    names = options.models.split(",")
    rows = []
    if options.output and options.output.is_file():
        measured = {f"moonshine-{name}" for name in names}
        rows = [row for row in read_result(options.output) if row["model"] not in measured]
    with tempfile.TemporaryDirectory() as scratch:
        clips = Path(scratch) / "clips"
        write_clips(clips, CLIPS, SECONDS)
        for name in names:
            folder = Path(scratch) / name
            folder.mkdir()
            places = [
                folder / "source",
                clips,
                folder / "model",
                folder / "plan",
                folder / "packed",
            ]
            arguments = [name, json.dumps(SHAPES[name]), str(BUDGETS_KB[name]), *map(str, places)]
            run_python(MEASURE + MAKE + REPORT, *arguments)
            for step, script in STEPS.items():
                before = os.getloadavg()[0]
                found = json.loads(run_python(MEASURE + script + REPORT, *arguments))
                row = {"model": f"moonshine-{name}", "step": step, **found}
                row["load_average_before"] = round(before, 1)
                rows.append(row)
                print(json.dumps(row), flush=True)
            size = sum(path.stat().st_size for path in places[-1].iterdir())
            rows[-1]["packed_kb"] = round(size / 1024, 1)
            if options.output:
                machine = f"{platform.machine()}, {os.cpu_count()} cores"
                facts = {"clips": CLIPS, "seconds_a_clip": SECONDS, "budgets_kb": BUDGETS_KB}
                write_result(options.output, rows, machine=machine, **facts)


if __name__ == "__main__":
    main()
