"""From any number of channels to two, by channel name. Pure.

The coefficients are those of Recommendation ITU-R BS.775 for a stereo downmix: what is in front of one side stays at
full level, the centre and the surrounds come in at −3 dB, the low-frequency effects are left out. Nothing is scaled
down afterwards, so loud surround mixes may pass full scale; the float path keeps what does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_CHANNELS = 8
"""7.1 and 5.1.2. PyAV cannot safely hand out the planes of more (see `samples`)."""

MINUS_3_DB = 2**-0.5
MINUS_6_DB = 0.5

# (left, right) by FFmpeg's short channel names. The rear centre is split over both surrounds before their −3 dB.
_COEFFICIENTS: dict[str, tuple[float, float]] = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FC": (MINUS_3_DB, MINUS_3_DB),
    "LFE": (0.0, 0.0),
    "LFE2": (0.0, 0.0),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
    "BL": (MINUS_3_DB, 0.0),
    "BR": (0.0, MINUS_3_DB),
    "SL": (MINUS_3_DB, 0.0),
    "SR": (0.0, MINUS_3_DB),
    "BC": (MINUS_6_DB, MINUS_6_DB),
    "WL": (1.0, 0.0),
    "WR": (0.0, 1.0),
    "SDL": (MINUS_3_DB, 0.0),
    "SDR": (0.0, MINUS_3_DB),
    "TC": (MINUS_6_DB, MINUS_6_DB),
    "TFL": (MINUS_3_DB, 0.0),
    "TFR": (0.0, MINUS_3_DB),
    "TFC": (MINUS_6_DB, MINUS_6_DB),
    "TBL": (MINUS_3_DB, 0.0),
    "TBR": (0.0, MINUS_3_DB),
    "TBC": (MINUS_6_DB, MINUS_6_DB),
    "TSL": (MINUS_3_DB, 0.0),
    "TSR": (0.0, MINUS_3_DB),
}

# What a count of channels means when a file does not name them (the order of WAVE_FORMAT_EXTENSIBLE).
_BY_COUNT: dict[int, tuple[str, ...]] = {
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


def downmix_matrix(names: Sequence[str]) -> NDArray[np.float32] | None:
    """The weights that turn channels of these names into left and right.

    Args:
        names: FFmpeg's short name of each channel, in the order of the samples.

    Returns:
        (2, channels); None when the channels are too many or mean nothing known.
    """
    count = len(names)
    if count == 0 or count > MAX_CHANNELS:
        return None
    if count == 1:
        return np.ones((2, 1), np.float32)  # (2, 1): mono stands on both sides at full level, as in Demucs
    if count == 2:
        return np.eye(2, dtype=np.float32)
    known = names if set(names) <= _COEFFICIENTS.keys() and len(set(names)) == count else _BY_COUNT.get(count)
    if known is None:
        return None
    return np.array([_COEFFICIENTS[name] for name in known], np.float32).T  # (2, channels)


def to_stereo(samples: NDArray[np.float32], matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mix down one block.

    Args:
        samples: (channels, samples).
        matrix: from `downmix_matrix`, (2, channels).

    Returns:
        (2, samples), C-contiguous. Mono and stereo come back with their exact values.
    """
    if samples.shape[0] == 1:
        return np.repeat(samples, 2, axis=0)  # (2, samples)
    if samples.shape[0] == 2:
        return np.ascontiguousarray(samples)  # (2, samples)
    return np.ascontiguousarray(matrix @ samples)  # (2, samples)
