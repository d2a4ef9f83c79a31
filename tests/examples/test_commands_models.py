"""The trained folders in examples/commands: whole, small, and as good as their cards say."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {name: ROOT / "examples" / "commands" / name for name in ("keywords", "ctc")}
PROCESSOR_FILES = {
    "keywords": {"preprocessor_config.json"},
    "ctc": {"preprocessor_config.json", "tokenizer_config.json", "vocab.json"},
}

pytestmark = pytest.mark.skipif(
    not all((folder / "model.safetensors").is_file() for folder in FOLDERS.values()),
    reason="no trained weights in examples/commands yet; train them as its README says",
)


@pytest.fixture(scope="module")
def clips(speech: Path) -> tuple[list[np.ndarray], list[str]]:
    """120 clips of the ten `dev` speakers, evenly spread over the manifest, and their words."""
    with (speech / "commands" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "dev"]
    rows = [rows[i] for i in np.linspace(0, len(rows) - 1, 120).astype(int)]
    pcm = [soundfile.read(speech / "commands" / row["path"], dtype="float32")[0] for row in rows]
    return pcm, [row["transcript"] for row in rows]


@pytest.mark.parametrize("name", FOLDERS)
def test_folder_is_whole_small_and_half_precision(name: str) -> None:
    folder = FOLDERS[name]
    files = {path.name for path in folder.iterdir()}
    assert files == {"README.md", "config.json", "model.safetensors"} | PROCESSOR_FILES[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    stored = {tensor["dtype"] for key, tensor in header.items() if key != "__metadata__"}
    assert stored <= {"F16", "I64"}  # I64: batch norm's count of batches


def test_keyword_accuracy(clips: tuple[list[np.ndarray], list[str]]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pcm, words = clips
    extractor = transformers.AutoFeatureExtractor.from_pretrained(FOLDERS["keywords"])
    model = transformers.Wav2Vec2ConformerForSequenceClassification.from_pretrained(
        FOLDERS["keywords"], dtype=torch.float32
    ).eval()
    inputs = extractor(pcm, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        best = model(**inputs).logits.argmax(-1)
    right = sum(model.config.id2label[int(i)] == word for i, word in zip(best, words, strict=True))
    assert right / len(words) >= KEYWORD_ACCURACY


def test_ctc_word_accuracy(clips: tuple[list[np.ndarray], list[str]]) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    pcm, words = clips
    processor = transformers.Wav2Vec2Processor.from_pretrained(FOLDERS["ctc"])
    model = transformers.Wav2Vec2ForCTC.from_pretrained(FOLDERS["ctc"], dtype=torch.float32).eval()
    inputs = processor(pcm, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        texts = processor.batch_decode(model(**inputs).logits.argmax(-1))
    right = sum(text == word for text, word in zip(texts, words, strict=True))
    assert right / len(words) >= CTC_WORD_ACCURACY
