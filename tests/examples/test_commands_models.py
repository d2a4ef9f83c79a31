"""The trained folders in examples/commands: whole, small, and as good as their cards say."""

import json

import numpy as np
import pytest

from conftest import COMMANDS_MODELS
from mqruntime.bundle.manifest import Manifest
from mqruntime.engine.session import Session
from mqtool.context import RunContext
from mqtool.evaluation.score import evaluate_model
from mqtool.recordings.clips import find_clips

PROCESSOR_FILES = {
    "keywords": {"preprocessor_config.json"},
    "ctc": {"preprocessor_config.json", "tokenizer_config.json", "vocab.json"},
}
DEV_CLIPS = 272
METRICS = {"keywords": "accuracy", "ctc": "wer"}

names = pytest.mark.parametrize("name", COMMANDS_MODELS)


@pytest.fixture
def exported(name, request):
    return request.getfixturevalue(f"exported_{name}")


@names
def test_folder_is_whole_small_and_half_precision(name):
    folder = COMMANDS_MODELS[name]
    files = {path.name for path in folder.iterdir()}
    assert files == {"README.md", "config.json", "model.safetensors"} | PROCESSOR_FILES[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000
    with (folder / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    stored = {tensor["dtype"] for key, tensor in header.items() if key != "__metadata__"}
    assert stored <= {"F16", "I64"}  # I64: batch norm's count of batches


def _card(name):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    return huggingface_hub.ModelCard.load(COMMANDS_MODELS[name] / "README.md")


@names
def test_card_attributes_the_data(name):
    card = _card(name)
    assert card.data.license == "apache-2.0"
    for required in ("CC BY 4.0", "Pete Warden", "arXiv:1804.03209"):
        assert required in " ".join(card.text.split())


@pytest.mark.data
@names
def test_dev_speakers_are_understood_as_the_card_says(name, exported, speech):
    """All `dev` clips in onnxruntime against the card's figure, which comes from PyTorch.

    One clip in a hundred may come out otherwise: PyTorch was given clips padded to one second.
    """
    (stated,) = _card(name).data.eval_results
    assert (stated.metric_type, stated.dataset_split) == (METRICS[name], "dev")
    clips = find_clips([speech / "commands" / "manifest.csv"], split="dev")
    assert len(clips) == DEV_CLIPS
    measured = evaluate_model(exported, clips, context=RunContext(threads=1)).to_json()[
        METRICS[name]
    ]
    assert abs(measured - stated.metric_value) <= 1.0


@pytest.mark.data
@names
def test_any_batch_and_length_agrees_with_pytorch(name, exported, speech):
    """Real speech in batches of 1, 2 and 3, from the shortest clip to three seconds.

    Relative attention, GLU and depthwise convolutions must follow both: a reshape that froze the
    traced example's batch or length would agree at that one size only.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    kind = {
        "keywords": transformers.Wav2Vec2ConformerForSequenceClassification,
        "ctc": transformers.Wav2Vec2ForCTC,
    }[name]
    model = kind.from_pretrained(COMMANDS_MODELS[name], dtype=torch.float32).eval()
    extract = transformers.AutoFeatureExtractor.from_pretrained(COMMANDS_MODELS[name])
    shortest = Manifest.read(exported).min_samples
    clips = find_clips([speech / "commands" / "manifest.csv"], split="dev")[::30]
    recorded = np.concatenate([clip.pcm() for clip in clips])
    session = Session(exported / "model.onnx", threads=1)
    for batch in (1, 2, 3):
        for samples in (shortest, 5_555, 16_000, 16_001, 48_000):
            pcm = np.stack([recorded[8_000 * i :][:samples] for i in range(batch)])
            inputs = extract(list(pcm), sampling_rate=16_000, return_tensors="pt")
            with torch.inference_mode():
                expected = model(**inputs).logits.numpy()
            logits = session.run({"pcm": pcm})["logits"]
            assert logits.shape == expected.shape, (batch, samples)
            difference = np.abs(logits - expected).max() / np.ptp(expected)
            assert difference < 1e-5, (batch, samples)
