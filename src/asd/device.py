"""Where the networks run, and with how many threads."""

import logging
import os

import torch

from asd.errors import InputError
from asd.settings import Compute

log = logging.getLogger(__name__)


def prepare(settings: Compute) -> torch.device:
    """Set threads and determinism of this process and return the device.

    Raises:
        InputError: a CUDA device is asked for and there is none.
    """
    torch.set_num_threads(settings.threads)
    chosen = settings.device
    if chosen == "auto":
        chosen = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(chosen)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"compute.device: found {chosen!r}, but torch sees no CUDA device; set it to auto or cpu")
    if settings.deterministic and device.type == "cuda":
        # cuBLAS reads this when it starts; it is what torch.use_deterministic_algorithms asks for.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    log.info("device %s, %d threads", device, settings.threads)
    return device
