"""`make bench-gpu`: networks and log-mel on a GPU beside the plain recipe, and the hours of the paper's networks.

It has never run on a GPU; `--device cpu --small` tries every line of it on a processor, with figures that mean nothing.
The recordings are those of the demo's generator, of 10 s; a few hundred are made and repeated to the size of a
machine's training set. If librosa, audiomentations or scikit-learn are not installed, the rows that need them have no
plain figure.

The limit of training is the bandwidth of the memory. In bfloat16 a convolution of B1 reads its input and writes its
output (forwards), reads the gradient of the output and writes that of the input, and reads input and gradient again for
its weights: three times its values. The other layers (batch norms, SiLU, squeeze and excitation, pooling, the two
heads, Adam) are counted as nothing, as if they were computed while a convolution reads or writes; `limits.network`.

Reads  nothing but config/. Writes benchmarks/results/<device>.json and prints the table.
"""

import argparse
import json
import math
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import h5py
import limits
import numpy as np
import plain
import torch
import yaml

from asd.audio import log_mels
from asd.demo.synthesis import plan, record
from asd.features import write_features
from asd.gaussian import fit
from asd.network import Description, Network, fold
from asd.settings import LogMel, Mvg, Windows, load
from asd.training import TrainingSet, train

ROOT = Path(__file__).parents[1]
LOGMEL = LogMel()
SECTIONS, TRAINING, TEST = 6, 6000, 1200
"""Of a machine of 2022: sections, training clips, test clips."""

FULL = SimpleNamespace(made=256, clips=TRAINING, scored=TEST, plain=32, epochs=3, batch=None, seconds=10.0)
FULL.gaussians, FULL.features, FULL.trial = {"990 rows": 990, "32,000 rows": 32000}, 2096, 0.5
SMALL = SimpleNamespace(made=4, clips=4, scored=1, plain=1, epochs=2, batch=2, seconds=2.2)
SMALL.gaussians, SMALL.features, SMALL.trial = {"50 rows": 50, "300 rows": 300}, 100, 0.02


# --- what is measured ---------------------------------------------------------------------------------------


def recordings(size: SimpleNamespace) -> np.ndarray:
    """Synthesise clips of a fan with all processors, (made, samples) int16."""
    demo = paper().dataset.demo.model_copy(update={"train_source": math.ceil(size.made / 3), "train_target": 1})
    clips = [clip for clip in plan("fan", demo) if clip.split == "train"][: size.made]
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        made = pool.map(record, clips, [demo.seed] * len(clips), [size.seconds] * len(clips), chunksize=8)
        return np.stack(list(made))


@cache
def paper():
    """The effective settings of config/dcase2022.yaml."""
    default, overlay = (yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("config", "dcase2022"))
    return load(_merged(default, overlay))


def _merged(below: dict, above: dict) -> dict:
    """A configuration with an overlay, as Snakemake merges them."""
    both = {key: _merged(below[key], above[key]) for key in below.keys() & above.keys() if isinstance(above[key], dict)}
    return below | above | both


