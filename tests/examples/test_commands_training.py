"""Training targets lie where the augmented clip has what the teacher heard."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
COMMANDS = Path(__file__).parents[2] / "examples" / "commands"
sys.path.insert(0, str(COMMANDS))

import augment  # noqa: E402
from data import RATE, change_speed  # noqa: E402
from teacher import FRAME, FRAMES, Teacher  # noqa: E402
from train import ctc_model, frame_centers, keyword_model  # noqa: E402


@pytest.mark.parametrize("speed", [0.8, 1.0, 1.25])
def test_a_click_is_where_speed_and_shift_say(speed):
    click = 5_000
    pcm = np.zeros((1, RATE), np.int16)
    pcm[0, click] = 20_000
    copies = torch.from_numpy(change_speed(pcm, speed)).float()
    shifted, start = augment._shift(copies, torch.Generator().manual_seed(1))
    found = shifted[0].abs().argmax() + start[0]
    assert abs((found - RATE / 2) * speed + RATE / 2 - click) <= 2


def test_targets_are_between_frames_and_stay_at_the_ends():
    ramp = np.arange(FRAMES, dtype=np.float16)
    teacher = Teacher(np.stack([ramp, -ramp])[:, :, None].repeat(2, axis=2), width=3)
    ramp_seen = teacher.features[0, :, 0].float()
    middle = FRAME * (torch.tensor([[0.5, 10.5, 10.75, 49.5, 0.0, 60.0]]))
    heard = teacher.targets(torch.tensor([0]), middle)[0, :, 0]
    halfway = (3 * ramp_seen[10] + ramp_seen[11]) / 4
    expected = torch.stack([*ramp_seen[[0, 10]], halfway, *ramp_seen[[49, 0, 49]]])
    torch.testing.assert_close(heard, expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize("make", [keyword_model, ctc_model])
def test_frame_centers_are_those_of_the_convolutions(make):
    config = make().config
    centers = frame_centers(config)
    pcm = torch.zeros(1, 1, RATE, requires_grad=True)
    frames = pcm
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        frames = torch.nn.functional.conv1d(frames, torch.ones(1, 1, kernel), stride=stride)
    assert frames.shape[-1] == len(centers)
    (reach,) = torch.autograd.grad(frames[0, 0, 7], pcm)
    reached = reach[0, 0].nonzero().flatten()
    assert (reached[0] + reached[-1]) / 2 == centers[7]
