"""Softmax, and logits that are no numbers."""

import numpy as np
import pytest

from mqruntime.errors import ModelError
from mqruntime.probabilities import log_softmax, softmax


def test_rows_of_logits():
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32)) + 100
    np.testing.assert_allclose(softmax(logits), [[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_softmax(logits)), softmax(logits), rtol=1e-12)


def test_what_is_suppressed_stays_so():
    assert log_softmax(np.array([-np.inf, 0.0])).tolist() == [-np.inf, 0.0]


@pytest.mark.parametrize("function", [softmax, log_softmax])
@pytest.mark.parametrize("wrong", [[np.nan, 0.0], [np.inf, 0.0], [-np.inf, -np.inf]], ids=str)
def test_logits_of_a_damaged_model_are_refused(function, wrong):
    """They came as a warning of numpy and text that means nothing."""
    with pytest.raises(ModelError, match=r"largest logit is .*; pack or copy it again"):
        function(np.array([[1.0, 2.0], wrong], np.float32))
