"""Peak memory of processes; reads /proc, so only on Linux."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import soundfile

from tiny_graph import toy_folder

SCRIPT = """
import sys
from pathlib import Path

import numpy as np
from mqruntime.engine.session import Session

def peak_kb():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])

session = Session(Path(sys.argv[1]), threads=1)
shape = [int(length) for length in sys.argv[2].split(",")]
values = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
before = peak_kb()
for _ in range(3):
    session.run(dict.fromkeys(session.inputs, values))
    print((peak_kb() - before) * 1024)
"""


PEAK = """
print(int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) << 10)
"""


def peak_of(script: str, *arguments: object) -> tuple[int, list[str], str]:
    """Peak bytes of a process that runs a script, the lines that it printed, and its stderr."""
    done = subprocess.run(
        [sys.executable, "-c", script + PEAK, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    *lines, peak = done.stdout.splitlines()
    return int(peak), lines, done.stderr


def running_peaks(path: Path, shape: str) -> list[int]:
    """Bytes by which the peak is above that of opening a graph, after each of three runs.

    Every input is fed the same values, of this shape.
    """
    command = [sys.executable, "-c", SCRIPT, str(path), shape]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


def peaks_over_clips(script: str, folder: Path, *arguments: str) -> list[int]:
    """Peak KB of a script over 8 clips and over 64; it prints its own after its work.

    It is given a toy model's folder, the clips' folder, how many to use, and `arguments`.
    """
    toy_folder(folder / "toy", scale=12)
    (folder / "clips").mkdir()
    rng = np.random.default_rng(0)
    for index in range(64):
        pcm = rng.normal(0, 0.1, 512).clip(-1, 1)
        soundfile.write(folder / "clips" / f"{index:02}.wav", pcm, 16000)
    peaks = []
    for count in (8, 64):
        given = [str(folder / "toy"), str(folder / "clips"), str(count), *arguments]
        done = subprocess.run(
            [sys.executable, "-c", script, *given],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        )
        peaks.append(int(done.stdout))
    return peaks
