"""How close an estimated stem is to the truth."""

import math

import numpy as np
from numpy.typing import ArrayLike


def sdr(reference: ArrayLike, estimate: ArrayLike) -> float:
    """Return the signal-to-distortion ratio of an estimate, in decibels.

    ``10 log10(sum(reference²) / sum((reference - estimate)²))`` over all channels and samples, the measure of the Music
    Demixing Challenge 2021 (Mitsufuji et al., *Frontiers in Signal Processing* 1:808395, 2022, section 2.3). The
    challenge adds a small constant to both sums; here silence is answered for instead:

    - a silent reference has no ratio: the answer is ``nan``, whatever the estimate;
    - an exact estimate of a sounding reference is ``inf``;
    - a silent estimate is 0 dB, as the formula says.

    Args:
        reference: the true stem, ``(channels, samples)`` or any other shape.
        estimate: the estimated stem, same shape.

    Raises:
        ValueError: the shapes differ.
    """
    truth = np.asarray(reference, dtype=np.float64)
    guess = np.asarray(estimate, dtype=np.float64)
    if truth.shape != guess.shape:
        raise ValueError(f"reference has shape {truth.shape}, estimate {guess.shape}")
    signal = float(np.sum(truth**2))
    distortion = float(np.sum((truth - guess) ** 2))
    if signal == 0.0:
        return math.nan
    if distortion == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / distortion)