def clock(work: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    """Return the shortest of a few durations of a call, until the device has finished; a first one is not counted."""
    durations = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        work()
        wait(device)
        durations.append(time.perf_counter() - begin)
    return min(durations[1:])


def wait(device: torch.device) -> None:
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def make_network(logmel: torch.Tensor, equalised: bool, device: torch.device) -> Network:
    """B1 with random weights, for six sections and twelve attributes."""
    sections = tuple(f"{one:02}" for one in range(SECTIONS * (1 + equalised)))
    attributes = tuple(f"vel_{one}" for one in range(12))
    network = Network(Description("efficientnet_b1", "fan", 1, sections, attributes, "{}")).to(device)
    network.mean.fill_(logmel.mean())
    network.deviation.fill_(logmel.std())
    return network


def training_rate(name: str, waveform: torch.Tensor, logmel: torch.Tensor, size: SimpleNamespace) -> float:
    """Clips per second of the training of a network of the paper, from the second epoch on: the first may compile."""
    settings = paper().networks[name].training
    settings = settings.model_copy(update={"epochs": size.epochs, "batch": size.batch or settings.batch})
    network = make_network(logmel, settings.equaliser.probability > 0, logmel.device)
    number = torch.arange(len(logmel), device=logmel.device)
    data = TrainingSet(logmel, waveform, number % SECTIONS, number % 12)
    ends = []

    def report(epoch: object, epochs: int) -> None:
        wait(logmel.device)
        ends.append(time.perf_counter())

    train(network, data, settings, LOGMEL, report)
    clips = len(logmel) // settings.batch * settings.batch
    return clips * (len(ends) - 1) / (ends[-1] - ends[0])


def plain_training_rate(name: str, waveform: np.ndarray, logmel: np.ndarray, size: SimpleNamespace, device) -> float:
    """Clips per second of the plain recipe, with one worker per processor; the first five steps are not counted."""
    batch = size.batch or paper().networks[name].batch
    number = np.arange(len(logmel))
    mean, deviation = logmel[: size.made].mean(), logmel[: size.made].std()
    given = (logmel, waveform, number % SECTIONS, number % 12, name, SECTIONS, mean, deviation)
    dataset = plain.make_dataset(*given)
    model = plain.make_model(SECTIONS * (1 + (name == "oe")), 12)
    workers = 0 if size is SMALL else os.cpu_count()
    begin, done, skipped = math.nan, 0, min(5, len(logmel) // batch - 1)
    for step, _ in enumerate(plain.train(model, dataset, batch, str(device), workers), 1):
        if step == skipped:
            begin = time.perf_counter()
        done += step > skipped
        if done == 40:
            break
    return done * batch / (time.perf_counter() - begin)


def features_seconds(folder: Path, logmel: np.ndarray, windows: Windows, split: str, device: torch.device) -> float:
    """The seconds of a features file of some clips, with reading the cache and writing the file."""
    import pandas as pd

    from asd.cache import Cache
    from asd.corpus import COLUMNS

    with h5py.File(folder / "cache.h5", "w") as file:
        file["logmel"] = logmel
        clips = pd.DataFrame({column: [""] * len(logmel) for column in COLUMNS}).assign(split=split)
        cache = Cache(folder / "cache.h5", file, clips, LOGMEL)
        network = fold(make_network(torch.from_numpy(logmel[:8]).to(device), False, device).eval())
        return clock(lambda: write_features(folder / "features.h5", network, cache, windows, device), device, 1)


def measure(size: SimpleNamespace, device: torch.device, folder: Path) -> dict[str, dict]:
    """Every row of the table: ours and plain, each in `unit`."""
    rows: dict[str, dict] = {}

    def note(name: str, ours: float, unit: str, plainly: Callable[[], float] | None = None, **more: float) -> None:
        row = {"ours": ours, "unit": unit} | more
        if plainly:
            with suppress(ModuleNotFoundError):  # librosa, audiomentations, scikit-learn
                row["plain"] = plainly()
        print(f"{time.strftime('%H:%M:%S')} {name}: {row}", file=sys.stderr, flush=True)
        rows[name] = row

    made = recordings(size)
    sound = np.resize(made, (size.clips, made.shape[1]))
    waveform = torch.from_numpy(sound).to(device)
    floating = waveform[:1024].float() / 32768
    with torch.inference_mode():
        note(
            "log-mel on the device",
            len(floating) / clock(lambda: log_mels(floating, LOGMEL), device),
            "clips/s",
            lambda: len(made[:32]) / clock(lambda: [plain.log_mel(one / 32768) for one in made[:32]], device, 1),
        )
        logmel = torch.cat([log_mels(some.float() / 32768, LOGMEL) for some in waveform.split(256)])
    host = logmel.cpu().numpy()
    rate = limits.rates(folder, device.type, size.trial)
    for name in ("global", "local", "oe"):
        wide = paper().networks[name].window or logmel.shape[2]
        kind = "bfloat16" if device.type == "cuda" else "float32"
        note(
            f"train CNN-{name.upper()}",
            training_rate(name, waveform, logmel, size),
            "clips/s",
            lambda name=name: plain_training_rate(name, sound, host, size, device),
            limit=1 / limits.network(rate, wide, 1, 3, kind),
        )
    scored, few = host[: size.scored], host[: size.plain]
    backbone = plain.make_model(SECTIONS, 12).to(device).eval().backbone
    kinds = {
        "features of whole clips": (Windows(), "test", lambda: plain.clip_features(backbone, few, 0, 1, 32, device)),
        "features at hop 8": (Windows(window=64, hop=8), "train", lambda: _plain_windows(backbone, few, 8, device)),
        "features at hop 1": (Windows(window=64, test_hop=1), "test", lambda: _plain_windows(backbone, few, 1, device)),
    }
    for name, (windows, split, work) in kinds.items():
        seconds = features_seconds(folder, scored, windows, split, device)
        note(name, size.scored / seconds, "clips/s", lambda work=work: len(few) / clock(work, device, 1))
    rng = np.random.default_rng(0)
    for name, count in size.gaussians.items():
        some = 1 + 0.1 * rng.standard_normal((count, size.features), np.float32)
        some += rng.standard_normal((count, 20), np.float32) @ rng.standard_normal((20, size.features), np.float32)
        seconds = clock(lambda some=some: fit(some, Mvg()), device, 1)
        plainly = lambda some=some: 1 / clock(lambda: plain.fit(some), device, 1)  # noqa: E731
        note(f"Gaussian, {name}, on the processor", 1 / seconds, "fits/s", plainly)
    return {"rows": rows, "rates": rate}


def _plain_windows(backbone, clips: np.ndarray, hop: int, device: torch.device) -> None:
    for clip in clips:
        plain.window_features(backbone, clip, 0, 1, hop, device)


def hours(rows: dict[str, dict]) -> dict[str, float]:
    """The hours of the paper's 21 networks on this device, and of their features, by the measured rates."""
    settings = paper()
    machines, found = len(settings.machines), {}
    for name in ("global", "local", "oe"):
        seen = settings.networks[name].epochs * TRAINING
        found[f"train {name}"] = machines * seen / rows[f"train CNN-{name.upper()}"]["ours"] / 3600
    every = TRAINING + TEST
    found["features global"] = machines * every / rows["features of whole clips"]["ours"] / 3600
    of_local = TRAINING / rows["features at hop 8"]["ours"] + TEST / rows["features at hop 1"]["ours"]
    found["features local"] = machines * of_local / 3600
    return found | {"training": sum(value for name, value in found.items() if name.startswith("train"))}


# --- the table ----------------------------------------------------------------------------------------------


def table(results: dict) -> str:
    """The results as Markdown."""
    lines = ["| on the device | plain | ours | ratio | limit of the bandwidth |", "| --- | --- | --- | --- | --- |"]
    for name, row in results["rows"].items():
        there, limit = "plain" in row, row.get("limit")
        cells = [
            name,
            f"{row['plain']:.3g} {row['unit']}" if there else "",
            f"{row['ours']:.3g} {row['unit']}",
            f"{row['ours'] / row['plain']:.1f}×" if there else "",
            f"{limit:.3g} {row['unit']} ({row['ours'] / limit:.0%})" if limit else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    spent = ", ".join(f"{name} {value:.2f} h" for name, value in results["hours"].items())
    return "\n".join([*lines, "", f"The paper's 21 networks on this device, by these rates: {spent}."])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu to try the benchmark itself")
    parser.add_argument("--small", action="store_true", help="a few short clips: figures that mean nothing")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results", help="the folder of the results")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: --device: torch sees no CUDA device; --device cpu --small tries the benchmark without")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        results = measure(SMALL if chosen.small else FULL, device, Path(folder))
    results["hours"] = hours(results["rows"])
    results |= {"date": str(date.today()), "device": name, "small": chosen.small}
    results["versions"] = {one: version(one) for one in ("asd", "numpy", "timm", "torch")}
    results["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else None
    chosen.out.mkdir(parents=True, exist_ok=True)
    file = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") + ("-small" if chosen.small else "")
    (chosen.out / f"{file}.json").write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
