"""The plain recipes: each stage as a competent user would write it from the libraries' own tutorials.

librosa clip by clip into HDF5; a Dataset and a DataLoader that augment sample by sample; timm in float32 with three
channels and its default layout, a clip's windows as one batch; scikit-learn's LedoitWolf and its mahalanobis; loops
over roc_auc_score for the bootstrap. They do the same work as the library on the same files, and must give the same
results (`bench.py`). Nothing in them is slow on purpose, and nothing is tuned.
"""

import math

import h5py
import numpy as np

RATE, N_FFT, HOP, MELS = 16000, 1024, 512, 224


# --- log-mel ------------------------------------------------------------------------------------------------


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(samples,) floating point -> (mels, frames) in dB."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=waveform, sr=RATE, n_fft=N_FFT, hop_length=HOP, n_mels=MELS, pad_mode="constant"
    )
    return librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)


def write_cache(out, wavs) -> None:
    """Log-mels and waveforms of recordings of one length into one HDF5 file, clip by clip."""
    import librosa

    with h5py.File(out, "w") as file:
        for row, wav in enumerate(wavs):
            waveform, _ = librosa.load(wav, sr=None)
            spectrogram = log_mel(waveform)
            if row == 0:
                chunk = {"chunks": True, "dtype": "f4"}
                file.create_dataset("logmel", (len(wavs), *spectrogram.shape), **chunk)
                file.create_dataset("waveform", (len(wavs), *waveform.shape), **chunk)
            file["logmel"][row] = spectrogram
            file["waveform"][row] = waveform


# --- training -----------------------------------------------------------------------------------------------


def make_dataset(logmel, waveform, section, attribute, kind: str, sections: int, mean: float, deviation: float):
    """A Dataset of the training clips in memory, each augmented by itself: three channels (3, mels, frames), labels.

    Args:
        logmel: (clips, mels, frames) float32.
        waveform: (clips, samples) int16, for CNN-OE's equaliser.
        section: (clips,) index of the section.
        attribute: (clips,) index of the attribute.
        kind: global (masks), local (a random window of 64 frames, masks in frequency), oe (equaliser, masks).
        sections: number of sections; an equalised clip has the label section + sections.
        mean: of the log-mels.
        deviation: of the log-mels.
    """
    import torch
    from audiomentations import SevenBandParametricEQ
    from torch.utils.data import Dataset

    class Clips(Dataset):
        def __init__(self) -> None:
            self.random = np.random.default_rng(0)
            self.equaliser = SevenBandParametricEQ(p=0.5)

        def __len__(self) -> int:
            return len(logmel)

        def __getitem__(self, clip: int):
            x, label = logmel[clip].copy(), int(section[clip])
            if kind == "oe":
                samples = waveform[clip].astype(np.float32) / 32768
                equalised = self.equaliser(samples, sample_rate=RATE)
                if self.equaliser.parameters["should_apply"]:
                    x, label = log_mel(equalised), label + sections
            if kind == "local":
                start = self.random.integers(x.shape[1] - 64 + 1)
                x = x[:, start : start + 64].copy()
            x = (x - mean) / deviation
            for axis, width in ((0, 32), (1, 16)) if kind != "local" else ((0, 32),):
                for _ in range(2):
                    wide = self.random.integers(width + 1)
                    start = self.random.integers(x.shape[axis] - wide + 1)
                    x[(slice(None),) * axis + (slice(start, start + wide),)] = 0
            return torch.from_numpy(x).expand(3, -1, -1).contiguous(), label, int(attribute[clip])

    return Clips()


