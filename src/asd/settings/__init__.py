"""All settings. A key in config.yaml is a field of a class here, and a flag of the script that uses it.

The text below a field explains the setting, and appears in the `--help` of the scripts.
"""

from asd.settings.block import LONGEST, Model, Name, Source, Target, canonical, flags, flags_of, flat, part
from asd.settings.configuration import HANDED_DOWN, Settings, load
from asd.settings.detectors import DETECTORS, Detector, DetectorName, Detectors, Gmm, Knn, Mvg
from asd.settings.models import Decision, Fit, Scored, Threshold, WindowPooling
from asd.settings.networks import (
    AUDIO_RATE,
    HUB,
    NETWORKS,
    Audiomae,
    Autoencoder,
    Backbone,
    CosineLoss,
    Equaliser,
    Faults,
    Masks,
    Mixup,
    Mobilenet,
    Network,
    Spectrum,
    Training,
    Waveform,
    Windows,
    audio_shape,
)
from asd.settings.recordings import Check, Dataset, Demo, Folder, LogMel, Parts, Published, Transfer
from asd.settings.results import Author, Compute, Ensemble, Leaderboard, Metrics, Submission, Sweep, Variant
