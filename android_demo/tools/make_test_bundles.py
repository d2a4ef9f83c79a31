"""Make the bundles and clips that the JVM tests use, with the answers that Python gives.

    python android_demo/tools/make_test_bundles.py [-o work/android]

Writes NAME.mqz for a packed whisper-tiny.en (if its weights are in work/weights), which computes
with 8-bit activations, as NAME-coded with coded weights, and, as NAME-float, without; a random
multilingual Whisper, a random Moonshine and random Parakeets; the trained commands models (where
they are); and four toys. Writes `clips/`, `mutants/`, the Python suite's mutants.json.gz, and
`expected.json`:

    bundles   {name: {file, heard: [{clip, options, text, tokens, language, score, segments}]}}:
              what Recognizer.transcribe hears, one thread; options are those of
              DecodingOptions that are not the default, segments [{start, end, text, tokens, score}]
    encoded   {text: tokens}: what BytePairEncoder makes of it, with whisper-tiny.en's tokens
    draws     the first numbers of numpy's generator with the seed that recognition uses
    utterances  {clip: [[start, samples]]}: what EnergyVad cuts from it
    not_trained_yet  commands models that examples/commands does not hold
    resampled {clip: {rate, samples: file of little-endian float32}}: what mqruntime.audio.load
              reads
    mutants   [{file, refused}]: wrong bundles, and right ones among them, all of toy-ctc
    wrong     {file: error}: bundles in `wrong/` of graphs that may not run or answer otherwise than
              their task takes; what Python says where every operator is allowed, null for nothing

Nothing is done again while the sources are the same.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

import mqtool

os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests"))

WHISPER = "whisper-tiny.en"
WHISPER_BUDGET_KB = 30000
COMMANDS = ("keywords", "ctc")
SPEECH = ("03", "05", "08")
"""Of examples/clips: what the Whisper models hear, and are sure of."""
UNSURE = ("02", "11")
"""And others: for models that do not listen to words, and to look at."""
PAUSE_SECONDS = 0.4
PROMPT = "all of it in lower case without any marks and so it goes on"
TEXTS = (
    "I'll take 12 of them, won't I?",
    "¿Dónde está la biblioteca? ¡Aquí!",
    "L'été dernier, nous étions à Besançon.",
    "Perché no? È così che va, e 3½ km.",
    "Вас приветствует система, нажмите 9.",
    "日本語のテキスト、中文。 한국어",
)
ODD = "abDE '\n\t  12½²Ⅷ!?.,;éñß中文кирилл'sع😀\u200d\u00a0\u2028\x1c_-'ll"

Heard = tuple[str, dict[str, Any]]
"""A clip and options for it."""
DECODED: list[dict[str, Any]] = [
    {},
    {"timestamps": False},
    {"timestamps": False, "beam_size": 4},
    {"timestamps": False, "temperature": [0.7]},
    {"timestamps": False, "temperature": [0.0, 0.5, 1.0]},
    {"timestamps": True, "beam_size": 4},
    {"timestamps": True, "beam_size": 16, "temperature": [0.0]},
    {"timestamps": True, "compression_ratio_threshold": 0.9, "logprob_threshold": -3.0},
    {"timestamps": True, "logprob_threshold": -1.2, "no_speech_threshold": 1.0},
]
"""DecodingOptions for the toy Whisper: all ways to decode, and what makes it fall back or not."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "work" / "android")
    parser.add_argument("--force", action="store_true", help="do it again all the same")
    arguments = parser.parse_args()
    output: Path = arguments.output
    stamp, key = output / "made.txt", sources_key()
    if not arguments.force and stamp.is_file() and stamp.read_text() == key:
        return 0
    output.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(output, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as name:
        make(Path(name))
        (Path(name) / stamp.name).write_text(key)
        Path(name).chmod(0o755)
        shutil.copytree(name, output)
    return 0


def make(output: Path) -> None:
    """Everything, in a new folder."""
    clips = write_clips(output / "clips")
    bundles = {}
    for name, folder, heard in models(output / "made"):
        say(f"{name}: packaging it, and what it hears in {len(heard)} clips")
        bundles[name] = expectations(folder, output / f"{name}.mqz", output / "clips", heard)
    encoded = encoded_texts(output / "made" / WHISPER / "float")
    shutil.rmtree(output / "made")
    expected = {
        "bundles": bundles,
        "encoded": encoded,
        "draws": np.random.default_rng(0).random(100).tolist(),
        "utterances": {"live.wav": utterances(output / "clips" / "live.wav")},
        "not_trained_yet": [f"commands-{name}" for name in COMMANDS if not is_trained(name)],
        "resampled": resampled(output / "clips", clips),
        "mutants": mutants(output / "toy-ctc.mqz", output / "mutants"),
        "wrong": wrong(output / "wrong"),
    }
    shutil.copy(ROOT / "tests" / "bundles" / "mutants.json.gz", output)
    (output / "expected.json").write_text(json.dumps(expected, indent=1, sort_keys=True))


def models(folder: Path) -> Iterator[tuple[str, Path, list[Heard]]]:
    """Name, model folder, and what it is to hear."""
    import fake_ctc
    import fake_whisper

    toys = [("toy.wav", {}), ("long-toy.wav", {})]
    yield "toy-ctc", fake_ctc.reader_folder(folder / "toy-ctc"), toys
    yield "toy-ctc-coded", fake_ctc.coded_reader_folder(folder / "toy-ctc-coded"), toys
    toys = [("02.wav", {}), ("loud.wav", {})]
    yield "toy-keywords", fake_ctc.loudness_folder(folder / "toy-keywords"), toys
    said: list[Heard] = [("marks.wav", options) for options in DECODED]
    yield "toy-whisper", fake_whisper.whisper_folder(folder / "toy-whisper"), said
    yield "random-whisper", random_whisper(folder / "random-whisper"), [("short.wav", {})]
    heard = [("short.wav", {}), ("long.wav", {}), ("long.wav", {"beam_size": 3})]
    yield "random-moonshine", random_moonshine(folder / "random-moonshine"), heard
    heard = [("short.wav", {}), ("long.wav", {})]
    yield "random-parakeet", random_parakeet(folder / "random-parakeet"), heard
    for kind in ("TDT", "RNNT"):
        name = f"random-{kind.lower()}"
        yield name, random_transducer(folder / name, kind), [("short.wav", {}), ("08.wav", {})]
    weights = Path(os.environ.get("MQTOOL_TEST_WEIGHTS", ROOT / "work" / "weights")) / WHISPER
    if (weights / "model.bin").is_file():
        yield WHISPER, exported(weights, folder / WHISPER, WHISPER_BUDGET_KB), spoken()
        packed = exported(weights, folder / WHISPER, WHISPER_BUDGET_KB, storage="coded")
        yield f"{WHISPER}-coded", packed, spoken()
        # Times follow the last bits of 8-bit activations, which differ between versions of
        # onnxruntime.
        packed = exported(weights, folder / WHISPER, WHISPER_BUDGET_KB, "float")
        yield f"{WHISPER}-float", packed, [("long.wav", {}), ("long.wav", {"beam_size": 3})]
    else:
        say(f"{WHISPER}: no weights in {weights}; run `make weights`")
    for name in COMMANDS:
        if is_trained(name):
            packed = exported(trained(name), folder / name, None)
            yield f"commands-{name}", packed, [("word.wav", {})]
        else:
            say(f"commands-{name}: {trained(name)} holds no trained model yet")


def spoken() -> list[Heard]:
    """Speech for the real Whisper: greedily, with beams, and after a prompt."""
    ways: list[dict[str, Any]] = [{}, {"beam_size": 5}, {"prompt": PROMPT}]
    return [(f"{name}.wav", options) for name in SPEECH for options in ways]


def encoded_texts(folder: Path) -> dict[str, list[int]]:
    """Of words in five languages and of odd characters; none without the model."""
    from mqruntime.bundle.manifest import Manifest
    from mqruntime.tasks.byte_pairs import BytePairEncoder
    from mqruntime.vocabulary import Vocabulary

    if not (folder / "model.json").is_file():
        return {}
    manifest = Manifest.read(folder)
    vocabulary = Vocabulary.read(folder / str(manifest.vocabulary))
    assert manifest.whisper is not None
    encoder = BytePairEncoder.of(vocabulary, manifest.whisper)
    rng = random.Random(0)
    odd = ["".join(rng.choices(ODD, k=rng.randrange(40))) for _ in range(500)]
    return {text: encoder.encode(text) for text in [*TEXTS, *odd]}


def trained(name: str) -> Path:
    return ROOT / "examples" / "commands" / name


def is_trained(name: str) -> bool:
    return (trained(name) / "model.safetensors").is_file()


def random_whisper(folder: Path) -> Path:
    """A small multilingual Whisper with random weights, packed to about 4 bits."""
    from exporters import random_sources

    random_sources.whisper_folder(folder / "source")
    return exported(folder / "source", folder, None)


def random_moonshine(folder: Path) -> Path:
    """A small Moonshine with random weights, which takes long recordings in pieces of 6 s."""
    import toy_moonshine

    toy_moonshine.moonshine_folder(folder / "source")
    return exported(folder / "source", folder, None, "float")


def random_parakeet(folder: Path) -> Path:
    """A small Parakeet with random weights, whose tokens are pieces of text and bytes."""
    import toy_parakeet

    spelled = {"pieces": toy_parakeet.BYTES, "decoder": toy_parakeet.BYTE_FALLBACK}
    toy_parakeet.parakeet_folder(folder / "source", **spelled)
    return exported(folder / "source", folder, None, "float")


def random_transducer(folder: Path, kind: str) -> Path:
    """A small Parakeet with random weights, packed to 8 bits: with fewer it repeats itself."""
    import toy_transducer

    toy_transducer.transducer_folder(folder / "source", kind)
    return exported(folder / "source", folder, 82, "float")


def exported(
    source: Path,
    folder: Path,
    budget_kb: float | None,
    activations: Literal["dynamic", "float"] = "dynamic",
    storage: Literal["coded", "planes"] = "planes",
) -> Path:
    """Export and pack; without a budget, to what a uniform 4 bits take."""
    from mqtool.model.folder import ModelFolder
    from mqtool.packing.size import PackOptions, SizeModel, size_table

    say(f"{folder.name}: exporting and packing it")
    model = folder / "float"
    if not model.is_dir():
        folder.mkdir(exist_ok=True)
        mqtool.export(str(source), output=model)
    if budget_kb is None:
        sizes = SizeModel(ModelFolder.open(model), PackOptions(activations))
        budget_kb = size_table(sizes)[4] / 1024
    # Without integer group scales codes stay within 7 bits: products of larger ones saturate in
    # onnxruntime before 1.30 on x86-64 without VNNI, and the JVM would hear something else.
    plan = mqtool.plan(
        model,
        budget_kb=budget_kb,
        method="uniform",
        activations=activations,
        rounding="nearest" if activations == "dynamic" else "grouped",
        storage=storage,
    )
    packed = folder / f"packed-{activations}-{storage}"
    mqtool.pack(model, plan=plan, output=packed)
    return packed


def expectations(folder: Path, bundle: Path, clips: Path, heard: list[Heard]) -> dict[str, Any]:
    """Package a model; what Python hears with it."""
    from mqruntime.audio import load
    from mqruntime.options import DecodingOptions
    from mqruntime.recognition import Recognizer

    mqtool.package(folder, output=bundle)
    expected = []
    with Recognizer.open(bundle, threads=1) as recognizer:
        for clip, options in heard:
            pcm = load(clips / clip, recognizer.manifest.sample_rate)
            chosen = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in options.items()
            }
            result = asdict(recognizer.transcribe(pcm, options=DecodingOptions(**chosen)))
            del result["seconds"], result["timings"]
            expected.append({"clip": clip, "options": options, **result})
    return {"file": bundle.name, "heard": expected}