def make_model(sections: int, attributes: int):
    """EfficientNet-B1 with two AdaCos heads."""
    import timm
    import torch
    from torch import nn
    from torch.nn import functional as F

    class AdaCos(nn.Module):
        def __init__(self, features: int, classes: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(classes, features))
            nn.init.xavier_uniform_(self.weight)
            self.scale = math.sqrt(2) * math.log(classes - 1)

        def forward(self, x, label):
            cosine = F.linear(F.normalize(x), F.normalize(self.weight))
            with torch.no_grad():
                angle = torch.acos(cosine.clamp(-1 + 1e-7, 1 - 1e-7))
                own = F.one_hot(label, cosine.shape[1]).bool()
                average = torch.where(own, torch.zeros_like(cosine), torch.exp(self.scale * cosine)).sum() / len(x)
                median = torch.median(angle[own])
                self.scale = (torch.log(average) / torch.cos(torch.clamp(median, max=math.pi / 4))).item()
            return self.scale * cosine

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = timm.create_model("efficientnet_b1", pretrained=False, num_classes=0)
            self.section = AdaCos(1280, sections)
            self.attribute = AdaCos(1280, attributes)

    return Model()


def focal(logits, label, gamma: float = 2.0):
    """The focal loss, one value per sample."""
    from torch.nn import functional as F

    loss = F.cross_entropy(logits, label, reduction="none")
    return (1 - (-loss).exp()) ** gamma * loss


def train(model, dataset, batch: int, device: str = "cpu", workers: int = 0, alpha: float = 0.4):
    """Train for an epoch, with mixup of each batch; yields the loss of every step."""
    import torch
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, batch, shuffle=True, drop_last=True, num_workers=workers, pin_memory=device != "cpu")
    model.to(device).train()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    for x, *labels in loader:
        x, (section, attribute) = x.to(device), (label.to(device) for label in labels)
        weight, order = float(np.random.beta(alpha, alpha)), torch.randperm(len(x), device=device)
        embedding = model.backbone(weight * x + (1 - weight) * x[order])
        loss = 0
        for head, label in ((model.section, section), (model.attribute, attribute)):
            first, second = label, label[order]
            logits = head(embedding, first if weight >= 0.5 else second)
            loss = loss + weight * focal(logits, first) + (1 - weight) * focal(logits, second)
        loss = loss.mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        yield loss.item()


# --- a network of the waveform, as asdkit trains it ---------------------------------------------------------


def make_wavs(wavs, label):
    """A Dataset that reads a recording each time that it is asked for it: (samples,) float32, label."""
    import soundfile
    import torch
    from torch.utils.data import Dataset

    class Wavs(Dataset):
        def __len__(self) -> int:
            return len(wavs)

        def __getitem__(self, clip: int):
            waveform, _ = soundfile.read(wavs[clip], dtype="float32")
            return torch.from_numpy(waveform), int(label[clip])

    return Wavs()


