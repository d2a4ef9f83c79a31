"""Prints the table of docs/reference/families.md: small random models, exported and compared.

PYTHONPATH=tests python tests/exporters/parity_table.py
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from random_sources import (
    CONFORMER,
    DATA2VEC,
    LAYER_NORM,
    SEW_D,
    bert_folder,
    wav2vec2_folder,
    whisper_folder,
)

from mqtool.exporters.pipeline import export_model
from toy_moonshine import moonshine_folder
from toy_parakeet import BYTE_FALLBACK, BYTES, parakeet_folder
from toy_transducer import transducer_folder

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
    "Wav2Vec2Bert": [
        *({"position_embeddings_type": kind} for kind in ("relative_key", "rotary", "relative")),
        {"add_adapter": True, "output_hidden_size": 40},
    ],
    "SEW": SQUEEZED,
    "SEWD": [SEW_D | options for options in (*SQUEEZED, {"share_att_key": False})],
}

PARAKEET = [
    {},
    {"num_mel_bins": 128, "subsampling_factor": 4},
    {"attention_bias": False, "convolution_bias": False, "scale_input": False},
    {"pieces": BYTES, "decoder": BYTE_FALLBACK, "front_end": {"preemphasis": None}},
]
TRANSDUCERS = [
    {},
    {"num_decoder_layers": 1, "max_symbols_per_step": 2, "hidden_act": "gelu"},
    {"decoder_hidden_size": 37, "encoder_config": {"subsampling_factor": 4, "num_mel_bins": 128}},
]


def sources(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Names of transformers, and folders of models of that name."""
    yield "Whisper", [whisper_folder(folder / "whisper")]
    yield "Moonshine", [moonshine_folder(folder / "moonshine")]
    yield "MoonshineStreaming", [moonshine_folder(folder / "streaming", streaming=True)]
    made = [parakeet_folder(folder / f"parakeet{n}", **one) for n, one in enumerate(PARAKEET)]
    yield "Parakeet", made
    for kind in ("TDT", "RNNT"):
        places = [folder / f"{kind}{number}" for number in range(len(TRANSDUCERS))]
        made = [
            transducer_folder(place, kind, **one)
            for place, one in zip(places, TRANSDUCERS, strict=True)
        ]
        yield f"Parakeet{kind}", made
    for model, choices in MODELS.items():
        made = []
        for head, more in (("CTC", {}), ("SequenceClassification", WEIGHTED)):
            for options in choices:
                if "add_adapter" not in options or head == "CTC":
                    place = folder / f"{model}{head}{len(made)}"
                    if model == "Wav2Vec2Bert":
                        made.append(bert_folder(place, head, **options, **more))
                    else:
                        made.append(wav2vec2_folder(place, f"{model}For{head}", **options, **more))
        yield model, made


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for model, made in sources(Path(name)):
            results = [export_model(str(source), source / "exported") for source in made]
            worst = max(result.parity.difference for result in results)
            tokens = sum(result.texts.tokens for result in results)
            row = [f"`{results[0].family}`", f"`{model}`", len(results), f"{worst:.1e}", tokens]
            print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
