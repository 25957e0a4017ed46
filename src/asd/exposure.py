"""The classifier's uncertainty as an anomaly score (outlier exposure; Hendrycks et al. 2019, the DCASE 2022 baseline).

score = log(1 - p) - log(p), where p is the softmax probability of the clip's own section among all section labels.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch

from asd.errors import InputError
from asd.features import computed, cut
from asd.network import Network
from asd.settings import Windows

if TYPE_CHECKING:
    from asd.cache import Cache


def doubt(logits: torch.Tensor, section: torch.Tensor) -> torch.Tensor:
    """Return the uncertainty log(1 - p) - log(p) of each row's own class, (rows,), without computing p.

    1 - p is the sum of the probabilities of the other classes, so the denominator of the softmax cancels. What remains
    is the log-sum-exp of the other logits minus the own logit, which neither overflows nor loses digits if p is near 1.

    Args:
        logits: (rows, classes), at least two classes.
        section: (rows,) int64, index of the own class.
    """
    own = logits.gather(1, section[:, None])
    others = logits.scatter(1, section[:, None], -torch.inf)
    return torch.logsumexp(others, 1) - own[:, 0]


def scores(network: Network, cache: "Cache", settings: Windows, device: torch.device) -> np.ndarray:
    """Return the score of every clip; if clips are cut into windows, the mean over the clip's windows.

    Args:
        network: trained, on `device`.
        cache: an open log-mel cache of the machine.
        settings: how clips are cut into windows.
        device: where to compute.

    Returns:
        (clips,) float64.

    Raises:
        InputError: the network has a single section label, or was not trained on a section of the clips.
    """
    description = network.description
    if network.section is None:
        raise InputError(
            f"machine {description.machine}: the network knows a single section, so it has no section classifier, "
            "which exposure needs: use the gaussian detector, or train this network with equaliser.probability or "
            "faults.probability above 0, which doubles the labels"
        )
    known = {label: index for index, label in enumerate(description.section_labels)}
    own = [description.section_label(*one) for one in zip(cache.clips["machine"], cache.clips["section"], strict=True)]
    unknown = sorted(set(own) - set(known))
    if unknown:
        raise InputError(
            f"machine {description.machine}: section {', '.join(unknown)} has test clips, but the network was trained "
            f"on {', '.join(known)}; add training clips of the section, or leave its test clips out"
        )
    rows = cut((cache.clips["split"] == "train").to_numpy(), cache.frames, settings)
    section = torch.tensor([known[label] for label in own])[torch.from_numpy(rows.clip)]
    values = np.empty(len(rows.clip))

    def logits_of(logmel: torch.Tensor) -> torch.Tensor:
        return network.section(network.embed(network.standardise(logmel)))

    for begin, end, logits in computed(logits_of, cache, rows, device, "scores"):
        values[begin:end] = doubt(logits, section[begin:end]).double().numpy()
    return np.add.reduceat(values, rows.offsets[:-1]) / np.diff(rows.offsets)
