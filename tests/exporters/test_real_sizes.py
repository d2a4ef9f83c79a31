"""Models of the published sizes, with random weights: they export, and fit in memory."""

import gc
import json
import shutil

import pytest

from peaks import peak_of

pytest.importorskip("torch", reason="export needs mqtool[export]")

pytestmark = pytest.mark.slow

LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "conv_bias": True,
}
QUARTER = LARGE | {"num_hidden_layers": 6}
"""What is above 2 GB only `make soak` pays for, and one of these is enough for `make test`."""
CONFORMER = LARGE | {"hidden_act": "swish", "vocab_size": 32}

# Name, class, options, millions of parameters, size above which data is external (None: as it is),
# limit of memory in GB.
CASES = [
    ("base", "Wav2Vec2ForCTC", {}, 94, 300_000_000, 3.5),
    (
        "quarter-conformer-relative",
        "Wav2Vec2ConformerForCTC",
        CONFORMER | QUARTER | {"position_embeddings_type": "relative"},
        164,
        None,
        7.5,
    ),
]
LARGE_CASES = [
    ("quarter-large", "Wav2Vec2ForCTC", QUARTER | {"do_stable_layer_norm": True}, 88, None, 7.5),
    (
        "large-conformer-rotary",
        "Wav2Vec2ConformerForCTC",
        CONFORMER | {"position_embeddings_type": "rotary"},
        593,
        None,
        7.5,
    ),
]

EXPORT = """
import json, sys
from pathlib import Path
from mqtool.exporters import graphs
from mqtool.exporters.pipeline import export_model
if sys.argv[3:]:
    graphs._EXTERNAL_DATA_OVER = int(sys.argv[3])
result = export_model(sys.argv[1], Path(sys.argv[2]))
print(json.dumps([result.parameters, result.bytes, result.parity.difference]))
"""


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_exports(case, tmp_path):
    check_export(tmp_path, *case[1:])


@pytest.mark.soak(whole=True)
@pytest.mark.parametrize("case", LARGE_CASES, ids=[case[0] for case in LARGE_CASES])
def test_exports_larger(case, tmp_path):
    check_export(tmp_path, *case[1:])


def check_export(tmp_path, model_class, options, millions, external_over, gigabytes):
    """In its own process, so that the peak of memory is its own. Needs 5 GB of disk."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind = getattr(transformers, model_class)
    model = kind(kind.config_class(**options))
    model.save_pretrained(tmp_path / "source")
    del model
    gc.collect()
    ids = {"<pad>": 0, "|": 4} | {f"t{index}": index for index in range(32) if index not in (0, 4)}
    (tmp_path / "source" / "vocab.json").write_text(json.dumps(ids))
    settings = {"do_normalize": True, "sampling_rate": 16000}
    (tmp_path / "source" / "preprocessor_config.json").write_text(json.dumps(settings))
    folder = tmp_path / "model"
    over = [external_over] if external_over else []
    try:
        peak, printed, _ = peak_of(EXPORT, tmp_path / "source", folder, *over)
        parameters, size, difference = json.loads(printed[-1])
        assert parameters // 1_000_000 == millions
        assert difference < 1e-4
        external = 4 * parameters > (external_over or 1_500_000_000)
        assert (folder / "model.onnx.data").exists() == external
        assert size < 4 * parameters + 500_000
        assert peak < gigabytes * 1e9
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)
