"""What tests share: real speech and weights, exports made once a session, how much is tried."""

import os
import pickle
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import pytest
from filelock import FileLock
from hypothesis import settings

from file_times import FileTimes

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent


SKIPPED_BY_QUICK = ("weights", "data", "slow", "soak")
QUICK_STEP = 11
"""No common factor with the 2, 3, 4 or 8 values that parameters mostly have: every value of every
parameter is still met."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help=f"no tests marked {', '.join(SKIPPED_BY_QUICK)}; of a parametrized one the first case "
        f"and every {QUICK_STEP}th; a tenth of hypothesis's examples",
    )
    parser.addoption(
        "--soak", action="store_true", help="all of what tests marked soak count; else a twentieth"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FileTimes())
    soak, quick = config.getoption("--soak"), config.getoption("--quick")
    examples = 2000 if soak else 10 if quick else 100
    # No deadline: on a busy machine an example may take any time.
    settings.register_profile("tests", max_examples=examples, derandomize=soak, deadline=None)
    settings.load_profile("tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    soak, quick = config.getoption("--soak"), config.getoption("--quick")
    kept, left_out, cases = [], [], Counter[str]()
    for item in items:
        test = item.nodeid.partition("[")[0]
        marker = item.get_closest_marker("soak")
        skipped = marker is not None and marker.kwargs.get("whole", False) and not soak
        if quick:
            skipped = any(item.get_closest_marker(name) for name in SKIPPED_BY_QUICK)
            cases[test] += not skipped
            skipped = skipped or (cases[test] - 1) % QUICK_STEP != 0
        (left_out if skipped else kept).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture(scope="session")
def portion(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """How many of a soak test's inputs to try now: all with --soak, else a twentieth."""
    soak = pytestconfig.getoption("--soak")
    return lambda whole: whole if soak else max(1, whole // 20)


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


def _exported(source: Path, factory: pytest.TempPathFactory) -> Path:
    """Export once a session: the first worker that needs the folder makes it for all of them."""
    if find_spec("torch") is None:
        missing("export needs torch; run: pip install '.[export,dev]'")
    from mqtool.exporters.pipeline import export_model

    folder = _shared(factory) / source.name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            export_model(str(source), folder)
    return folder


def _shared(factory: pytest.TempPathFactory) -> Path:
    """Where exports of the session are."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # that of the session; each worker has its own inside
    folder = shared / "exported"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def exported_keywords(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float model folder of examples/commands/keywords (Conformer); not to be changed."""
    return _exported(COMMANDS_MODELS["keywords"], tmp_path_factory)


@pytest.fixture(scope="session")
def exported_ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float model folder of examples/commands/ctc (Wav2Vec2); not to be changed."""
    return _exported(COMMANDS_MODELS["ctc"], tmp_path_factory)


@pytest.fixture(scope="session")
def exported_tiny_en(whisper_tiny_en: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float model folder of whisper-tiny.en; not to be changed."""
    return _exported(whisper_tiny_en, tmp_path_factory)


@pytest.fixture(scope="session")
def exported_base(whisper_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Float model folder of whisper-base (multilingual); not to be changed."""
    return _exported(whisper_base, tmp_path_factory)


@pytest.fixture(scope="session")
def toy_moonshine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Any]:
    """Source, model folder and result of a Moonshine with random weights, streaming or not."""
    from toy_moonshine import moonshine_folder

    @cache
    def exported(streaming: bool) -> tuple[Path, Path, Any]:
        folder = _shared(tmp_path_factory) / f"moonshine{'-streaming' * streaming}"
        return _toy(folder, lambda source: moonshine_folder(source, streaming=streaming))

    return exported


@pytest.fixture(scope="session")
def toy_transducer(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Source, model folder and result of a Parakeet with random weights, TDT or RNNT."""
    from toy_transducer import transducer_folder

    @cache
    def exported(kind: str) -> tuple[Path, Path, Any]:
        folder = _shared(tmp_path_factory) / f"transducer-{kind}"
        return _toy(folder, lambda source: transducer_folder(source, kind))

    return exported


def _toy(folder: Path, make: Callable[[Path], object]) -> tuple[Path, Path, Any]:
    """Source, model folder and result of an export, made by whichever worker comes first."""
    from mqtool.exporters.pipeline import export_model

    source, model, made = folder / "source", folder / "model", folder / "made"
    with FileLock(f"{folder}.lock"):
        if not made.exists():
            make(source)
            made.write_bytes(pickle.dumps(export_model(str(source), model)))
    return source, model, pickle.loads(made.read_bytes())
