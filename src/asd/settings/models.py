"""The models: detectors, their decisions, and fusions."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from asd.settings.block import Model, Name, flags, flags_of, flat, part


class Mvg(Model):
    """The Gaussian per section: detector `gaussian`."""

    covariance: Literal["ledoit_wolf", "oas", "ridge", "empirical"] = "ledoit_wolf"
    """Covariance estimate. empirical: inverted by the pseudo-inverse."""
    ridge: float = Field(0.01, gt=0)
    """The value that the estimate `ridge` adds to the diagonal."""
    standardise: bool = False
    """Divide each feature by its deviation first, so that the covariance shrinks towards its own diagonal instead of
    one variance for all. It serves spectra; among a network's features it inflates channels that hardly vary."""
    stages: list[Annotated[int, Field(ge=1, le=9)]] = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    """Which of the nine stages of the network (the paper's Table 2) make the feature vector. Of a network only."""

    @model_validator(mode="after")
    def _stages(self) -> "Mvg":
        if not self.stages or sorted(set(self.stages)) != self.stages:
            raise ValueError(f"stages must be ascending, each once, at least one; found {self.stages}")
        return self


class Knn(Model):
    """The nearest neighbours among a section's training rows: detector `knn`."""

    neighbours: int = Field(1, ge=1)
    """The score is the mean over so many nearest training rows of a domain, or all where it has fewer."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """euclidean: of features standardised by the training rows. cosine: 1 minus the cosine of the features."""
    density: Literal["none", "ratio", "difference"] = "none"
    """What a reference's distance to its own nearest references does: nothing, divides the distance, or is subtracted
    from it."""
    density_neighbours: int = Field(4, ge=1)
    """Of how many nearest references, of either domain, it is the mean."""
    smote: float = Field(0.0, ge=0, le=1)
    """Grow the target domain by synthetic rows to this share of the source domain's rows; 0: none."""
    smote_neighbours: int = Field(2, ge=1)
    """Nearest target rows between one of which and a target row a synthetic row lies."""
    coreset: int = Field(2000, ge=1)
    """Rows kept of a domain, drawn at random where it has more (windows)."""


class Gmm(Model):
    """The Gaussian mixture per section: detector `gmm`."""

    components: int = Field(1, ge=1)
    """Gaussians in the mixture."""
    covariance: Literal["full", "diag"] = "full"
    """Of each Gaussian: full, or its diagonal alone."""
    reg: float = Field(0.01, gt=0)
    """What is added to the diagonals of the covariances, as a share of the features' mean variance."""
    score: Literal["component", "likelihood"] = "component"
    """component: the negative largest log density of a single Gaussian, without the mixture's weights (TWFR-GMM).
    likelihood: the negative log-likelihood of the mixture."""


class WindowPooling(Model):
    """How the scores of a clip's windows become the clip's score."""

    kind: Literal["mean", "max", "gwrp"] = "mean"
    """mean: the paper's. max: the highest. gwrp: weighted by rank, the highest first, each next one `decay` times."""
    decay: float = Field(0.9, gt=0, lt=1)
    """Of gwrp."""


DetectorName = Literal["gaussian", "knn", "gmm", "exposure"]
"""What a model scores by."""


class Fit(Model):
    """How a detector is fitted to the features of a machine's training clips, section by section."""

    detector: Literal["gaussian", "knn", "gmm"] = "gaussian"
    """gaussian: Mahalanobis distance. knn: distance to the nearest training rows. gmm: Gaussian mixture."""
    domains: Literal["pooled", "nearest"] = "pooled"
    """pooled: source and target are one distribution. nearest: a clip is scored against each domain's training clips,
    in units of what held-out clips of that domain score, and the smaller score counts (detectors gaussian and knn; as
    pooled if one domain has fewer than three training clips)."""
    mvg: Mvg = Mvg()
    """Settings of the Gaussian that differ from the top-level `mvg`."""
    knn: Knn = Knn()
    """Settings of the nearest neighbours that differ from the top-level `knn`."""
    gmm: Gmm = Gmm()
    """Settings of the Gaussian mixture that differ from the top-level `gmm`."""
    window_pooling: WindowPooling = WindowPooling()
    """How the scores of windows become the score of a clip; only for networks that see windows."""
    folds: int = Field(5, ge=2)
    """Folds of the held-out training scores: threshold.folds."""

    @property
    def flags(self) -> str:
        """What fitting depends on, as flags, without the settings of other detectors."""
        block = DETECTORS[self.detector]
        own = flags(getattr(self, block), f"{block}.")
        shared = {key: value for key, value in flat(self).items() if key.split(".")[0] not in DETECTORS.values()}
        return f"{flags_of(shared)} {own}"


DETECTORS = {"gaussian": "mvg", "knn": "knn", "gmm": "gmm"}
"""The detectors that are fitted to features, and the block with the settings of each."""


class Decision(Model):
    """The decision: whether a score is above a quantile of a gamma distribution fitted to training scores."""

    quantile: float = Field(0.9, gt=0, lt=1)
    """A clip is anomalous if its score is above this quantile."""
    scope: Literal["section", "machine"] = "section"
    """section: each section has a threshold of its own. machine: one threshold for all sections of a machine, as in the
    challenge. In the configuration the default is section for `dataset.kind: folder`, otherwise machine."""


class Threshold(Decision):
    """The decision, and the held-out training scores that it is made by."""

    folds: int = Field(5, ge=2)
    """Folds of the held-out training scores (detectors that are fitted to features)."""


class Scored(Model):
    """A model: an entry of `models`. It uses a network, a spectrum, or other models (a fusion)."""

    title: str
    """Its name in tables and figures."""
    network: str = ""
    """An entry of `networks`."""
    spectrum: str = ""
    """An entry of `spectra`."""
    detector: DetectorName = "gaussian"
    """gaussian: Mahalanobis distance of the features. knn: distance to the nearest training features. gmm: a Gaussian
    mixture of the features. exposure: the classifier's doubt (outlier exposure; of a network)."""
    domains: Literal["pooled", "nearest"] = "pooled"
    """pooled: source and target are one distribution. nearest: a clip is scored against the training clips of each
    domain, and the smaller score counts (detectors gaussian and knn)."""
    mvg: Mvg = Mvg()
    """Settings of the Gaussian that differ from the top-level `mvg`."""
    knn: Knn = Knn()
    """Settings of the nearest neighbours that differ from the top-level `knn`."""
    gmm: Gmm = Gmm()
    """Settings of the Gaussian mixture that differ from the top-level `gmm`."""
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
        if self.spectrum:
            del own["mvg"]["stages"]  # which it has not
        return Fit.model_validate({**own, "folds": self.threshold.folds})
