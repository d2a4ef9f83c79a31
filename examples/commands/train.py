"""Train the keyword model or the CTC model on the commands set.

    python examples/commands/teacher.py work/weights/whisper-base -o work/teacher.npy
    python examples/commands/train.py keywords --teacher work/teacher.npy
    python examples/commands/train.py ctc --teacher work/teacher.npy

Each run writes one Hugging Face folder (fp16 safetensors) and reports the accuracy on training
speakers that were held out. The `dev` and `calib` speakers are never read here.
"""

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment import augment, mix
from data import DATA, RATE, VOCABULARY, WORDS, Clips, change_speed, held_out, read_clips
from evaluate import is_correct, load
from teacher import Teacher
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from transformers import (
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2ConformerConfig,
    Wav2Vec2ConformerForSequenceClassification,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
)

HERE = Path(__file__).resolve().parent
SPEEDS = (0.8, 0.87, 0.94, 1.0, 1.07, 1.15, 1.25)

# The first layer spans 12.5 ms and steps by 2.5 ms. A frame is 40 ms, for CTC 20 ms: the letters of
# "three" need six, with the blank between its two last ones.
CONVOLUTIONS = {
    "conv_dim": [96, 128, 128, 128, 128],
    "conv_kernel": [200, 4, 4, 4, 4],
    "conv_bias": True,
    "feat_extract_norm": "group",
}
REGULARIZATION = {
    "hidden_dropout": 0.1,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
    "mask_time_prob": 0.1,
    "mask_time_length": 2,
    "mask_feature_prob": 0.1,
    "mask_feature_length": 8,
}
# Settings of parts these models do not have: pretraining, x-vectors, adapters.
NOT_BUILT = (
    *("adapter_", "codevector_", "contrastive_", "diversity_", "feat_quantizer_", "num_adapter_"),
    *("num_codevector", "num_negatives", "proj_codevector_", "tdnn_", "xvector_"),
)


def keyword_model() -> Wav2Vec2ConformerForSequenceClassification:
    config = Wav2Vec2ConformerConfig(
        **CONVOLUTIONS,
        **REGULARIZATION,
        conv_stride=[40, 2, 2, 2, 2],
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        classifier_proj_size=128,
        conv_depthwise_kernel_size=15,
        position_embeddings_type="relative",
        # The convolutional position embedding is built but never called with relative positions.
        num_conv_pos_embeddings=1,
        num_conv_pos_embedding_groups=128,
        id2label=dict(enumerate(WORDS)),
        label2id={word: i for i, word in enumerate(WORDS)},
    )
    return Wav2Vec2ConformerForSequenceClassification(config)


def ctc_model() -> Wav2Vec2ForCTC:
    config = Wav2Vec2Config(
        **CONVOLUTIONS,
        **REGULARIZATION,
        conv_stride=[40, 2, 2, 2, 1],
        do_stable_layer_norm=True,
        hidden_size=144,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=576,
        num_conv_pos_embeddings=15,
        num_conv_pos_embedding_groups=16,
        vocab_size=len(VOCABULARY),
        pad_token_id=VOCABULARY["<pad>"],
        bos_token_id=None,
        eos_token_id=None,
        final_dropout=0.1,
    )
    return Wav2Vec2ForCTC(config)


MODELS: dict[str, Callable[[], PreTrainedModel]] = {"keywords": keyword_model, "ctc": ctc_model}


def start_as_filterbank(weight: Tensor) -> None:
    """Set a first convolution, shape = (filters, 1, taps), to Gabor filters on the mel scale.

    Each band comes in four phases, so that the rectified outputs together follow its envelope
    (after Zeghidour et al., 2018, "Learning filterbanks from raw speech"). Training then moves
    the filters.
    """
    filters, _, taps = weight.shape
    bands = filters // 4
    mel = torch.linspace(math.log1p(60 / 700), math.log1p(7600 / 700), bands + 2)
    hertz = 700 * torch.expm1(mel)
    center, bandwidth = hertz[1:-1, None], (hertz[2:] - hertz[:-2])[:, None] / 2
    seconds = (torch.arange(taps) - (taps - 1) / 2) / RATE
    width = (0.44 / bandwidth).clamp(max=taps / RATE / 5)  # standard deviation, s
    envelope = torch.exp(-0.5 * (seconds / width) ** 2)
    turns = center * seconds
    gabor = torch.cat([envelope * torch.cos(2 * math.pi * (turns + i / 4)) for i in range(4)])
    with torch.no_grad():
        weight.copy_((gabor / gabor.norm(dim=1, keepdim=True))[:, None])


