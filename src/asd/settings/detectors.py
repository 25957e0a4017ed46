"""The table of the detectors that are fitted to features, and their settings.

A detector is a field of `Detectors`: its block in the configuration. The block's class names the detector's module, and
`asd.sections` says what the module has. docs/extending.md shows how to add one.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from asd.settings.block import Model


class Detector(Model):
    """The settings of a detector."""

    detector: ClassVar[str]
    """Its name as the `detector` of a model; its module is asd.<name>."""
    method: ClassVar[str]
    """What a submission to the challenge calls it."""
    tells_domains: ClassVar[bool] = False
    """Whether its module's `fit` takes the domains of the rows, and `distances` are those to each domain."""


class Grown(Detector):
    """The settings of a detector that can add synthetic rows of the target domain (`asd.smote`)."""

    smote: float = Field(0.0, ge=0, le=1)
    """Add synthetic rows of the target domain until it has this share of the source domain's rows; 0: none."""
    smote_neighbours: int = Field(2, ge=1)
    """A synthetic row lies between a target row and one of this number of target rows nearest to it."""


class Mvg(Grown):
    """The Gaussian per section."""

    detector = "gaussian"
    method = "Gaussian (Mahalanobis distance)"
    tells_domains = True

    covariance: Literal["ledoit_wolf", "oas", "ridge", "empirical"] = "ledoit_wolf"
    """Covariance estimate. empirical: inverted by the pseudo-inverse."""
    ridge: float = Field(0.01, gt=0)
    """The value that the estimate `ridge` adds to the diagonal."""
    standardise: bool = False
    """Divide each feature by its deviation first, so that the covariance shrinks towards its own diagonal instead of
    one variance for all. It helps with spectra; of a network's features it inflates channels that hardly vary."""
    stages: list[Annotated[int, Field(ge=1, le=9)]] = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    """Which of the nine stages of the network (the paper's Table 2) make the feature vector. Only for networks."""

    @model_validator(mode="after")
    def _stages(self) -> "Mvg":
        if not self.stages or sorted(set(self.stages)) != self.stages:
            raise ValueError(f"stages must be ascending, each once, at least one; found {self.stages}")
        return self


class Knn(Grown):
    """The nearest neighbours among a section's training rows."""

    detector = "knn"
    method = "k-nearest neighbours"
    tells_domains = True

    neighbours: int = Field(1, ge=1)
    """Number of nearest training rows of a domain over which the distance is averaged; all if it has fewer."""
    metric: Literal["euclidean", "cosine"] = "euclidean"
    """euclidean: of features standardised by the training rows. cosine: 1 minus the cosine of the features."""
    density: Literal["none", "ratio", "difference"] = "none"
    """What is done with the density of a training row (its mean distance to the training rows nearest to it). none:
    nothing. ratio: distances to the row are divided by it. difference: it is subtracted from them."""
    density_neighbours: int = Field(4, ge=1)
    """Number of nearest training rows, of both domains, for the density."""
    coreset: int = Field(2000, ge=1)
    """Training rows that are kept per domain, drawn at random if there are more (as with windows)."""


class Gmm(Grown):
    """The Gaussian mixture per section."""

    detector = "gmm"
    method = "Gaussian mixture"

    components: int = Field(1, ge=1)
    """Gaussians in the mixture."""
    covariance: Literal["full", "diag"] = "full"
    """Covariance of each Gaussian: full, or its diagonal alone."""
    reg: float = Field(0.01, gt=0)
    """What is added to the diagonals of the covariances, as a share of the features' mean variance."""
    score: Literal["component", "likelihood"] = "component"
    """component: the negative largest log density of a single Gaussian, without the mixture's weights (TWFR-GMM).
    likelihood: the negative log-likelihood of the mixture."""


class Value(Detector):
    """The features themselves as scores: of a network whose stages are scores, such as an autoencoder."""

    detector = "value"
    method = "score of the network"

    stages: Annotated[list[Annotated[int, Field(ge=1, le=9)]], Field(min_length=1, max_length=1)] = [1]
    """Which stage of the network is the score."""


class Detectors(Model):
    """The table: a block of settings for each detector. A model can have blocks of its own."""

    mvg: Mvg = Mvg()
    """Settings of the Gaussian."""
    knn: Knn = Knn()
    """Settings of the nearest neighbours."""
    gmm: Gmm = Gmm()
    """Settings of the Gaussian mixture."""
    value: Value = Value()
    """Which value of a network is the score."""


DETECTORS: dict[str, str] = {field.annotation.detector: block for block, field in Detectors.model_fields.items()}
"""The detectors that are fitted to features, and the block with the settings of each."""

STAGED = [block for block, field in Detectors.model_fields.items() if "stages" in field.annotation.model_fields]
"""The blocks that choose among the stages of a network."""

FittedName = Literal[tuple(DETECTORS)]
"""A detector that is fitted to features."""

DetectorName = Literal[(*DETECTORS, "exposure")]
"""A detector of a model."""
