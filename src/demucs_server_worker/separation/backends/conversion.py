"""`python -m demucs_server_worker.separation.backends.conversion FOLDER`: turn a network into what OpenVINO reads.

A process of its own: converting takes more than a gigabyte, not all of which would come back, holds Python's lock for
seconds at a time, and must not take a worker along if it crashes. It ends when its standard input does: its parent is
gone.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from pathlib import Path

import torch
from torch import nn

from demucs_server_worker.separation.backends.channels_last import ChannelsLastCore, can_be_channels_last
from demucs_server_worker.separation.backends.openvino_backend import load_openvino
from demucs_server_worker.separation.backends.rewriting import rewrite
from demucs_server_worker.separation.backends.split import Core, Ends

# Counts up with each change to what is converted, so that no older conversion is taken for a new one.
CONVERSION_VERSION = 3

NETWORK = "network.pt"
CONVERTED = "core.xml"
WEIGHTS = "core.bin"


def convert(folder: Path) -> None:
    """Read the network from `folder` and write its core there.

    Args:
        folder: holds `NETWORK`, written by this process's parent, and gets `CONVERTED` and `WEIGHTS`.
    """
    openvino = load_openvino()
    network = torch.load(folder / NETWORK, weights_only=False, mmap=True)
    ends = Ends(network)
    with torch.no_grad():
        spectrum, wave = ends.example()
        program = torch.export.export(core_of(network).eval(), (spectrum, wave))
        model = openvino.convert_model(program)
    # The shapes are those of the one segment length: OpenVINO then plans its memory ahead.
    model.reshape({place: list(example.shape) for place, example in enumerate((spectrum, wave))})
    # Not half precision, which is the default: fp32 must stay exact.
    openvino.save_model(model, folder / CONVERTED, compress_to_fp16=False)


def core_of(network: nn.Module) -> nn.Module:
    """The core of `network` in the form that runs fastest: as `split.Core`, for a batch of one.

    Args:
        network: one that `is_divisible`; it is changed.
    """
    if can_be_channels_last(network):
        return ChannelsLastCore(network)
    rewrite(network)
    return Core(network)


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of torch's own, about its own code
    threading.Thread(target=_end_with_parent, daemon=True).start()
    convert(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # not through the exit of native libraries: all is written
