"""Where the recordings come from, how their log-mels are computed, and what is checked."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from asd.files import digest
from asd.settings.block import Model, Source, canonical, flags, part


def _base_url(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s?#]+", value):
        raise ValueError(f"{value!r} is not the address of a server: https://zenodo.org, or that of a mirror")
    return value.rstrip("/")


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
    """Machines without attributes, like some machines of the data sets since 2024."""


class Folder(Model):
    """Recordings on disk.

    The folder has a manifest.csv (see `asd.own_manifest`), or one per machine; or it is laid out like the published
    data sets: <path>/<machine>/{train,test}/*.wav.
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
            return f"--kind {self.kind} {flags(part(Parts, self.published), 'published.')}"
        return f"--kind {self.kind} {flags(getattr(self, self.kind), f'{self.kind}.')}"

    @property
    def transfer(self) -> str:
        """How recordings are downloaded, as flags of the download script."""
        return flags(part(Transfer, self.published), "published.") if self.is_published else ""

    @property
    def name(self) -> str:
        """The name of the data set's folder in `data_dir`; different corpora have different names."""
        if self.is_published:
            return self.kind
        return f"{self.kind}-{digest(canonical(getattr(self, self.kind)))}"


class Cut(Model):
    """Long recordings are cut into clips of one length, named by their start in seconds: plant.wav@120."""

    seconds: float = Field(0.0, ge=0, le=3600)
    """Length of a clip in seconds; 0: recordings are not cut, each is a clip."""
    every: float = Field(0.0, ge=0, le=3600)
    """Seconds from the beginning of one clip to that of the next; 0: the length of a clip."""
    pool: Literal["mean", "max"] = "mean"
    """How the scores of a recording's clips become that of the recording, which tables count."""

    @model_validator(mode="after")
    def _lengths(self) -> "Cut":
        for name, value in (("seconds", self.seconds), ("every", self.every)):
            if 0 < value < 0.1:
                raise ValueError(f"{name}: found {value:g}; expected 0, or 0.1 seconds or more")
        if self.every and not self.seconds:
            raise ValueError("every: without seconds, recordings are not cut; set cut.seconds")
        return self

    def __str__(self) -> str:
        return f"{{seconds: {self.seconds:g}, every: {self.every:g}, pool: {self.pool}}}"


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
    """Largest share of a machine's sound that `crop` may cut off. A smaller loss is logged, a larger one is refused."""
    cut: Cut = Cut()
    """Recordings that are longer than the clips that models learn from. `lengths` then only says whether those that are
    shorter than a clip are padded (pad) or refused."""

    @model_validator(mode="after")
    def _hop(self) -> "LogMel":
        if self.hop > self.n_fft:
            raise ValueError(f"hop: {self.hop} is more than n_fft, {self.n_fft}: sound between two windows is not seen")
        return self

    @property
    def file(self) -> str:
        """The digest of these settings that is part of a path."""
        return digest(canonical(self.computed))

    @property
    def computed(self) -> "LogMel":
        """The settings that a log-mel cache depends on: how scores are pooled is left out."""
        return self.model_copy(update={"cut": self.cut.model_copy(update={"pool": "mean"})})


class Check(Model):
    """What counts as a fault of your own recordings, and which faults end the run before anything is computed."""

    refuse: list[Literal["silent", "gaps", "clipped", "short", "repeated"]] = ["silent", "gaps", "short", "repeated"]
    """Faults that are refused; the others are only listed. A recording that cannot be read completely is always
    refused. repeated: the same sound is also in the other split of the machine, so that the test is not independent."""
    silent: float = -90.0
    """A recording is silent below this level (root mean square of the sound without its mean, dB of full scale)."""
    gaps: float = Field(0.01, ge=0, le=1)
    """A recording has gaps if more than this share of it, in pieces of 10 ms, is silent: dropouts, or a microphone that
    failed."""
    clipped: float = Field(0.001, gt=0, le=1)
    """A recording is clipped if more than this share of its samples is at full scale or beyond."""
    short: float = Field(1.0, ge=0)
    """A recording is short below this length in seconds."""
