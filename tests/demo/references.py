"""Two simple detectors, as an independent measure of how hard a synthesised corpus is.

Of a folder `<machine>/{train,test}/*.wav`, named as the DCASE data sets are. Each section is judged by its own training
clips:

- level: how far the clip's root-mean-square level (dB) is from the mean level of the training clips, either way;
- nearest: the distance of the clip's log-mel, averaged over time (224 values, dB), to the nearest training clip's.

AUC (all) has every labelled test clip of a section; AUC (source) and (target) have the normal clips of that domain
and the anomalous clips of both. A machine's value is the harmonic mean over its sections.
"""

import re
import statistics
from collections import defaultdict
from pathlib import Path

from asd.errors import InputError

NAME = re.compile(
    r"section_(?P<section>\d+)_(?P<domain>source|target)_(?P<split>train|test)_(?P<label>normal|anomaly)_"
)
DOMAINS = {"source": ("source",), "target": ("target",), "all": ("source", "target")}


def judge(folder: Path) -> dict[str, dict[str, float]]:
    """AUCs by reference and domain of one machine's folder; a section without both labels in test is left out."""
    from sklearn.metrics import roc_auc_score

    sections = defaultdict(list)
    for path in sorted(folder.glob("t*/*.wav")):
        if match := NAME.match(path.name):
            sections[match["section"]].append((path, match))
    found = {reference: defaultdict(list) for reference in ("level", "nearest")}
    for clips in sections.values():
        described = [describe(path) for path, _ in clips]
        training = [one for one, (_, match) in zip(described, clips, strict=True) if match["split"] == "train"]
        test = [(one, match) for one, (_, match) in zip(described, clips, strict=True) if match["split"] == "test"]
        if not training or len({match["label"] for _, match in test}) < 2:
            continue
        for reference, scores in score(training, [one for one, _ in test]).items():
            for name, domains in DOMAINS.items():
                kept = [(m["label"] == "anomaly", s) for (_, m), s in zip(test, scores, strict=True)
                        if m["label"] == "anomaly" or m["domain"] in domains]  # fmt: skip
                truth, values = zip(*kept, strict=True)
                if not all(truth):
                    found[reference][name].append(roc_auc_score(truth, values))
    if not found["level"]["all"]:
        raise InputError(f"{folder}: found no section with training clips and both normal and anomalous test clips")
    mean = lambda values: statistics.harmonic_mean(values) if values else float("nan")  # noqa: E731
    return {reference: {name: mean(aucs[name]) for name in DOMAINS} for reference, aucs in found.items()}


def describe(path: Path) -> tuple[float, "numpy.ndarray"]:  # noqa: F821
    """Level in dB, and the log-mel averaged over time (224,), of a recording."""
    import librosa
    import numpy as np
    import soundfile

    sound, rate = soundfile.read(path, dtype="float32")
    power = librosa.feature.melspectrogram(
        y=sound, sr=rate, n_fft=1024, hop_length=512, n_mels=224, pad_mode="constant"
    )
    return 10 * np.log10(np.mean(sound**2) + 1e-10), (10 * np.log10(power + 1e-10)).mean(axis=1)


def score(training: list, test: list) -> dict[str, list[float]]:
    """Anomaly scores of described test clips by reference."""
    import numpy as np
    from sklearn.neighbors import NearestNeighbors

    usual = np.mean([level for level, _ in training])
    neighbours = NearestNeighbors(n_neighbors=1).fit([mel for _, mel in training])
    distances, _ = neighbours.kneighbors([mel for _, mel in test])
    return {"level": [abs(level - usual) for level, _ in test], "nearest": list(distances[:, 0])}