@dataclass(frozen=True)
class Batch:
    """Augmented clips and how they came about; all of shape = (batch,) but for two.

    Attributes:
        pcm: shape = (batch, samples).
        rows: which clips they are.
        others: which rows of the batch were added to them.
        share: of a clip itself and of the other one in the sum, shape = (batch, 2).
        speed: of a clip.
        start: sample of a clip, at its speed, that it was made to start with.
    """

    pcm: Tensor
    rows: Tensor
    others: Tensor
    share: Tensor
    speed: Tensor
    start: Tensor


def draw(copies: Tensor, rows: Tensor, part: float, random: torch.Generator) -> Batch:
    """Clips `rows` at random speeds, augmented, a `part` of them mixed.

    copies: all clips at each of `SPEEDS`, int16, shape = (speeds, clips, samples).
    """
    speed = torch.randint(len(SPEEDS), rows.shape, generator=random)
    pcm, start = augment(copies[speed, rows].float(), random)
    pcm, others, share = mix(pcm, part, random)
    shares = torch.stack([share, 1 - share], dim=1)
    return Batch(pcm, rows, others, shares, torch.tensor(SPEEDS)[speed], start)


def frame_centers(config: PreTrainedConfig) -> Tensor:
    """Sample in the middle of each frame of a second, from `conv_kernel` and `conv_stride`."""
    field, stride, frames = 1, 1, RATE
    for kernel, step in zip(config.conv_kernel, config.conv_stride, strict=True):
        field += (kernel - 1) * stride
        stride *= step
        frames = (frames - kernel) // step + 1
    return (field - 1) / 2 + stride * torch.arange(frames)


def losses(logits: Tensor, labels: list[Tensor]) -> list[Tensor]:
    """Losses of a batch, shape = (batch,), for each of several labellings.

    Cross-entropy over words, or CTC over their letters, divided by their number.
    """
    if logits.ndim == 2:
        return [
            functional.cross_entropy(logits, each, label_smoothing=0.1, reduction="none")
            for each in labels
        ]
    scores = logits.log_softmax(-1).transpose(0, 1)
    return [ctc_loss(scores, [WORDS[label] for label in each]) for each in labels]


def loss_of(
    model: PreTrainedModel,
    teacher: Teacher | None,
    batch: Batch,
    labels: Tensor,
    teacher_weight: float,
) -> Tensor:
    """Mean loss of a batch; labels: of all clips, shape = (clips,)."""
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch.pcm, output_hidden_states=teacher is not None)
    own = labels[batch.rows]
    by_label = losses(output.logits.float(), [own, own[batch.others]])
    loss = (batch.share * torch.stack(by_label, dim=1)).sum(1)
    if teacher:
        # Speed is about the middle of a clip.
        middle = RATE / 2
        shifted = batch.start[:, None] + frame_centers(model.config)
        heard = teacher.targets(batch.rows, (shifted - middle) * batch.speed[:, None] + middle)
        share = batch.share[:, :, None, None]
        targets = share[:, 0] * heard + share[:, 1] * heard[batch.others]
        loss = loss + teacher_weight * teacher.loss(output.hidden_states[-1], targets)
    return loss.mean()


def ctc_loss(scores: Tensor, words: list[str]) -> Tensor:
    """CTC loss a letter, shape = (batch,); scores: log probabilities, (frames, batch, tokens)."""
    letters = torch.tensor([len(word) for word in words])
    loss = functional.ctc_loss(
        scores,
        torch.tensor([VOCABULARY[letter] for word in words for letter in word]),
        input_lengths=torch.full((len(words),), len(scores)),
        target_lengths=letters,
        reduction="none",
    )
    return loss / letters