def train_wavs(network, loss, dataset, batch: int, mixup: float = 0.5):
    """An epoch, a step at a time, with mixup of half of the waveforms; yields loss and norm of the gradient per step.

    Spectrum and spectrogram are computed within the network, from each batch.
    """
    import torch
    from torch.utils.data import DataLoader

    network.train()
    parameters = [one for module in (network, loss) for one in module.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(parameters, 1e-3)
    for x, label in DataLoader(dataset, batch, shuffle=True):
        order = torch.randperm(len(x))
        weight = torch.where(torch.rand(len(x)) < mixup, torch.rand(len(x)), 1.0)
        mixed = weight[:, None] * x + (1 - weight[:, None]) * x[order]
        losses, _ = loss(network.embed(mixed), label, label[order], weight)
        optimiser.zero_grad()
        losses.mean().backward()
        norm = torch.nn.utils.get_total_norm([one.grad for one in parameters])
        optimiser.step()
        yield losses.mean().item(), norm.item()


def embed_wavs(network, dataset) -> np.ndarray:
    """The embeddings of recordings, one after the other: (clips, values)."""
    import torch

    network.eval()
    with torch.no_grad():
        return np.concatenate([network.embed(dataset[clip][0][None]).numpy() for clip in range(len(dataset))])


def nearest(references: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The cosine distance of each row to the nearest reference: (rows,)."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=1, metric="cosine").fit(references).kneighbors(rows)[0][:, 0]


# --- features and scores ------------------------------------------------------------------------------------


def features(backbone, x):
    """Nine stages, each pooled: (batch, 3, mels, frames) -> (batch, 2096). The backbone is in evaluation mode."""
    import torch

    with torch.no_grad():
        x = backbone.bn1(backbone.conv_stem(x))
        pooled = [x.mean((2, 3))]
        for block in backbone.blocks:
            x = block(x)
            pooled.append(x.mean((2, 3)))
        x = backbone.bn2(backbone.conv_head(x))
        return torch.cat([*pooled, x.mean((2, 3))], 1)


def clip_features(backbone, logmel, mean: float, deviation: float, batch: int = 32, device: str = "cpu") -> np.ndarray:
    """The features of whole clips, from (clips, mels, frames) in dB: (clips, 2096)."""
    import torch

    found = []
    for begin in range(0, len(logmel), batch):
        x = torch.from_numpy((logmel[begin : begin + batch] - mean) / deviation)
        found.append(features(backbone, x.unsqueeze(1).repeat(1, 3, 1, 1).to(device)).cpu().numpy())
    return np.concatenate(found)


def window_features(backbone, logmel, mean: float, deviation: float, hop: int, device: str = "cpu") -> np.ndarray:
    """The features of all windows of one clip, as one batch, from (mels, frames) in dB: (windows, 2096)."""
    starts = range(0, logmel.shape[1] - 64 + 1, hop)
    windows = np.stack([logmel[:, start : start + 64] for start in starts])
    return clip_features(backbone, windows, mean, deviation, len(windows), device)


def fit(rows: np.ndarray):
    """A Gaussian by scikit-learn, in float64."""
    from sklearn.covariance import LedoitWolf

    return LedoitWolf().fit(rows.astype(np.float64))


def distances(gaussian, rows: np.ndarray) -> np.ndarray:
    """The Mahalanobis distance of each row; scikit-learn's is its square."""
    return np.sqrt(gaussian.mahalanobis(rows))


# --- figures ------------------------------------------------------------------------------------------------


def section_figures(score, decision, anomaly, target) -> list[float]:
    """All figures of a section, by scikit-learn: those of `asd.results.metrics.FIGURES`, in that order.

    Args:
        score: (clips,).
        decision, anomaly, target: (clips,) bool.
    """
    from sklearn.metrics import f1_score, precision_score, recall_score, roc_auc_score

    domains = (~target, target)
    against_all = [domain | anomaly for domain in domains]
    auc = [roc_auc_score(anomaly[rows], score[rows]) for rows in against_all]
    pauc = roc_auc_score(anomaly, score, max_fpr=0.1)
    return [
        *auc,
        roc_auc_score(anomaly, score),
        pauc,
        *(roc_auc_score(anomaly[rows], score[rows], max_fpr=0.1) for rows in against_all),
        *(roc_auc_score(anomaly[rows], score[rows], max_fpr=0.1) for rows in domains),
        3 / sum(1 / max(value, np.finfo(float).eps) for value in (*auc, pauc)),
        *(
            figure(anomaly[rows], decision[rows], zero_division=0)
            for figure in (precision_score, recall_score, f1_score)
            for rows in domains
        ),
    ]


def bootstrap(sections: list[tuple], resamples: int, seed: int = 0) -> np.ndarray:
    """All figures of sections (arguments of `section_figures`) on their clips, and on stratified resamples of them.

    Returns:
        (sections, figures, 1 + resamples).
    """
    rng = np.random.default_rng(seed)
    found = []
    for section in sections:
        values = [section_figures(*section)]
        _, _, anomaly, target = section
        strata = [
            np.flatnonzero((anomaly == one) & (target == other)) for one in (False, True) for other in (False, True)
        ]
        for _ in range(resamples):
            rows = np.concatenate([rng.choice(stratum, len(stratum) - 1) for stratum in strata])
            values.append(section_figures(*(column[rows] for column in section)))
        found.append(np.transpose(values))
    return np.stack(found)
