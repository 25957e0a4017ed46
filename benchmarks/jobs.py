"""What is measured: each stage's job, as the plain recipe does it and as the library does, on the same files.

`prepare` makes the files. A job is a function of their folder that imports and loads what it needs and returns two
functions: the work, which is timed, and a function of its outcome, which returns what is compared.
"""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import plain

CLIPS, TRAINED, BATCH, SCORED = 200, 64, 32, 2
"""Recordings of the log-mel stage; clips of a training epoch (and of the features), of a step; clips cut at hop 1."""

REFERENCES = 48
"""Of the clips of a training epoch, those to which the others' distances are taken."""

ROWS, WINDOWS, FEATURES, NEW = 990, 32000, 2096, 200
"""Training clips of a section, windows of a section, features, rows whose distance is taken."""

RESAMPLES, PLAIN_RESAMPLES = 1000, 10
"""Bootstrap resamples of ours, and of the plain recipe, whose time is multiplied accordingly."""

Job = tuple[Callable[[], object], Callable[[object], np.ndarray]]


# --- the files ----------------------------------------------------------------------------------------------


def prepare(data: Path, stages: list[str]) -> None:
    """Write the files that the jobs of these stages read."""
    rng = np.random.default_rng(0)
    chosen = set(stages)
    if chosen & {"logmel", "logmel2"}:
        _recordings(data, rng, "all", CLIPS, "train")
    if chosen & {"train", "features", "local", "waveform"}:
        _networks(data, rng)
    mixing = rng.standard_normal((200, FEATURES), np.float32) / 15
    if chosen & {"local", "section", "windows"}:
        np.save(data / "rows.npy", _correlated(rng, mixing, ROWS))
        np.save(data / "new.npy", _correlated(rng, mixing, NEW))
    if "windows" in chosen:
        with h5py.File(data / "features.h5", "w", libver=("v110", "v110")) as file:
            shape, chunks = (WINDOWS, FEATURES), (64, FEATURES)
            rows = file.create_dataset("features", shape, np.float32, chunks=chunks, fletcher32=True)
            for begin in range(0, WINDOWS, 2000):
                rows[begin : begin + 2000] = _correlated(rng, mixing, 2000)
    if "bootstrap" in chosen:
        _scores(data, rng)


def _recordings(data: Path, rng: np.random.Generator, name: str, count: int, split: str) -> None:
    """Wavs of a tone in noise, 10 s each, and their manifest."""
    import soundfile

    from asd.corpus import scan, write_manifest

    home, seconds = data / "wav" / name, np.arange(10 * plain.RATE) / plain.RATE
    (home / "train").mkdir(parents=True)
    for number in range(count):
        file = home / f"train/section_00_source_train_normal_{number:04}_vel_{number % 12}.wav"
        noise = rng.standard_normal(len(seconds), np.float32)
        sound = 0.1 * noise + 0.3 * np.sin(2 * np.pi * rng.uniform(50, 4000) * seconds)
        soundfile.write(file, sound, plain.RATE, subtype="PCM_16")
    write_manifest(home / "manifest.csv", scan(home.parent, name).assign(split=split))


def _networks(data: Path, rng: np.random.Generator) -> None:
    """Caches of training and test clips, and a B1 with random weights for them."""
    import torch

    from asd import waveform
    from asd.cache import open_cache, write_cache
    from asd.network import Description, Network, save
    from asd.settings import LogMel, Training

    for name, count, split in (("clips", TRAINED, "train"), ("windows", SCORED, "test")):
        _recordings(data, rng, name, count, split)
        write_cache(data / f"{name}.h5", data / f"wav/{name}/manifest.csv", LogMel())
    with h5py.File(data / "clips.h5") as file:
        logmel = torch.from_numpy(file["logmel"][:])
    torch.manual_seed(0)
    sections, attributes = tuple(f"{one:02}" for one in range(6)), tuple(f"vel_{one}" for one in range(12))
    settings = Training().model_dump_json()
    network = Network(Description("efficientnet_b1", "all", 1, sections, attributes, settings))
    network.mean.fill_(logmel.mean())
    network.deviation.fill_(logmel.std())
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():  # batch norms of random weights need statistics
        network.train().embed(network.standardise(logmel[:16]))
    save(data / "network.safetensors", network.eval())
    with open_cache(data / "clips.h5") as cache:
        save(data / "waveform.safetensors", waveform.prepared(None, cache, _waveform(), None, torch.device("cpu"))[0])


