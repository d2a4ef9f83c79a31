"""Low-rank adapters, alone and beside their base, are merged or refused, never left out."""

import json
import shutil

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

import torch
from random_sources import wav2vec2_folder, whisper_folder

from mqruntime.bundle.manifest import Manifest
from mqtool.errors import ExportError
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources import adapters
from mqtool.exporters.sources.find import find_source, load_model, load_source

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")


def save_adapter(base, folder, model=None):
    """A random adapter of the queries and values; returns the weights it leads to."""
    import peft

    model = model or load_model(base)[0]
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    joined = peft.get_peft_model(model, config)
    joined.peft_config["default"].base_model_name_or_path = str(base)
    joined.save_pretrained(folder)
    return joined.merge_and_unload().state_dict()


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2"])
@pytest.mark.parametrize("beside", [False, True])
def test_an_adapter_is_merged(tmp_path, kind, beside):
    if kind == "whisper":
        base = whisper_folder(tmp_path / "base")
    else:
        base = wav2vec2_folder(tmp_path / "base", "Wav2Vec2ForCTC", pad_token_id=0)
    plain = {name: tensor.clone() for name, tensor in load_model(base)[0].state_dict().items()}
    folder = base if beside else tmp_path / "tuned"
    expected = save_adapter(base, folder)
    found = find_source(str(folder))
    state = load_source(found)[0].state_dict()
    assert state.keys() == plain.keys()
    changed = {name for name in state if not torch.equal(state[name], plain[name])}
    assert changed
    assert all("q_proj" in name or "v_proj" in name for name in changed)
    assert all(torch.allclose(state[name], expected[name], atol=1e-6) for name in state)
    exported = export_model(str(folder), tmp_path / "model")
    assert exported.texts.recordings >= 1
    source = Manifest.read(exported.path).source
    assert source["name"] == folder.name
    assert beside or source["base_model"] == "base"


def test_an_adapter_that_nothing_merges(tmp_path, monkeypatch):
    source = whisper_folder(tmp_path / "source")
    (source / "adapter_config.json").write_text("{}")
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"adapter_config\.json: .*; run: pip install peft"):
        export_model(str(source), tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{}", r"base_model_name_or_path is None, not a folder"),
        ('{"base_model_name_or_path": 3}', r"base_model_name_or_path is 3, not a folder"),
        ('{"base_model_name_or_path": "no/such/folder"}', r"no/such/folder: no such folder"),
        ("[]", "not a JSON object"),
        ("{", "not valid JSON"),
    ],
)
def test_an_adapter_without_a_base(tmp_path, settings, message):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "adapter_config.json").write_text(settings)
    with pytest.raises(ExportError, match=message):
        export_model(str(tmp_path / "source"), tmp_path / "model")


def test_adapters_that_do_not_fit(tmp_path):
    base = whisper_folder(tmp_path / "base")
    other = whisper_folder(tmp_path / "other", d_model=48, encoder_attention_heads=3)
    save_adapter(other, tmp_path / "tuned")
    path = tmp_path / "tuned" / "adapter_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "base_model_name_or_path": str(base)}))
    with pytest.raises(ExportError, match="tuned: peft cannot merge it"):
        export_model(str(tmp_path / "tuned"), tmp_path / "model")
    shutil.copytree(tmp_path / "tuned", tmp_path / "again")
    path = tmp_path / "again" / "adapter_config.json"
    path.write_text(json.dumps({**settings, "base_model_name_or_path": str(tmp_path / "tuned")}))
    with pytest.raises(ExportError, match=r"an adapter of an adapter; merge .*tuned first"):
        export_model(str(tmp_path / "again"), tmp_path / "model")
