"""The loss of equation (1) of the paper: the focal loss of AdaCos logits, one head for sections, one for attributes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

SMALLEST_SCALE = math.sqrt(2) * math.log(2)
"""The initial scale of three classes. With two, the published initial scale is 0 and no gradient would ever flow."""
LARGEST_SCALE = 1000.0
"""Where every cosine is the same c, the published recursion s <- (log(C - 1) + s c) / c grows without end."""


def adaptive_scale(cosine: Tensor, labels: Tensor, previous: Tensor) -> Tensor:
    """The scale of dynamic AdaCos for one batch.

    Zhang et al., "AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning Deep Face Representations",
    CVPR 2019, section 4.2 (dynamically adaptive scale):

        B_avg = mean over the batch of the sum over the other classes k != y of exp(s_previous cos(theta_k))
        s = log(B_avg) / cos(min(pi / 4, theta_med)),    theta_med = median over the batch of theta_y

    Of an even number of angles the median is the lower of the middle two. A batch whose scale is not finite
    leaves it as it was, and it stays within `SMALLEST_SCALE` and `LARGEST_SCALE`.

    Args:
        cosine: (batch, classes) cosines between embedding and class weights, float32.
        labels: (batch,) the classes, int64; under mixup the dominant ones.
        previous: () the scale of the step before.

    Returns:
        () the scale, without gradient. Nothing is read back to the host.
    """
    cosine, previous = cosine.detach(), previous.detach()
    column = labels[:, None]
    others = (previous * cosine).scatter(1, column, -math.inf)
    log_average = others.flatten().logsumexp(0) - math.log(len(labels))
    # Angles ascend where cosines descend, and cos(min(pi / 4, theta)) is max(cos(pi / 4), cos(theta)): no arccosine.
    descending = cosine.gather(1, column).flatten().sort(descending=True).values
    median = descending[(len(labels) - 1) // 2].clamp(math.sqrt(0.5), 1.0)
    scale = log_average / median
    return torch.where(scale.isfinite(), scale, previous).clamp(SMALLEST_SCALE, LARGEST_SCALE)


class AdaCos(nn.Module):
    """A cosine classifier with the dynamic scale of AdaCos (see `adaptive_scale`), without a margin.

    The scale begins at sqrt(2) log(C - 1) (the paper's section 4.1), follows each training batch, is fixed in
    evaluation, and is part of the state. Everything is float32, under autocast too.

    Args:
        features: values of an embedding.
        classes: C, at least 2.
        generator: of the initial weights (Glorot, uniform).

    Raises:
        ValueError: fewer than two classes, which leave nothing to tell apart.
    """

    def __init__(self, features: int, classes: int, generator: torch.Generator):
        if classes < 2:
            raise ValueError(f"AdaCos needs at least two classes; found {classes}")
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, features))
        nn.init.xavier_uniform_(self.weight, generator=generator)
        initial = max(math.sqrt(2) * math.log(classes - 1), SMALLEST_SCALE)
        self.register_buffer("scale", torch.tensor(initial, dtype=torch.float32))

    def cosine(self, embedding: Tensor) -> Tensor:
        """The cosines (batch, classes) between embeddings (batch, features) and the classes' weights."""
        with torch.autocast(embedding.device.type, enabled=False):
            return functional.linear(functional.normalize(embedding.float()), functional.normalize(self.weight))

    def forward(self, embedding: Tensor, labels: Tensor | None = None) -> Tensor:
        """The logits, scale times cosine.

        Args:
            embedding: (batch, features), of any floating type.
            labels: (batch,) the classes that the scale follows, int64; under mixup the dominant ones. In training
                the scale is renewed before it is applied; in evaluation, or without labels, it stays.

        Returns:
            (batch, classes) float32.
        """
        cosine = self.cosine(embedding)
        scale = self.scale
        if self.training and labels is not None:
            scale = adaptive_scale(cosine, labels, self.scale)
            self.scale.copy_(scale)
        return scale * cosine


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """The focal loss of a softmax, a value a sample: FL = -(1 - p_y)^gamma log(p_y).

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation (4), without the weights of (5). For
    gamma = 0 it is the cross entropy.

    Args:
        logits: (batch, classes).
        labels: (batch,) int64.
        gamma: focusing parameter, at least 0.

    Returns:
        (batch,) losses.
    """
    log_p = logits.log_softmax(1).gather(1, labels[:, None]).flatten()
    # For gamma < 1 the power's slope at p = 1 is infinite and would meet a loss of 0: NaN. The clamp makes it 0.
    doubt = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -(doubt**gamma) * log_p


def mixed_focal(logits: Tensor, first: Tensor, second: Tensor, weight: Tensor, gamma: float) -> Tensor:
    """The focal loss under mixup, a value a sample: weight FL(first) + (1 - weight) FL(second).

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, with the loss of each label instead of the
    mixed label, which for the focal loss is not the same.

    Args:
        logits: (batch, classes).
        first: (batch,) labels of the clips, int64.
        second: (batch,) labels of their partners, int64.
        weight: (batch,) weight of the first, from 0 to 1.
        gamma: focusing parameter, at least 0.

    Returns:
        (batch,) losses.
    """
    return weight * focal(logits, first, gamma) + (1 - weight) * focal(logits, second, gamma)
