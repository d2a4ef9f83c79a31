"""What `mqtool export` says to sources it cannot use, and that it then leaves nothing behind."""

import json
import sys

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from random_sources import wav2vec2_folder, whisper_folder

from mqtool.errors import ExportError, MissingPackageError, MqError, ParityError
from mqtool.exporters.families.family import architectures
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources.find import find_source


def refusal(source, tmp_path) -> str:
    """The one-line message of a failing export that wrote nothing."""
    before = set(tmp_path.iterdir())
    with pytest.raises(ExportError) as error:
        export_model(str(source), tmp_path / "out")
    assert set(tmp_path.iterdir()) == before
    message = str(error.value)
    assert "\n" not in message
    assert str(source) in message
    return message


@pytest.fixture
def source(tmp_path):
    return wav2vec2_folder(tmp_path / "source", "Wav2Vec2ForCTC")


def test_neither_a_folder_nor_a_hub_id(tmp_path):
    assert "no such folder" in refusal("no/such/place", tmp_path)
    assert "no such folder" in refusal("C:\\models", tmp_path)
    file = tmp_path / "clip.wav"
    file.write_bytes(b"RIFF")
    assert "is a file" in refusal(file, tmp_path)


def test_a_hub_id_without_the_hub(tmp_path, monkeypatch):
    """Offline mode answers as no network does: at once."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = refusal("somebody/some-model", tmp_path)
    assert "hub cannot be reached" in message
    assert "give a folder" in message


def test_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "not a model folder (no config.json)" in refusal(tmp_path / "empty", tmp_path)


def test_an_unsupported_architecture_names_the_supported_ones(source, tmp_path):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    message = refusal(source, tmp_path)
    assert "'BertModel'" in message
    assert all(name in message for name in architectures())


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_malformed_config(source, tmp_path, content):
    (source / "config.json").write_text(content)
    assert "config.json" in refusal(source, tmp_path)


def test_truncated_and_missing_weights(source, tmp_path):
    weights = source / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    assert "transformers cannot load it" in refusal(source, tmp_path)
    weights.unlink()
    assert "transformers cannot load it" in refusal(source, tmp_path)


def test_weights_of_another_model(source, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(source / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    assert "lm_head.weight" in refusal(source, tmp_path)


def test_pytorch_bin_weights(source, tmp_path):
    import torch
    from safetensors.torch import load_file

    torch.save(load_file(source / "model.safetensors"), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    assert export_model(str(source), tmp_path / "out").family == "wav2vec2"


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_none(source, tmp_path):
    import torch

    class Call:
        def __reduce__(self):
            return open, (str(tmp_path / "made by the checkpoint"), "w")

    (source / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Call()}, source / "pytorch_model.bin")
    assert "save the weights as safetensors" in refusal(source, tmp_path)
    (source / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    assert "save the weights as safetensors" in refusal(source, tmp_path)


@pytest.mark.parametrize("name", ["vocab.json", "preprocessor_config.json"])
def test_a_missing_file_is_named(source, tmp_path, name):
    (source / name).unlink()
    assert name in refusal(source, tmp_path)


def test_a_tokenizer_of_another_size(tmp_path):
    source = whisper_folder(tmp_path / "source")
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    del tokenizer["model"]["vocab"][next(iter(tokenizer["model"]["vocab"]))]
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "59 of the model's 60 tokens (not 0)" in refusal(source, tmp_path)


def test_the_licence_of_the_model_card_is_kept(source):
    (source / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    description = find_source(str(source)).description
    assert description == {"name": "source", "license": "apache-2.0"}


def test_a_graph_that_disagrees_is_not_written(source, tmp_path, monkeypatch):
    from mqtool.exporters.families import wav2vec2

    def change_a_weight(model):
        model.lm_head.weight.data[3, 5] += 0.01

    monkeypatch.setattr(wav2vec2, "_fold_batch_norms", change_a_weight)
    with pytest.raises(ParityError, match=r"differ from the reference by \d\.\d+e-0\d"):
        export_model(str(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


def test_an_output_that_is_not_a_model_is_left_alone(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(MqError, match="not a model folder"):
        export_model(str(source), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_the_command(source, tmp_path):
    from click.testing import CliRunner

    from mqtool.cli.main import cli

    arguments = ["export", str(source), "-o", str(tmp_path / "out"), "--json", str(tmp_path / "r")]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert "greedy choices equal" in result.stdout
    written = json.loads((tmp_path / "r").read_text())
    assert written["family"] == "wav2vec2"
    assert written["bytes"] == sum(p.stat().st_size for p in (tmp_path / "out").iterdir())
    assert written["parity"]["difference"] < 1e-5


def test_the_command_without_torch(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from mqtool.cli.main import cli

    monkeypatch.setattr("mqtool.extras.find_spec", lambda name: None if name == "torch" else sys)
    result = CliRunner().invoke(cli, ["export", "x", "-o", str(tmp_path / "out")])
    assert isinstance(result.exception, MissingPackageError)
    assert "export needs torch; run: pip install" in str(result.exception)
    assert "pip install '.[export]'" in str(result.exception)