def write_clips(folder: Path) -> dict[str, int]:
    """WAV files of many kinds; name -> rate of those worth resampling."""
    import fake_ctc
    import fake_whisper

    folder.mkdir(parents=True)
    examples = sorted((ROOT / "examples" / "clips").glob("*.flac"))
    speech = {path.stem: soundfile.read(path, dtype="float32")[0] for path in examples}
    for name in (*SPEECH, *UNSURE):
        soundfile.write(folder / f"{name}.wav", speech[name], 16000, subtype="PCM_16")
    pause = np.zeros(round(16000 * PAUSE_SECONDS), np.float32)
    together = np.concatenate([part for clip in speech.values() for part in (clip, pause)])
    soundfile.write(folder / "long.wav", together, 16000, subtype="PCM_16")
    soundfile.write(folder / "live.wav", live(speech), 16000, subtype="PCM_16")
    # Sampling follows the last bits of the random Whisper's logits: no longer than its window.
    soundfile.write(folder / "short.wav", speech["11"][:30400], 16000, subtype="PCM_16")
    soundfile.write(folder / "toy.wav", fake_ctc.spell("hello phone"), 16000, subtype="FLOAT")
    long_toy = fake_ctc.spell(" ".join(["the quick brown fox jumps over the lazy dog"] * 18))
    soundfile.write(folder / "long-toy.wav", long_toy, 16000, subtype="FLOAT")
    marks = [
        (1.8, fake_whisper.LIKELY),
        (2.2, fake_whisper.REPEATING),
        (2.5, fake_whisper.SILENCE),
        (2.0, fake_whisper.GUESSING),
        (2.305, fake_whisper.LIKELY),
    ]
    soundfile.write(folder / "marks.wav", fake_whisper.pcm(marks), 16000, subtype="FLOAT")
    rng = np.random.default_rng(7)
    soundfile.write(folder / "loud.wav", rng.uniform(-1, 1, 16000), 16000, subtype="PCM_16")
    write_word(folder / "word.wav")
    kinds = {
        "8000-mono-u8.wav": (8000, 1, "PCM_U8", "WAV"),
        "11025-stereo-16.wav": (11025, 2, "PCM_16", "WAV"),
        "22050-mono-24.wav": (22050, 1, "PCM_24", "WAVEX"),
        "44100-stereo-32.wav": (44100, 2, "PCM_32", "WAV"),
        "48000-mono-float.wav": (48000, 1, "FLOAT", "WAV"),
        "96000-six-double.wav": (96000, 6, "DOUBLE", "WAVEX"),
        "191999-mono-16.wav": (191_999, 1, "PCM_16", "WAV"),
        "997-mono-16.wav": (997, 1, "PCM_16", "WAV"),
    }
    for name, (rate, channels, subtype, container) in kinds.items():
        samples = rng.uniform(-0.9, 0.9, (rate // 8 + 3, channels))
        soundfile.write(folder / name, samples, rate, subtype=subtype, format=container)
    tone = 0.5 * np.sin(np.arange(6000) / 9)
    opposite = np.stack([-0.8 * tone, tone], axis=1)
    soundfile.write(folder / "48000-antiphase-16.wav", opposite, 48000, subtype="PCM_16")
    rates = {name: rate for name, (rate, *_) in kinds.items()}
    return rates | {"48000-antiphase-16.wav": 48000}


def live(speech: dict[str, np.ndarray]) -> np.ndarray:
    """Speech from the first moment to the last, one click and several, noise in the pauses."""
    pause = np.zeros(16000, np.float32)
    click = np.repeat(np.asarray([0.5, 0, 0], np.float32), 320)
    parts = [speech["02"], pause, click, pause, click, click, click, click, pause, speech["05"]]
    together = np.concatenate([*parts, pause, speech["11"], speech["03"][:20000]])
    noise = np.random.default_rng(9).normal(0, 0.002, len(together))
    return np.clip(together + noise, -1, 1)


def utterances(path: Path) -> list[list[int]]:
    """Start and length of what is cut from a recording fed in chunks of 1,000 samples."""
    from mqruntime.audio import load
    from mqruntime.streaming.energy_vad import EnergyVad

    vad, pcm = EnergyVad(16000), load(path)
    found = [u for at in range(0, len(pcm), 1000) for u in vad.feed(pcm[at : at + 1000])]
    return [[u.start, len(u.pcm)] for u in [*found, *vad.finish()]]


def write_word(path: Path) -> None:
    """A second of a recorded command word, or of noise where there are no recordings."""
    data = Path(os.environ.get("MQTOOL_TEST_DATA", ROOT.parent / "shared" / "data")) / "commands"
    words = sorted(data.rglob("dev/**/*.flac")) or sorted(data.rglob("*.flac"))
    if words:
        samples, rate = soundfile.read(words[0], dtype="float32")
    else:
        samples, rate = np.random.default_rng(3).normal(0, 0.1, 16000), 16000
    soundfile.write(path, samples, rate, subtype="PCM_16")


def resampled(folder: Path, clips: dict[str, int]) -> dict[str, Any]:
    """What Python reads from the clips of other rates."""
    from mqruntime.audio import load

    read = {}
    for name, rate in clips.items():
        samples = f"{name}.f32"
        (folder / samples).write_bytes(load(folder / name).astype("<f4").tobytes())
        read[name] = {"rate": rate, "samples": samples}
    return read


def mutants(bundle: Path, folder: Path) -> list[dict[str, Any]]:
    """Wrong copies of a bundle, with Python's verdict on each."""
    from mqruntime.bundle.file import Bundle
    from mqruntime.errors import BundleError

    folder.mkdir()
    verdicts = []
    for number, content in enumerate(changed(bundle.read_bytes())):
        path = folder / f"{number:03}.mqz"
        path.write_bytes(content)
        try:
            Bundle.open(path)
            refused = False
        except BundleError:
            refused = True
        verdicts.append({"file": f"{folder.name}/{path.name}", "refused": refused})
    return verdicts


def wrong(folder: Path) -> dict[str, str | None]:
    """Bundles of the Python suite's wrong graphs, with what Python says of their answers."""
    from fake_ctc import loudness_folder, reader_folder, spell
    from mqruntime.errors import ModelError
    from mqruntime.recognition import Recognizer
    from wrong_graphs import ENDLESS, FOREIGN, WRONG_OUTPUTS

    folder.mkdir()
    graphs = {**FOREIGN, **WRONG_OUTPUTS, "endless": ENDLESS}
    errors: dict[str, str | None] = {}
    for task, make_folder in (("ctc", reader_folder), ("keywords", loudness_folder)):
        for what, graph in graphs.items():
            model = make_folder(folder / "model")
            (model / "model.onnx").write_bytes(graph)
            bundle = folder / f"{task}-{what.replace(':', '').replace(' ', '-')}.mqz"
            mqtool.package(model, output=bundle, golden=False)
            errors[f"{folder.name}/{bundle.name}"] = None
            if graph == ENDLESS:
                continue
            with Recognizer.open(bundle, threads=1, operators=None) as recognizer:
                try:
                    recognizer.transcribe(spell("word"))
                except ModelError as error:
                    errors[f"{folder.name}/{bundle.name}"] = str(error)
    shutil.rmtree(folder / "model")
    return errors


def changed(content: bytes) -> Iterator[bytes]:
    """Bit flips, cuts, insertions, and edited fields of the zip's headers."""
    rng = np.random.default_rng(11)
    yield content
    for cut in (0, 1, 21, 64, len(content) // 2, len(content) - 22, len(content) - 1):
        yield content[:cut]
    yield content + b"\0"
    yield b"\0" + content
    for at in rng.integers(0, len(content), 120):
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(rng.integers(8))
        yield bytes(flipped)
    for at in rng.integers(0, len(content), 20):
        yield content[:at] + bytes(rng.bytes(3)) + content[at:]
        yield content[:at] + content[at + 5 :]
    end = len(content) - 22
    (start,) = struct.unpack_from("<I", content, end + 16)
    for at in range(start, len(content)):  # every byte of the list of entries
        for value in (0, 255):
            edited = bytearray(content)
            edited[at] = value
            yield bytes(edited)


def sources_key() -> str:
    """Hash of what the result depends on."""
    digest = hashlib.sha256()
    sources = [*ROOT.glob("toolchain/**/*.py"), *ROOT.glob("runtime_py/**/*.py")]
    sources += [*ROOT.glob("tests/*.py"), *ROOT.glob("tests/exporters/*.py")]
    sources += [Path(__file__), *ROOT.glob("tests/bundles/*.gz"), *ROOT.glob("examples/clips/*")]
    for path in sorted(sources):
        digest.update(path.read_bytes())
    for path in [
        Path(os.environ.get("MQTOOL_TEST_WEIGHTS", ROOT / "work" / "weights")) / WHISPER,
        *map(trained, COMMANDS),
    ]:
        digest.update(repr(sorted((p.name, p.stat().st_size) for p in path.glob("*"))).encode())
    return digest.hexdigest()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
