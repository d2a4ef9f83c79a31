"""The packed graphs give the same text under onnxruntime for ARM64 as here; see run.sh."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
ARM64 = Path(os.environ.get("ARM64_ROOT", ROOT / "work" / "arm64"))
BUNDLES = Path(os.environ.get("TEST_BUNDLES", ROOT / "work" / "android"))

pytestmark = pytest.mark.arm64


@pytest.mark.parametrize(
    ("name", "clip"),
    [
        ("toy-ctc", "toy.wav"),
        ("toy-ctc-coded", "toy.wav"),
        ("toy-whisper", "marks.wav"),
        ("random-whisper", "short.wav"),
        ("commands-keywords", "word.wav"),
        ("commands-ctc", "word.wav"),
        ("whisper-tiny.en", "05.wav"),
        ("whisper-tiny.en-coded", "05.wav"),
    ],
)
def test_arm64_hears_the_same(name, clip):
    bundle = json.loads((BUNDLES / "expected.json").read_text())["bundles"].get(name)
    if bundle is None:
        pytest.skip(f"no bundle {name}: make_test_bundles.py said why")
    (expected,) = [h for h in bundle["heard"] if (h["clip"], h["options"]) == (clip, {})]
    heard = hear(BUNDLES / bundle["file"], [BUNDLES / "clips" / clip])[clip]
    for key in ("text", "tokens", "language"):
        assert heard[key] == expected[key], key
    if expected["score"] is not None:
        assert heard["score"] == pytest.approx(expected["score"], abs=0.02)


def hear(bundle: Path, clips: list[Path]) -> dict:
    system = ARM64 / "system"
    command = ["qemu-aarch64-static", "-cpu", "cortex-a76", "-L", system]
    command += [system / "usr" / "bin" / "python3.11", Path(__file__).with_name("hear.py")]
    search = os.pathsep.join(str(path) for path in (ARM64 / "packages", ROOT / "runtime_py"))
    environment = {
        **os.environ,
        "PYTHONHOME": str(system / "usr"),
        "PYTHONPATH": search,
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENBLAS_CORETYPE": "",
    }
    done = subprocess.run(
        [*map(str, command), str(bundle), *map(str, clips)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["machine"] == "aarch64"
    return result["heard"]
