"""Prints the table of docs/reference/families.md: small random models, exported and compared.

python tests/exporters/parity_table.py
"""

import tempfile
from pathlib import Path

from random_sources import CONFORMER, DATA2VEC, LAYER_NORM, SEW_D, wav2vec2_folder, whisper_folder

from mqruntime.bundle.manifest import Manifest
from mqtool.exporters.pipeline import export_model

ADAPTER = {"add_adapter": True, "adapter_kernel_size": 4, "output_hidden_size": 20}
WEIGHTED = {"use_weighted_layer_sum": True}
BOTH_NORMS = [{}, LAYER_NORM]
SQUEEZED = [{"squeeze_factor": 2}, {"squeeze_factor": 3, "num_conv_pos_embeddings": 15}]
MODELS = {
    "Wav2Vec2": [*BOTH_NORMS, LAYER_NORM | {"adapter_attn_dim": 8}, ADAPTER],
    "Wav2Vec2Conformer": [
        CONFORMER | {"position_embeddings_type": kind} for kind in ("relative", "rotary", None)
    ],
    "Hubert": [*BOTH_NORMS, {"conv_pos_batch_norm": True}, {"feat_proj_layer_norm": False}],
    "WavLM": [*BOTH_NORMS, {"num_buckets": 16, "max_bucket_distance": 20}, ADAPTER],
    "Data2VecAudio": [DATA2VEC, DATA2VEC | {"conv_pos_kernel_size": 4}, DATA2VEC | ADAPTER],
    "UniSpeech": BOTH_NORMS,
    "UniSpeechSat": BOTH_NORMS,
    "SEW": SQUEEZED,
    "SEWD": [SEW_D | options for options in (*SQUEEZED, {"share_att_key": False})],
}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [export_model(str(whisper_folder(folder / "s")), folder / "m").parity]
        print(
            f"| `whisper` | `WhisperForConditionalGeneration` | 1 | {results[0].difference:.1e} |"
        )
        for model, choices in MODELS.items():
            results = []
            for head, more in (("CTC", {}), ("SequenceClassification", WEIGHTED)):
                for options in choices:
                    if "add_adapter" in options and not head.startswith("CTC"):
                        continue
                    place = folder / f"{model}{head}{len(results)}"
                    source = wav2vec2_folder(place / "s", f"{model}For{head}", **options, **more)
                    results.append(export_model(str(source), place / "m").parity)
                    family = Manifest.read(place / "m").family
            worst = max(result.difference for result in results)
            print(f"| `{family}` | `{model}` | {len(results)} | {worst:.1e} |", flush=True)


if __name__ == "__main__":
    main()
