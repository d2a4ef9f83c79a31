"""One model, one process: load time, speed and peak memory. Run by `mqtool.evaluation.bench`.

    python -m mqtool.evaluation.measure MODEL THREADS RUNS [PCM.npy ...]  ->  one line of JSON

Only what the runtime needs is imported, so that the peak is the runtime's and not the tool's.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from mqruntime.recognition import Recognizer

__all__ = ["measure", "typical_noise"]


def typical_noise(recognizer: Recognizer) -> np.ndarray:
    """Noise as long as a typical utterance of the model's task: the same every time."""
    samples = int(recognizer.task.typical_seconds * recognizer.manifest.sample_rate)
    return np.random.default_rng(0).normal(0, 0.1, samples).astype(np.float32)


def measure(model: Path, threads: int, runs: int, clips: list[Path]) -> dict[str, Any]:
    """Load a model, run it, and say what that took.

    Args:
        model: model folder or bundle.
        threads: threads inside an operator; 0 lets onnxruntime choose.
        runs: times the utterance is run; its median counts.
        clips: .npy files of 16 kHz PCM, each run once, instead of the utterance.

    Returns:
        `load_ms`, `latency_ms` (median of an utterance or clip), `rtf`, `seconds_audio`, and the
        resident set in MB: `peak_rss_mb`, and `rss_before_mb`, of Python and onnxruntime alone.
    """
    import onnxruntime  # noqa: F401  (its import is not the model's load time)

    before = _peak_rss_mb()
    start = time.perf_counter()
    recognizer = Recognizer.open(model, threads=threads)
    load_ms = 1000 * (time.perf_counter() - start)
    if clips:
        recognizer.transcribe(np.load(clips[0]))  # the first run also allocates
        lengths, latencies = [], []
        for path in clips:
            pcm = np.load(path)
            lengths.append(len(pcm) / recognizer.manifest.sample_rate)
            latencies.append(_seconds(partial(recognizer.transcribe, pcm)))
    else:
        pcm = typical_noise(recognizer)
        work = partial(recognizer.task.typical_work, recognizer.graphs, pcm)
        latencies = [_seconds(work) for _ in range(runs + 1)][1:]
        lengths = [len(pcm) / recognizer.manifest.sample_rate] * runs
    return {
        "load_ms": load_ms,
        "latency_ms": 1000 * median(latencies),
        "rtf": sum(latencies) / sum(lengths),
        "seconds_audio": sum(lengths),
        "peak_rss_mb": _peak_rss_mb(),
        "rss_before_mb": before,
    }


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _peak_rss_mb() -> float:
    """Largest resident set so far, in MB (10^6 bytes).

    Linux's VmHWM starts anew with the program; getrusage would count the parent's memory too.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


if __name__ == "__main__":
    arguments = sys.argv[1:]
    figures = measure(
        Path(arguments[0]), int(arguments[1]), int(arguments[2]), [Path(p) for p in arguments[3:]]
    )
    print(json.dumps(figures))