def decay_groups(modules: list[nn.Module], decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices and convolutions, none for biases, norms and the mask vector."""
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def keep(path: Path, epochs: int, parts: dict[str, Any], random: torch.Generator) -> None:
    """Write all that the next epoch depends on; an interruption leaves the file before it."""
    state = {name: part.state_dict() for name, part in parts.items()}
    state |= {"epochs": epochs, "batches": random.get_state(), "dropout": torch.get_rng_state()}
    state["masks"] = np.random.get_state(legacy=False)  # noqa: NPY002
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def resume(path: Path, parts: dict[str, Any], random: torch.Generator) -> int:
    """Take up what `keep` wrote, if there is such a file; returns the epochs already done."""
    if not path.is_file():
        return 0
    state = torch.load(path, weights_only=False)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    random.set_state(state["batches"])
    torch.set_rng_state(state["dropout"])
    np.random.set_state(state["masks"])  # noqa: NPY002
    return state["epochs"]


def train(
    model: PreTrainedModel,
    teacher: Teacher | None,
    clips: Clips,
    held: Clips,
    options: argparse.Namespace,
) -> None:
    """Train `model` in place; it ends with the moving average of its weights."""
    random = torch.Generator().manual_seed(options.seed)
    copies = torch.from_numpy(np.stack([change_speed(clips.pcm, speed) for speed in SPEEDS]))
    labels = torch.from_numpy(clips.labels)
    batches = len(clips) // options.batch
    steps, warmup = options.epochs * batches, 2 * batches
    learners: list[nn.Module] = [model, teacher] if teacher else [model]
    optimizer = torch.optim.AdamW(
        decay_groups(learners, options.weight_decay), lr=options.rate, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min(
            (step + 1) / warmup,
            0.5 + 0.5 * math.cos(math.pi * max(0, step - warmup) / max(1, steps - warmup)),
        ),
    )
    # transformers asks for the gradient of the audio itself, which costs half of a step.
    model.base_model.feature_extractor._requires_grad = False
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.998))
    parts = {"model": model, "average": average, "optimizer": optimizer, "schedule": schedule}
    if teacher:
        parts["teacher"] = teacher
    first = resume(options.checkpoint, parts, random) if options.checkpoint else 0
    start = time.process_time()
    for epoch in range(first, options.epochs):
        model.train()
        total = 0.0
        order = torch.randperm(len(clips), generator=random)
        for rows in order[: batches * options.batch].view(batches, options.batch):
            batch = draw(copies, rows, options.mix, random)
            loss = loss_of(model, teacher, batch, labels, options.teacher_weight)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            average.update_parameters(model)
            total += loss.item()
        line = f"epoch {epoch + 1:3d}  loss {total / batches:.4f}"
        if (epoch + 1) % options.report == 0 or epoch + 1 == options.epochs:
            line += f"  held-out {100 * is_correct(average.module, held).mean():.2f} %"
        print(f"{line}  {time.process_time() - start:.0f} s of processor time", flush=True)
        if options.checkpoint:
            keep(options.checkpoint, epoch + 1, parts, random)
    model.load_state_dict(average.module.state_dict())


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write the Hugging Face folder: fp16 weights, configuration and processor files."""
    model.half().save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config = {key: value for key, value in config.items() if not key.startswith(NOT_BUILT)}
    config["dtype"] = "float32"  # what to compute in; the file holds halves
    if isinstance(model, Wav2Vec2ForCTC):
        vocabulary = folder / "vocab.json"
        vocabulary.write_text(json.dumps(VOCABULARY, indent=2) + "\n")
        tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), bos_token=None, eos_token=None)
        tokenizer.save_pretrained(folder)
    else:
        config["id2label"] = dict(enumerate(WORDS))
    path.write_text(json.dumps(config, indent=2) + "\n")
    extractor = Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=False)
    extractor.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train a model on the commands set.")
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--data", type=Path, default=DATA, help="folder with manifest.csv")
    parser.add_argument("--out", type=Path, help="default: the model's folder beside this file")
    parser.add_argument("--start", type=Path, help="folder whose convolutions to start from")
    parser.add_argument("--teacher", type=Path, help="what teacher.py wrote; default: labels alone")
    parser.add_argument("--teacher-weight", type=float, default=1.0)
    parser.add_argument("--checkpoint", type=Path, help="file to continue an interrupted run from")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--mix", type=float, default=0.5, help="part of the clips to mix")
    parser.add_argument("--held-out", type=float, default=0.08, help="part of the speakers")
    parser.add_argument("--report", type=int, default=5, help="epochs between validations")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    np.random.seed(options.seed)  # noqa: NPY002, transformers draws its masks from it

    clips = read_clips(options.data, "train")
    is_held = held_out(clips, options.held_out, options.seed)
    model = MODELS[options.model]()
    convolutions = model.base_model.feature_extractor
    if options.start:
        convolutions.load_state_dict(load(options.start).base_model.feature_extractor.state_dict())
    else:
        start_as_filterbank(convolutions.conv_layers[0].conv.weight)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{size:,} parameters, {is_held.sum()} of {len(clips)} clips held out", flush=True)
    teacher = None
    if options.teacher:
        teacher = Teacher(np.load(options.teacher)[~is_held], model.config.hidden_size)
    train(model, teacher, clips[~is_held], clips[is_held], options)
    save(model, options.out or HERE / options.model)


if __name__ == "__main__":
    main()
