"""The loss of equation (1) of the paper: the focal loss of AdaCos logits, one head for sections, one for attributes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from asd.settings import CosineLoss as Settings

SMALLEST_SCALE = math.sqrt(2) * math.log(2)
"""The initial scale for three classes. For two, the published initial scale is 0, and there would be no gradient."""
LARGEST_SCALE = 1000.0
"""Limit of the scale: if every cosine is the same c, the published recursion s <- (log(C - 1) + s c) / c diverges."""


def adaptive_scale(cosine: Tensor, labels: Tensor, previous: Tensor) -> Tensor:
    """Return the scale of dynamic AdaCos for one batch.

    Zhang et al., "AdaCos: Adaptively Scaling Cosine Logits for Effectively Learning Deep Face Representations",
    CVPR 2019, section 4.2 (dynamically adaptive scale):

        B_avg = mean over the batch of the sum over the other classes k != y of exp(s_previous cos(theta_k))
        s = log(B_avg) / cos(min(pi / 4, theta_med)),    theta_med = median over the batch of theta_y

    The median of an even number of angles is the lower one of the middle two. If the scale of a batch is not finite,
    the previous scale is kept. The scale is limited to `SMALLEST_SCALE` and `LARGEST_SCALE`.

    Args:
        cosine: (batch, classes) cosines between embedding and class weights, float32.
        labels: (batch,) int64, the classes; with mixup the dominant ones.
        previous: () the scale of the previous step.

    Returns:
        () the scale, without gradient. Nothing is copied to the host.
    """
    cosine, previous = cosine.detach(), previous.detach()
    column = labels[:, None]
    others = (previous * cosine).scatter(1, column, -math.inf)
    log_average = others.flatten().logsumexp(0) - math.log(len(labels))
    # A larger angle has a smaller cosine, and cos(min(pi / 4, theta)) = max(cos(pi / 4), cos(theta)): no arccosine.
    descending = cosine.gather(1, column).flatten().sort(descending=True).values
    median = descending[(len(labels) - 1) // 2].clamp(math.sqrt(0.5), 1.0)
    scale = log_average / median
    return torch.where(scale.isfinite(), scale, previous).clamp(SMALLEST_SCALE, LARGEST_SCALE)


class AdaCos(nn.Module):
    """A cosine classifier with the dynamic scale of AdaCos (see `adaptive_scale`), without a margin.

    The scale begins at sqrt(2) log(C - 1) (section 4.1 of that paper), follows each training batch, is fixed in
    evaluation, and is part of the state. Everything is float32, also under autocast.

    Args:
        features: number of values of an embedding.
        classes: C, at least 2.
        generator: draws the initial weights (Glorot, uniform).

    Raises:
        ValueError: there are fewer than two classes.
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
        """Return the cosines (batch, classes) between embeddings (batch, features) and the weights of the classes."""
        with torch.autocast(embedding.device.type, enabled=False):
            return functional.linear(functional.normalize(embedding.float()), functional.normalize(self.weight))

    def forward(self, embedding: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the logits: scale times cosine.

        Args:
            embedding: (batch, features), of any floating type.
            labels: (batch,) int64, the classes that the scale follows; with mixup the dominant ones. In training the
                scale is updated before it is applied; in evaluation, or without labels, it stays the same.

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
    """Return the focal loss of a softmax, one value per sample: FL = -(1 - p_y)^gamma log(p_y).

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, equation (4), without the weights of (5). With
    gamma = 0 it is the cross entropy.

    Args:
        logits: (batch, classes).
        labels: (batch,) int64.
        gamma: focusing parameter, at least 0.

    Returns:
        (batch,) losses.
    """
    log_p = logits.log_softmax(1).gather(1, labels[:, None]).flatten()
    # For gamma < 1 the slope of the power at p = 1 is infinite, and times a loss of 0 it would be NaN. The clamp makes
    # it 0.
    doubt = (-log_p.expm1()).clamp_min(torch.finfo(log_p.dtype).tiny)
    return -(doubt**gamma) * log_p


def mixed_focal(logits: Tensor, first: Tensor, second: Tensor, weight: Tensor, gamma: float) -> Tensor:
    """Return the focal loss with mixup, one value per sample: weight FL(first) + (1 - weight) FL(second).

    Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018. The losses of the two labels are mixed, not
    the labels; for the focal loss this is not the same.

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


# --- losses of soft labels, for networks of the waveform ----------------------------------------------------


class CosineLoss(nn.Module):
    """Cross-entropy of a softmax over classes, each with several centres of length 1; see the classes below.

    The scale is constant: sqrt(2) log(N - 1), AdaCos's initial one, if the softmax is over N logits.

    Args:
        features: number of values of an embedding.
        classes: at least 2.
        centres: of each class.
        trainable: whether the centres learn, or stay as they are drawn.
        scale: 0: the one above.
        logits: N.
    """

    def __init__(self, features: int, classes: int, centres: int, trainable: bool, scale: float, logits: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes * centres, features), requires_grad=trainable)
        nn.init.xavier_uniform_(self.weight)
        scale = scale or max(math.sqrt(2) * math.log(logits - 1), SMALLEST_SCALE)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.classes = classes

    def cosine(self, embedding: Tensor) -> Tensor:
        """Return the cosines (batch, classes, centres) between embeddings (batch, features) and centres."""
        cosine = functional.linear(functional.normalize(embedding.to(self.weight)), functional.normalize(self.weight))
        return cosine.unflatten(1, (self.classes, -1))

    def logits(self, embedding: Tensor, label: Tensor | None = None) -> Tensor:
        """Return the logits (batch, classes) of embeddings (batch, features); with a margin for a label (batch,)."""
        raise NotImplementedError

    def forward(self, embedding: Tensor, first: Tensor, second: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy with labels mixed by mixup, (batch,), and the logits without margin.

        Args:
            embedding: (batch, features).
            first: (batch,) labels of the clips, int64.
            second: (batch,) labels of their partners, int64.
            weight: (batch,) weight of the first, from 0 to 1.
        """
        losses = [
            functional.cross_entropy(self.logits(embedding, one), one, reduction="none") for one in (first, second)
        ]
        with torch.no_grad():
            plain = self.logits(embedding)
        return weight * losses[0] + (1 - weight) * losses[1], plain


class SubclusterAdaCos(CosineLoss):
    """Sub-cluster AdaCos: a softmax over all centres, whose probabilities are summed per class.

    Wilkinghoff 2021, "Sub-Cluster AdaCos: Learning Representations for Anomalous Sound Detection", IJCNN.
    """

    def logits(self, embedding: Tensor, label: Tensor | None = None) -> Tensor:
        """Return log sum over the centres of exp(scale cos), (batch, classes): its softmax is that of the classes."""
        return (self.scale * self.cosine(embedding)).logsumexp(2)


class AdaProj(CosineLoss):
    """AdaProj: the cosine between an embedding and its projection onto the subspace of a class.

    Wilkinghoff 2024, "AdaProj: Adaptively Scaled Angular Margin Subspace Projections for Anomalous Sound Detection
    with
    Auxiliary Classification Tasks", DCASE. The projection is the sum of the centres, each times its scalar product with
    the embedding; the centres are not made orthogonal. Unlike the paper's, the scale does not follow the batches.
    """

    def logits(self, embedding: Tensor, label: Tensor | None = None) -> Tensor:
        """Return scale times cosine, (batch, classes)."""
        centres = functional.normalize(self.weight).unflatten(0, (self.classes, -1))
        projected = torch.einsum("bck,ckd->bcd", self.cosine(embedding), centres)
        return self.scale * functional.cosine_similarity(embedding[:, None].to(projected), projected, 2)


class ArcFace(CosineLoss):
    """ArcFace: the angle to the centre of the own class is enlarged by a margin (Deng et al. 2019, CVPR)."""

    margin = 0.5

    def logits(self, embedding: Tensor, label: Tensor | None = None) -> Tensor:
        """Return scale times cosine, (batch, classes); of the angle plus margin for the label."""
        cosine = self.cosine(embedding).squeeze(2)
        if label is None:
            return self.scale * cosine
        own = cosine.gather(1, label[:, None])
        # cos(a + m) by the angle's cosine and sine, kept from an infinite slope where the cosine is 1.
        sine = (1 - own.square()).clamp_min(1e-7).sqrt()
        enlarged = own * math.cos(self.margin) - sine * math.sin(self.margin)
        # An angle above pi - m would get smaller by the margin; there it goes on linearly, as in the published code.
        beyond = own < -math.cos(self.margin)
        enlarged = torch.where(beyond, own - self.margin * math.sin(self.margin), enlarged)
        return self.scale * cosine.scatter(1, label[:, None], enlarged)


def make_loss(features: int, classes: int, settings: Settings) -> CosineLoss:
    """Return a loss; its centres are drawn (Glorot, uniform) with PyTorch's own generator.

    Args:
        features: number of values of an embedding.
        classes: at least 2.
        settings: of the loss.
    """
    centres = 1 if settings.kind == "arcface" else settings.centres
    logits = classes * centres if settings.kind == "subcluster_adacos" else classes
    kind = {"subcluster_adacos": SubclusterAdaCos, "adaproj": AdaProj, "arcface": ArcFace}[settings.kind]
    made = kind(features, classes, centres, settings.trainable, settings.scale, logits)
    if settings.kind == "arcface":
        made.margin = settings.margin
    return made
