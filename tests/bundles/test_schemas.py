"""The JSON Schemas say what the files are (that they are up to date is checked with the docs)."""

import gzip
import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError

from fake_ctc import reader_folder
from fake_whisper import whisper_folder
from mqruntime.bundle.bundle_manifest import BundleManifest
from mqruntime.bundle.file import Bundle
from mqruntime.bundle.manifest import Manifest, Seq2SeqSettings, TransducerSettings
from mqtool.bundles.package import write_package
from mqtool.model.folder import ModelFolder
from mutants import VECTORS
from quantizers import make_plan
from tiny_graph import toy_folder

SCHEMAS = Path(__file__).parents[2] / "toolchain"


ENCODER_DECODER = {"encoder": "encoder.onnx", "decoder": "decoder.onnx"}
SEQ2SEQ = Seq2SeqSettings([1], [2], [], [], [1, 2], "byte_level", 20, 6.5, 480_000)
TRANSDUCER_GRAPHS = {name: f"{name}.onnx" for name in ("encoder", "predictor", "joint")}
TRANSDUCER = TransducerSettings(8, 8, [], [8], [0, 1], 10, False, 2, 640, 1280, 480_000)


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_a_bundle_fits_its_schemas(tmp_path):
    write_package(reader_folder(tmp_path / "model"), tmp_path / "app.mqz")
    bundle = Bundle.open(tmp_path / "app.mqz")
    for name, entry in (("manifest", "manifest.json"), ("golden", "golden/golden.json")):
        validator(name).validate(json.loads(bytes(bundle.read(entry))))
    model = json.loads(bytes(bundle.read("model.json")))
    validator("model").validate(model)
    with pytest.raises(ValidationError, match="Additional properties"):
        validator("model").validate({**model, "more": 1})
    with pytest.raises(ValidationError, match="'16000' is not of type 'integer'"):
        validator("model").validate({**model, "sample_rate": "16000"})


def test_manifests_of_every_task_fit_the_schema(tmp_path):
    manifests = [
        Manifest.read(whisper_folder(tmp_path / "whisper")),
        Manifest("t", "transducer", 16000, TRANSDUCER_GRAPHS, "v.gz", transducer=TRANSDUCER),
        Manifest("moonshine", "seq2seq", 16000, ENCODER_DECODER, "v.gz", seq2seq=SEQ2SEQ),
    ]
    for manifest in manifests:
        validator("model").validate(manifest.to_json())
    with pytest.raises(ValidationError, match="not valid under any of the given schemas"):
        validator("model").validate({**manifest.to_json(), "seq2seq": {"start": [1], "end": [2]}})


def test_a_plan_fits_its_schema(tmp_path):
    folder = ModelFolder.open(toy_folder(tmp_path / "toy", scale=4))
    plan = json.loads(make_plan(folder, [], 60 * 1024, method="uniform").to_bytes())
    validator("plan").validate(plan)
    del plan["layers"][0]["bits"]
    with pytest.raises(ValidationError, match="'bits' is a required property"):
        validator("plan").validate(plan)


def test_what_the_reader_takes_the_schema_takes():
    """And what only the schema refuses, the reader would have to refuse too."""
    schema, taken, refused = validator("manifest"), 0, 0
    for row in json.loads(gzip.decompress(VECTORS.read_bytes()))["mutants"]:
        content = bytes.fromhex(row["bundle"])
        length = int.from_bytes(content[22:26], "little")
        text = content[64 : 64 + length]
        try:
            BundleManifest.parse(text)
        except ValueError:
            refused += 1
            continue
        schema.validate(json.loads(text))
        taken += 1
    assert taken > 50
    assert refused > 20
