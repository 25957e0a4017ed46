"""`make growth`: how time and memory of each stage grow with clips, windows and machines.

Each size has a process of its own. The exponent of the growth is that between the two largest sizes: 1 if twice as much
takes twice as long, less if a constant part is still large.

Reads  nothing. Writes benchmarks/results/growth-<processor>.json and docs/growth.svg, and prints a table.
"""

import argparse
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from importlib.metadata import version
from pathlib import Path

import h5py
import numpy as np
from bench import PAPER, ROOT, machine, told

CLIPS, WINDOWS, MACHINES = (100, 400, 1600, 6000), (4000, 16000, 64000), (7, 35, 175, 700)
THREADS = 2
SHORT = 16000
"""Samples of the clips that the networks see here: the growth is that of longer clips, and measured sooner."""


# --- what is measured, one function per stage: from size and folder to the work -----------------------------


def log_mels(clips: int, folder: Path) -> Callable[[], object]:
    """Recordings of 10 s into a cache."""
    from asd.cache import write_cache
    from asd.settings import LogMel

    manifest = recordings(folder, clips, 160000)
    return lambda: write_cache(folder / "cache.h5", manifest, LogMel())


def training(clips: int, folder: Path) -> Callable[[], object]:
    """An epoch of CNN-Global over a cache, with reading it."""
    from asd.cache import open_cache
    from asd.device import prepare
    from asd.settings import Compute, LogMel, Training
    from asd.training import train, training_set

    device = prepare(Compute(device="cpu", threads=THREADS))
    settings = Training(epochs=1, batch=32, warmup=0, mixup={"alpha": 0.4})
    path, network = cached(folder, clips), lite()

    def work() -> None:
        with open_cache(path) as cache:
            data = training_set(cache, network.description, settings, device)
        train(network, data, settings, LogMel())

    return work


def features(clips: int, folder: Path) -> Callable[[], object]:
    """The features of whole clips."""
    from asd.cache import open_cache
    from asd.device import prepare
    from asd.features import write_features
    from asd.network import fold
    from asd.settings import Compute, Windows

    device = prepare(Compute(device="cpu", threads=THREADS))
    path, network = cached(folder, clips), fold(lite().eval())

    def work() -> None:
        with open_cache(path) as cache:
            write_features(folder / "features.h5", network, cache, Windows(), device)

    return work


def gaussians(clips: int, folder: Path) -> Callable[[], object]:
    """Gaussians of six sections, scored in five folds, of `clips` clips in all with one row each."""
    return fitted(folder, clips, 1)


