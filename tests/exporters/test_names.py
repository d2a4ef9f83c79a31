"""What is no folder of a model, and where a model says it comes from."""

import json

import pytest

pytest.importorskip("torch", reason="export needs mqtool[export]")

from random_sources import wav2vec2_folder

from mqtool.errors import ExportError
from mqtool.exporters.pipeline import export_model
from mqtool.exporters.sources.find import find_source


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny.pt", "a checkpoint without its tokenizer; .*convert_openai_to_hf, and give the"),
        (
            "parakeet.nemo",
            "an archive of NeMo; .*convert_nemo_to_hf.py .*, and give the folder it makes",
        ),
        ("model.onnx", "is a file; give the folder of a model"),
    ],
)
def test_files_of_other_tools(tmp_path, name, message):
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(ExportError, match=f"{name}: {message}"):
        find_source(str(path))
    if name != "model.onnx":
        with pytest.raises(ExportError, match=f"{name}: {message}"):
            find_source(str(path.parent))


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "tokenizer_config.json"]
)
def test_code_of_the_models_own_is_not_run(tmp_path, name):
    source = wav2vec2_folder(tmp_path / "s", "Wav2Vec2ForCTC", pad_token_id=0)
    fields = json.loads((source / name).read_text()) if (source / name).is_file() else {}
    fields["auto_map"] = {"AutoModelForCTC": "modeling_own.OwnForCTC"}
    (source / name).write_text(json.dumps(fields))
    (source / "modeling_own.py").write_text("raise SystemExit('was run')\n")
    with pytest.raises(ExportError, match=rf"{name}: auto_map names code of the model's own"):
        export_model(str(source), tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("card", "stated"),
    [
        ("---\nlicense: mit\n---\n", {"license": "mit"}),
        (
            "---\nbase_model: openai/whisper-small\nlicense: apache-2.0\n---\n# Mine\n",
            {"license": "apache-2.0", "base_model": "openai/whisper-small"},
        ),
        (
            "---\nlicense: other\nlicense_name: mine\nbase_model:\n- a/b\n- c/d\n---\n",
            {"license": "mine", "base_model": "a/b, c/d"},
        ),
        ("---\nbase_model: ../bases/whisper\n---\n", {"base_model": "whisper"}),
        ("---\nlicense: [\n---\n", {}),
        ("---\n- a\n---\n", {}),
        ("no front matter", {}),
        (None, {}),
    ],
    ids=str,
)
def test_a_cards_licence_and_base_travel(tmp_path, card, stated):
    source = tmp_path / "my-tune"
    source.mkdir()
    if card is not None:
        (source / "README.md").write_text(card)
    assert find_source(str(source)).description == {"name": "my-tune", **stated}