def _scores(data: Path, rng: np.random.Generator) -> None:
    """Scores and decisions of seven machines, three sections each, fifty clips of each kind."""
    import pandas as pd

    clips = []
    for machine in range(7):
        for section in range(3):
            target, anomaly = np.arange(200) % 2 == 1, np.arange(200) >= 100
            score = rng.standard_normal(200) + anomaly
            columns = {"score": score, "decision": score > 1, "domain": np.where(target, "target", "source")}
            frame = pd.DataFrame(columns | {"label": np.where(anomaly, "anomaly", "normal")})
            clips.append(frame.assign(file=[f"{n:04}" for n in range(200)], machine=machine, section=f"{section:02}"))
    pd.concat(clips).to_csv(data / "scores.csv", index=False)


def _correlated(rng: np.random.Generator, mixing: np.ndarray, count: int) -> np.ndarray:
    """Rows whose features depend on each other, about 1."""
    common = rng.standard_normal((count, len(mixing)), np.float32) @ mixing
    return 1 + common + 0.1 * rng.standard_normal((count, FEATURES), np.float32)


def _threads() -> int:
    return int(os.environ["OMP_NUM_THREADS"])


# --- log-mel ------------------------------------------------------------------------------------------------


def plain_logmel(data: Path) -> Job:
    import librosa

    wavs = sorted((data / "wav/all/train").glob("*.wav"))
    librosa.load(wavs[0], sr=None)
    out = data / f"plain-{os.getpid()}.h5"
    return lambda: plain.write_cache(out, wavs), lambda _: _some_logmels(out)


def our_logmel(data: Path) -> Job:
    from asd.cache import write_cache
    from asd.settings import LogMel

    out = data / f"ours-{os.getpid()}.h5"
    return lambda: write_cache(out, data / "wav/all/manifest.csv", LogMel()), lambda _: _some_logmels(out)