def gaussians_of_windows(windows: int, folder: Path) -> Callable[[], object]:
    """The Gaussian of one section of clips with 32 windows each, scored in five folds."""
    return fitted(folder, windows // 32, 32)


def bootstrap(clips: int, folder: Path) -> Callable[[], object]:
    """A thousand resamples of all figures of a machine with `clips` test clips in three sections."""
    import pandas as pd

    from asd.results.metrics import machine_figures

    rng, number = np.random.default_rng(0), np.arange(clips)
    table = {
        "file": number.astype(str),
        "section": number % 3,
        "score": rng.standard_normal(clips),
        "decision": number % 2,
    }
    table |= {
        "domain": np.where(number // 3 % 2, "source", "target"),
        "label": np.where(number // 6 % 2, "normal", "anomaly"),
    }
    return lambda: machine_figures("fan", pd.DataFrame(table), resamples=1000)


def dry_run(machines: int, folder: Path) -> Callable[[], object]:
    """`snakemake -n` of the paper's graph with this number of machines: the graph is built and scheduled."""
    overlay = folder / "overlay.yaml"
    names = [f"m{number}" for number in range(machines)]
    overlay.write_text(json.dumps({"dataset": {"kind": "demo"}, "machines": names}))
    words = [sys.executable, "-m", "snakemake", "-n", "--cores", "2", "--directory", str(folder)]
    words += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", str(PAPER), str(overlay)]
    return lambda: subprocess.run(words, capture_output=True, check=True)


STAGES = {
    "log-mel": (log_mels, CLIPS),
    "train, an epoch": (training, CLIPS),
    "features": (features, CLIPS),
    "Gaussians, of clips": (gaussians, CLIPS),
    "Gaussians, of windows": (gaussians_of_windows, WINDOWS),
    "bootstrap": (bootstrap, CLIPS),
    "snakemake -n": (dry_run, MACHINES),
}


# --- their files --------------------------------------------------------------------------------------------


def recordings(folder: Path, clips: int, samples: int) -> Path:
    """Training clips of noise, a few of them under many names, and their manifest."""
    import soundfile

    from asd.corpus import scan, write_manifest

    rng, home = np.random.default_rng(0), folder / "fan/train"
    home.mkdir(parents=True)
    few: list[Path] = []
    for number in range(clips):
        path = home / f"section_{number % 6:02}_source_train_normal_{number:04}_vel_{number % 12}.wav"
        if number < 50:
            soundfile.write(path, 0.1 * rng.standard_normal(samples), 16000, subtype="PCM_16")
            few.append(path)
        else:
            shutil.copyfile(few[number % 50], path)  # not a link: the same file twice is refused
    write_manifest(home.parent / "manifest.csv", scan(folder, "fan"))
    return home.parent / "manifest.csv"


def cached(folder: Path, clips: int) -> Path:
    """A cache of clips of a second."""
    from asd.cache import write_cache
    from asd.settings import LogMel

    write_cache(folder / "cache.h5", recordings(folder, clips, SHORT), LogMel())
    return folder / "cache.h5"


def lite():
    """EfficientNet-Lite1 with random weights, for six sections and twelve attributes."""
    from asd.network import Description, Network

    sections, attributes = tuple(f"{one:02}" for one in range(6)), tuple(f"vel_{one}" for one in range(12))
    return Network(Description("tf_efficientnet_lite1", "fan", 1, sections, attributes, "{}"))


def fitted(folder: Path, clips: int, windows: int) -> Callable[[], object]:
    """The fit of the Gaussians of a machine's clips: of six sections, or with windows of one."""
    import pandas as pd

    from asd.corpus import COLUMNS
    from asd.features import open_features
    from asd.hdf5 import write_clips
    from asd.sections import fit_sections
    from asd.settings import Fit

    rng, path = np.random.default_rng(0), folder / "features.h5"
    number = np.arange(clips)
    table = pd.DataFrame({column: [""] * clips for column in COLUMNS})
    table = table.assign(machine="fan", split="train", file=[f"{one:05}.wav" for one in number])
    table["section"] = [f"{one % (6 if windows == 1 else 1):02}" for one in number]
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        rows = file.create_dataset("features", (clips * windows, 2096), "f4", chunks=(64, 2096), fletcher32=True)
        for begin in range(0, len(rows), 2000):
            some = min(2000, len(rows) - begin)
            rows[begin : begin + some] = rng.standard_normal((some, 2096), np.float32)
        file["offsets"] = np.arange(clips + 1) * windows
        file.attrs["widths"] = (32, 16, 24, 40, 80, 112, 192, 320, 1280)
        write_clips(file, table)

    def work() -> None:
        with open_features(path) as opened:
            fit_sections(opened, Fit(), np.random.default_rng(0))

    return work


# --- measuring ----------------------------------------------------------------------------------------------


def one(stage: str, size: int) -> None:
    """Measure one size in this process, and print the result."""
    with tempfile.TemporaryDirectory() as folder:
        work = STAGES[stage][0](size, Path(folder))
        begin = time.perf_counter()
        work()
        seconds = time.perf_counter() - begin
    whose = resource.RUSAGE_CHILDREN if stage == "snakemake -n" else resource.RUSAGE_SELF
    print(json.dumps({"size": size, "seconds": seconds, "mb": resource.getrusage(whose).ru_maxrss / 1024}))


def exponent(points: list[dict], of: str) -> float:
    """The exponent of the growth between the two largest sizes."""
    last, before = points[-1], points[-2]
    return math.log(last[of] / before[of]) / math.log(last["size"] / before["size"])


def table(stages: dict[str, list[dict]]) -> str:
    """The measurements as Markdown."""
    lines = ["| stage | sizes | seconds | exponent | memory, MB |", "| --- | --- | --- | --- | --- |"]
    for name, points in stages.items():
        columns = (
            " · ".join(f"{point[key]:{kind}}" for point in points)
            for key, kind in (("size", "d"), ("seconds", ".3g"), ("mb", ".0f"))
        )
        sizes, seconds, memory = columns
        lines.append(f"| {name} | {sizes} | {seconds} | {exponent(points, 'seconds'):.2f} | {memory} |")
    return "\n".join(lines)


def plot(stages: dict[str, list[dict]], path: Path) -> None:
    """Time and memory against the size, with the slope of what is proportional."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "asd"
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    for of, label, axis in (("seconds", "time, s", axes[0]), ("mb", "memory, MB", axes[1])):
        for name, points in stages.items():
            axis.plot([point["size"] for point in points], [point[of] for point in points], "o-", label=name, ms=4)
        axis.set(xscale="log", yscale="log", xlabel="clips, windows or machines", ylabel=label)
    low, high = axes[0].get_ylim()
    ends = np.array([1e2, 1e5])
    axes[0].plot(ends, low * 3 * ends / ends[0], ":", color="grey", label="proportional")
    axes[0].set_ylim(low, high)
    axes[0].legend(fontsize="small")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Measure all stages, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=list(STAGES), help="these, keeping other results")
    parser.add_argument("--largest", type=int, default=10**9, help="sizes up to this")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one:
        one(chosen.one[0], int(chosen.one[1]))
        return
    out = ROOT / f"benchmarks/results/growth-{machine()}.json"
    stages = json.loads(out.read_text())["stages"] if out.exists() and chosen.only != list(STAGES) else {}
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS), "OPENBLAS_NUM_THREADS": str(THREADS)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # bytecode is written, as by default; some containers forbid it
    for stage in chosen.only:
        points = []
        for size in (one for one in STAGES[stage][1] if one <= chosen.largest):
            told(f"{stage}, {size}")
            words = [sys.executable, __file__, "--one", stage, str(size)]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            points.append(json.loads(done.stdout.splitlines()[-1]))
        stages[stage] = points
        stages = {name: stages[name] for name in STAGES if name in stages}
        found = {"date": str(date.today()), "machine": machine(), "version": version("asd"), "stages": stages}
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")
    plot(stages, ROOT / "docs/growth.svg")
    print(table(stages))


if __name__ == "__main__":
    main()
