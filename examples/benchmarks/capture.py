"""What watching a model's layers costs: time beside plain inference, memory as clips add up.

Time: capture and transcription of the same clips take turns in one process; the ratio of medians
is printed. Memory: the peak of a process that captures 8 clips, and of one that captures 64.
`outputs` are the statistics behind the paper's sensitivities, `moments` what compensated rounding
needs.

    python examples/benchmarks/capture.py MODEL/ --manifest M.csv
        -o examples/results/capture-whisper-tiny.en.csv
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from result_files import csv_path, write_result

from mqruntime.recognition import Recognizer
from mqtool.context import RunContext
from mqtool.model.folder import ModelFolder
from mqtool.observe.moments import capture_moments
from mqtool.observe.runs import capture_outputs
from mqtool.recordings.clips import Clip, find_clips

CAPTURES: dict[str, Callable[..., object]] = {
    "outputs": capture_outputs,
    "moments": capture_moments,
}
FEW, MANY = 8, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--split", default="calib")
    parser.add_argument("--timed-clips", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--output", type=csv_path)
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)  # capture and number of clips
    options = parser.parse_args()
    clips = find_clips([options.manifest], split=options.split)
    folder = ModelFolder.open(options.model)
    if options.peak:
        name, count = options.peak
        CAPTURES[name](folder, clips[: int(count)], RunContext(options.threads))
        print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
        return
    rows = []
    for name in CAPTURES:
        few, many = (peak_mb(name, count) for count in (FEW, min(MANY, len(clips))))
        timed = in_turn(folder, name, clips[: options.timed_clips], options)
        peaks = {f"peak_mb_{FEW}_clips": few, f"peak_mb_{len(clips[:MANY])}_clips": many}
        rows.append({"capture": name, **peaks, "peak_ratio": many / few, **timed})
        print(rows[-1], flush=True)
    if options.output:
        write_result(options.output, rows)


def peak_mb(name: str, count: int) -> float:
    """Largest resident set of a process that captures so many clips."""
    command = [sys.executable, *sys.argv, "--peak", name, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1000


def in_turn(
    folder: ModelFolder, name: str, clips: list[Clip], options: argparse.Namespace
) -> dict[str, float]:
    """Median seconds of capture and of plain transcription."""
    seconds: dict[str, list[float]] = {"capture": [], "inference": []}
    for _ in range(options.runs):
        start = time.perf_counter()
        with Recognizer.open(folder.path, threads=options.threads) as recognizer:
            for clip in clips:
                recognizer.transcribe(clip.pcm())
        middle = time.perf_counter()
        CAPTURES[name](folder, clips, RunContext(options.threads))
        seconds["inference"].append(middle - start)
        seconds["capture"].append(time.perf_counter() - middle)
    capture, inference = (median(seconds[part]) for part in ("capture", "inference"))
    return {
        "capture_seconds": capture,
        "inference_seconds": inference,
        "time_ratio": capture / inference,
    }


if __name__ == "__main__":
    main()
