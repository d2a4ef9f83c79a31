"""Where tests find real speech and real weights, and how they start mqtool to interrupt it."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent


def missing(reason: str) -> NoReturn:
    """Skip a test whose data is not here, or fail it where all data must be (CI)."""
    if os.environ.get("MQTOOL_REQUIRE_DATA") == "1":
        pytest.fail(f"{reason} (MQTOOL_REQUIRE_DATA=1)", pytrace=False)
    pytest.skip(reason)


def start_interruptible(arguments: Sequence[object]) -> subprocess.Popen[str]:
    """Start mqtool with output that is not buffered, so that Ctrl-C can come in mid-work.

    A shell that runs the tests in the background makes its children ignore it; this one does not.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "mqtool.cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@pytest.fixture(scope="session")
def speech() -> Path:
    """Folder of the real recordings: MQTOOL_TEST_DATA, or ../shared/data beside the checkout."""
    folder = Path(os.environ.get("MQTOOL_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "librispeech" / "manifest.csv").is_file():
        missing(f"no recordings in {folder}; set MQTOOL_TEST_DATA to their folder")
    return folder


def _weights(name: str) -> Path:
    folder = Path(os.environ.get("MQTOOL_TEST_WEIGHTS", ROOT / "work" / "weights")) / name
    if not (folder / "model.bin").is_file():
        missing(f"no weights in {folder}; run `make weights`, or set MQTOOL_TEST_WEIGHTS")
    return folder


@pytest.fixture(scope="session")
def whisper_tiny_en() -> Path:
    """CTranslate2 folder of whisper-tiny.en."""
    return _weights("whisper-tiny.en")


@pytest.fixture(scope="session")
def whisper_base() -> Path:
    """CTranslate2 folder of whisper-base (multilingual)."""
    return _weights("whisper-base")


@pytest.fixture(scope="session")
def demo_clips() -> Path:
    """Manifest of the synthesized English clips of this repository: splits calib and dev."""
    return ROOT / "examples" / "clips" / "manifest.csv"


COMMANDS_MODELS = {name: ROOT / "examples" / "commands" / name for name in ("keywords", "ctc")}
"""The embedded default: small trained models that are part of this repository."""


def _exported_commands(name: str, factory: pytest.TempPathFactory) -> Path:
    if find_spec("torch") is None:
        missing("export needs torch; run: pip install '.[export,dev]'")
    from mqtool.exporters.pipeline import export_model

    folder = factory.mktemp("exported") / name
    export_model(str(COMMANDS_MODELS[name]), folder)
    return folder


@pytest.fixture(scope="session")
def exported_keywords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float model folder of examples/commands/keywords (Conformer), exported once for all tests."""
    return _exported_commands("keywords", tmp_path_factory)


@pytest.fixture(scope="session")
def exported_ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float model folder of examples/commands/ctc (Wav2Vec2), exported once for all tests."""
    return _exported_commands("ctc", tmp_path_factory)


@pytest.fixture(scope="session")
def exported_tiny_en(whisper_tiny_en: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float model folder of whisper-tiny.en, exported once for all tests."""
    if find_spec("torch") is None:
        missing("export needs torch; run: pip install '.[export,dev]'")
    from mqtool.exporters.pipeline import export_model

    folder = tmp_path_factory.mktemp("exported") / "whisper-tiny.en"
    export_model(str(whisper_tiny_en), folder)
    return folder
