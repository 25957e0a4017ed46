"""The models: what they score by, their decisions, and fusions."""

from typing import Annotated, Any, Literal

from pydantic import Field

from asd.settings.block import Model, Name, flags, flags_of, flat, part
from asd.settings.detectors import DETECTORS, STAGED, Detector, DetectorName, Detectors, FittedName


class WindowPooling(Model):
    """How the scores of a clip's windows become the clip's score."""

    kind: Literal["mean", "max", "gwrp"] = "mean"
    """mean: the paper's. max: the highest. gwrp: weighted by rank, the highest first, each next one `decay` times."""
    decay: float = Field(0.9, gt=0, lt=1)
    """Weight of a score relative to the next higher one, for gwrp."""


class Fit(Detectors):
    """How a detector is fitted to the features of a machine's training clips, section by section."""

    detector: FittedName = "gaussian"
    """An entry of the table of detectors, such as gaussian (Mahalanobis distance)."""
    domains: Literal["pooled", "nearest"] = "pooled"
    """pooled: source and target are one distribution. nearest: a clip is scored against each domain's training clips,
    in units of the mean score of that domain's held-out clips, and the smaller score counts (detectors that tell
    domains apart; as pooled if a domain has fewer than three training recordings)."""
    window_pooling: WindowPooling = WindowPooling()
    """How the scores of windows become the score of a clip; only for networks that see windows."""
    folds: int = Field(5, ge=2)
    """Folds of the held-out training scores: threshold.folds."""

    @property
    def own(self) -> Detector:
        """The settings of the detector itself."""
        return getattr(self, DETECTORS[self.detector])

    @property
    def flags(self) -> str:
        """What fitting depends on, as flags, without the settings of other detectors."""
        own = flags(self.own, f"{DETECTORS[self.detector]}.")
        shared = {key: value for key, value in flat(self).items() if key.split(".")[0] not in DETECTORS.values()}
        return f"{flags_of(shared)} {own}"


class Decision(Model):
    """The decision: whether a score is above a quantile of a gamma distribution fitted to training scores."""

    quantile: float = Field(0.9, gt=0, lt=1)
    """A clip is anomalous if its score is above this quantile."""
    scope: Literal["section", "machine"] = "section"
    """section: each section has a threshold of its own. machine: one threshold for all sections of a machine, as in the
    challenge. In the configuration the default is section for `dataset.kind: folder`, otherwise machine."""


class Threshold(Decision):
    """The decision, and the held-out training scores on which it is based."""

    folds: int = Field(5, ge=2)
    """Folds of the held-out training scores (detectors that are fitted to features)."""


class Scored(Detectors):
    """A model: an entry of `models`. It uses a network, a spectrum, or other models (a fusion)."""

    title: str
    """Its name in tables and figures."""
    network: str = ""
    """An entry of `networks`."""
    spectrum: str = ""
    """An entry of `spectra`."""
    detector: DetectorName = "gaussian"
    """gaussian: Mahalanobis distance of the features. knn: distance to the nearest training features. gmm: a Gaussian
    mixture of the features. exposure: the uncertainty of a network's classifier (outlier exposure)."""
    domains: Literal["pooled", "nearest"] = "pooled"
    """pooled: source and target are one distribution. nearest: a clip is scored against the training clips of each
    domain, and the smaller score counts (detectors that tell domains apart: gaussian, knn)."""
    window_pooling: WindowPooling = WindowPooling()
    """How the scores of windows become the score of a clip; only for networks that see windows."""
    threshold: Threshold = Threshold()
    """Settings of the decision that differ from the top-level `threshold`."""
    members: list[Name] = []
    """The models that a fusion is made of."""
    weights: list[Annotated[float, Field(ge=0)]] = []
    """Weights of the members for `fuse: mean`; empty: equal weights."""
    fuse: Literal["mean", "max", "min"] = "mean"
    """How the scores of the members become one score; they are standardised by the held-out training scores first."""

    @property
    def rests_on(self) -> str:
        """The network or the spectrum whose features are scored; empty for a fusion."""
        return self.network or self.spectrum

    @property
    def fitted(self) -> bool:
        """Whether a detector is fitted to features."""
        return not self.members and self.detector in DETECTORS

    @property
    def decision(self) -> Decision:
        """The slice that decisions depend on."""
        return part(Decision, self.threshold)

    @property
    def fit(self) -> Fit:
        """The slice that fitting depends on."""
        own = self.model_dump(include=set(Fit.model_fields) - {"folds"})
        return Fit.model_validate({**self.without_stages(own), "folds": self.threshold.folds})

    def without_stages(self, dumped: dict[str, Any]) -> dict[str, Any]:
        """Return the dump of a model without the stages of a network, if it has a spectrum, which has none."""
        if self.spectrum:
            for block in STAGED:
                del dumped[block]["stages"]
        return dumped