def _some_logmels(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return file["logmel"][::20]


# --- networks -----------------------------------------------------------------------------------------------


def _plain_model(data: Path) -> SimpleNamespace:
    """The plain model with the network's weights, its input statistics and the clips."""
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(_threads())
    state = load_file(data / "network.safetensors")
    model = plain.make_model(6, 12)
    kept = {name: value for name, value in state.items() if name in model.state_dict()}
    model.load_state_dict(kept)
    mean, deviation = (np.float32(state[name].item()) for name in ("mean", "deviation"))
    return SimpleNamespace(model=model, mean=mean, deviation=deviation)


def _labels() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(TRAINED) % 6, np.arange(TRAINED) % 12


def plain_train(data: Path) -> Job:
    import torch

    made = _plain_model(data)
    with h5py.File(data / "clips.h5") as file:
        logmel = file["logmel"][:]
    section, attribute = _labels()
    dataset = plain.make_dataset(logmel, None, section, attribute, "global", 6, made.mean, made.deviation)
    standardised = torch.from_numpy((logmel[:8] - made.mean) / made.deviation).unsqueeze(1).expand(-1, 3, -1, -1)
    model = made.model.train()
    embedding = model.backbone(standardised)
    losses = [
        plain.focal(head(embedding, labels), labels)
        for head, labels in ((model.section, torch.arange(8) % 6), (model.attribute, torch.arange(8) % 12))
    ]
    loss = sum(losses).detach().numpy()
    return lambda: list(plain.train(model, dataset, BATCH)), lambda _: loss


def our_train(data: Path) -> Job:
    """CNN-GLOBAL with the paper's settings, except for the batch."""
    import torch

    from asd.device import prepare as prepare_device
    from asd.kinds import load
    from asd.losses import focal
    from asd.settings import Compute, LogMel, Training
    from asd.training import TrainingSet, train

    prepare_device(Compute(device="cpu", threads=_threads()))
    masks = {"time_masks": {"count": 2, "width": 16}, "frequency_masks": {"count": 2, "width": 32}}
    settings = Training(epochs=1, batch=BATCH, warmup=0, norm="batch", mixup={"alpha": 0.4}, **masks)
    network = load(data / "network.safetensors").train()
    with h5py.File(data / "clips.h5") as file:
        logmel = torch.from_numpy(file["logmel"][:])
    clips = TrainingSet(logmel, None, *map(torch.from_numpy, _labels()))
    embedding = network.embed(network.standardise(logmel[:8]))
    losses = [
        focal(head(embedding, labels), labels, 2.0)
        for head, labels in ((network.section, torch.arange(8) % 6), (network.attribute, torch.arange(8) % 12))
    ]
    loss = sum(losses).detach().numpy()
    return lambda: train(network, clips, settings, LogMel()), lambda _: loss


def plain_features(data: Path) -> Job:
    made = _plain_model(data)
    backbone = made.model.eval().backbone

    def work() -> np.ndarray:
        with h5py.File(data / "clips.h5") as file, h5py.File(data / "plain-features.h5", "w") as out:
            out["features"] = plain.clip_features(backbone, file["logmel"][:], made.mean, made.deviation)
            return out["features"][:]

    return work, lambda found: found


def our_features(data: Path) -> Job:
    features = _our_features(data, "clips", {})
    return features, lambda _: _read(data / "our-clips.h5", "features")


def _our_features(data: Path, name: str, windows: dict) -> Callable[[], None]:
    from asd.cache import open_cache
    from asd.device import prepare as prepare_device
    from asd.features import write_features
    from asd.kinds import load
    from asd.settings import Compute, Windows

    device = prepare_device(Compute(device="cpu", threads=_threads()))

    def work() -> None:
        network = load(data / "network.safetensors").for_scoring()
        with open_cache(data / f"{name}.h5") as cache:
            write_features(data / f"our-{name}.h5", network, cache, Windows(**windows), device)

    return work


def _read(path: Path, name: str) -> np.ndarray:
    with h5py.File(path) as file:
        return file[name][:]


def plain_local(data: Path) -> Job:
    made = _plain_model(data)
    backbone, gaussian = made.model.eval().backbone, plain.fit(np.load(data / "rows.npy"))

    def work() -> np.ndarray:
        with h5py.File(data / "windows.h5") as file:
            clips = file["logmel"][:]
        rows = (plain.window_features(backbone, clip, made.mean, made.deviation, hop=1) for clip in clips)
        return np.array([plain.distances(gaussian, one).mean() for one in rows])

    return work, lambda found: found


def our_local(data: Path) -> Job:
    from asd.features import open_features
    from asd.gaussian import fit
    from asd.sections import Section, Sections, scores
    from asd.settings import Fit, Mvg

    features = _our_features(data, "windows", {"window": 64, "hop": 8, "test_hop": 1})
    sections = Sections({"00": Section(fit(np.load(data / "rows.npy"), Mvg()), np.ones(1))}, {}, Fit())

    def work() -> np.ndarray:
        features()
        with open_features(data / "our-windows.h5") as opened:
            return scores(opened, sections)

    return work, lambda found: found


# --- a network of the waveform ------------------------------------------------------------------------------


def _waveform():
    """The settings of the network of the waveform, an epoch."""
    from asd.settings import Training

    return Training(kind="waveform", waveform={"epochs": 1, "batch": BATCH})


def plain_waveform(data: Path) -> Job:
    """With the layers and the loss of the library: what differs is how clips reach them, and what is done per step."""
    import sklearn.neighbors  # noqa: F401 (imported before the clock starts)
    import torch

    from asd.kinds import load
    from asd.losses import make_loss

    torch.set_num_threads(_threads())
    network = load(data / "waveform.safetensors")
    labels = network.description.labels
    loss = make_loss(network.widths[0], len(labels), _waveform().waveform.loss)
    dataset = plain.make_wavs(sorted((data / "wav/clips/train").glob("*.wav")), np.arange(TRAINED) % len(labels))

    def scores() -> np.ndarray:
        rows = plain.embed_wavs(network, dataset)
        return plain.nearest(rows[:REFERENCES], rows[REFERENCES:])

    before = scores()
    return lambda: (list(plain.train_wavs(network, loss, dataset, BATCH)), scores()), lambda _: before


def our_waveform(data: Path) -> Job:
    import torch

    from asd import knn, waveform
    from asd.cache import open_cache
    from asd.device import prepare as prepare_device
    from asd.features import write_features
    from asd.kinds import load
    from asd.settings import Compute, Knn, Windows

    device = prepare_device(Compute(device="cpu", threads=_threads()))
    network = load(data / "waveform.safetensors")
    label = torch.arange(TRAINED) % len(network.description.labels)

    def scores(cache) -> np.ndarray:
        write_features(data / "our-waveform.h5", network, cache, Windows(), device)
        rows = _read(data / "our-waveform.h5", "features")
        settings, domain = Knn(metric="cosine", neighbours=1, density="none"), np.zeros(REFERENCES, np.int64)
        fitted = knn.fit(rows[:REFERENCES], settings, domain, np.random.default_rng(0))
        return fitted.distances(rows[REFERENCES:])[:, 0]

    def work() -> np.ndarray:
        with open_cache(data / "clips.h5") as cache:
            clips = waveform.TrainingSet(torch.from_numpy(cache.read_waveform(range(TRAINED))), label)
            waveform.train(network, clips, _waveform(), cache.settings)
            return scores(cache)

    with open_cache(data / "clips.h5") as cache:
        before = scores(cache)
    return work, lambda _: before


# --- Gaussians ----------------------------------------------------------------------------------------------


def plain_section(data: Path) -> Job:
    rows, new = np.load(data / "rows.npy"), np.load(data / "new.npy")
    from sklearn.covariance import LedoitWolf  # noqa: F401 (imported before the clock starts)

    return lambda: plain.distances(plain.fit(rows), new), lambda found: found


def our_section(data: Path) -> Job:
    import scipy.linalg  # noqa: F401 (imported before the clock starts)

    from asd.gaussian import fit
    from asd.settings import Mvg

    rows, new = np.load(data / "rows.npy"), np.load(data / "new.npy")
    return lambda: fit(rows, Mvg()).distances(new)[:, 0], lambda found: found


def plain_windows(data: Path) -> Job:
    from sklearn.covariance import LedoitWolf  # noqa: F401 (imported before the clock starts)

    new = np.load(data / "new.npy")
    return lambda: plain.fit(_read(data / "features.h5", "features")), lambda found: plain.distances(found, new)


def our_windows(data: Path) -> Job:
    import scipy.linalg  # noqa: F401 (imported before the clock starts)

    from asd.gaussian import ROWS_AT_ONCE, fit_moments, moments
    from asd.settings import Mvg

    new = np.load(data / "new.npy")

    def work():
        with h5py.File(data / "features.h5") as file:
            rows = file["features"]
            blocks = (rows[begin : begin + ROWS_AT_ONCE] for begin in range(0, WINDOWS, ROWS_AT_ONCE))
            return fit_moments([moments(blocks, rows[0].astype(np.float64))], Mvg())

    return work, lambda found: found.distances(new)[:, 0]


# --- figures ------------------------------------------------------------------------------------------------


def plain_bootstrap(data: Path) -> Job:
    import pandas as pd
    import sklearn.metrics  # noqa: F401 (imported before the clock starts)

    sections = [
        tuple(
            column.to_numpy()
            for column in (here["score"], here["decision"], here["label"] == "anomaly", here["domain"] == "target")
        )
        for _, here in pd.read_csv(data / "scores.csv").groupby(["machine", "section"])
    ]
    return lambda: plain.bootstrap(sections, PLAIN_RESAMPLES), lambda found: found[:, :, 0]


def our_bootstrap(data: Path) -> Job:
    import pandas as pd

    from asd.results.metrics import joined, machine_figures

    machines = {f"machine{number}": clips for number, clips in pd.read_csv(data / "scores.csv").groupby("machine")}

    def work():
        return joined(machine_figures(name, clips, resamples=RESAMPLES) for name, clips in machines.items())

    return work, lambda found: found.values[:, :, 0]
