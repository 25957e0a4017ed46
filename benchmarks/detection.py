"""How well the models of a configuration detect, beside two references without a network and beside no training.

    python benchmarks/detection.py --work /tmp/detection --demo-seeds 1 2 --seeds 1 2 3

makes demo corpora (or takes a folder of recordings with a manifest), trains and scores, and prints Markdown tables. A
row of `rows.csv` in the working folder is a corpus, a machine, a model, its settings and a training seed; what has a
row is not computed again, so that an interrupted run goes on, and corpora, log-mels and networks are kept there too.

- spectrum: the Gaussian of each section (Ledoit-Wolf) on the log-mel averaged over time, in dB;
- nearest: the Euclidean distance of the same vector to the nearest training clip of the section;
- the entries of the configuration's `models` that have a network;
- each of these with the Gaussian once more, its network not trained: pre-trained weights, input statistics measured.

AUC (source) and (target) have the normal test clips of that domain and all anomalous ones, harmonic mean over the
sections; AUC is the harmonic mean of the two; AUC (all clips) has all normal clips, arithmetic mean over the sections.
"""

import csv
import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asd import command
from asd.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from asd.cache import Cache
    from asd.network import Network
    from asd.settings import Settings

ROOT = Path(__file__).parents[1]
FIGURES = ("auc_source", "auc_target", "auc", "auc_all")
COLUMNS = ("corpus", "machine", "model", "variant", "seed", *FIGURES, "section_accuracy", "seconds", "settings")
UNTRAINED = " untrained"
"""What the name of a model ends with whose network is not trained."""
REFERENCES = ("spectrum", "nearest")

log = logging.getLogger("detection")


def main(
    *,
    work: Path,
    config: tuple[Path, ...] = (ROOT / "config/config.yaml",),
    set: tuple[str, ...] = (),
    variant: str = "",
    models: tuple[str, ...] = ("spectrum", "nearest", "global", "local"),
    untrained: bool = True,
    machines: tuple[str, ...] = (),
    demo_seeds: tuple[int, ...] = (),
    folder: Path | None = None,
    seeds: tuple[int, ...] = (42,),
    threads: int = 2,
    keep_features: Path | None = None,
) -> None:
    """Compare models.

    Args:
        work: folder of corpora, log-mels, networks and rows.csv.
        config: configuration and overlays, merged as Snakemake merges them.
        set: settings that differ, `train.rate=3e-4` and so on; values are YAML.
        variant: a name for these settings, so that several can be told apart in the tables.
        models: entries of the configuration's models, spectrum or nearest.
        untrained: whether models with the Gaussian have a second row, without training.
        machines: those of the corpora; by default the configuration's, of a folder all that its manifest lists.
        demo_seeds: `dataset.demo.seed` of the demo corpora, one each.
        folder: a folder of recordings with a manifest.csv, one corpus more.
        seeds: training seeds.
        threads: of the computation.
        keep_features: where to write the clips' features, <corpus>-<machine>/<model>[-<seed>].npz.
    """
    from asd.device import prepare
    from asd.settings import Compute

    settings = configured(config, set)
    device = prepare(Compute(device="cpu", threads=threads))
    table = Rows(work / "rows.csv")
    kept = []
    for corpus, machine, make in corpora(settings, machines, demo_seeds, folder):
        for model in models:
            for name in (model, model + UNTRAINED) if untrained and has_gaussian(settings, model) else (model,):
                for seed in seeds if name == model and model not in REFERENCES else (0,):
                    key = {"corpus": corpus, "machine": machine, "model": name, "seed": seed}
                    key |= {"settings": described(settings, name), "variant": variant}
                    kept.append(key)
                    out = keep_features and keep_features / f"{corpus}-{machine}" / feature_file(key)
                    if table.has(key) and not (out and not out.exists()):
                        continue
                    begin = time.perf_counter()
                    with opened(work / "corpora" / corpus, machine, settings, make) as cache:
                        one = Job(settings, cache, corpus, machine, name, seed, work, device, out)
                        score, accuracy = one.scores()
                        clips = cache.clips
                    took = {"seconds": round(time.perf_counter() - begin, 1), "section_accuracy": accuracy}
                    table.add(key | figures(machine, clips, score) | took)
    print(markdown(table.chosen(kept)))


# --- what is compared ---------------------------------------------------------------------------------------


def configured(files: tuple[Path, ...], changes: tuple[str, ...]) -> "Settings":
    """The settings of configuration files, merged, with `key=value` on top.

    Raises:
        InputError: not `key=value`, or settings that are refused.
    """
    import yaml
    from snakemake.utils import update_config

    from asd.settings import load

    merged: dict = {}
    for file in files:
        update_config(merged, yaml.safe_load(file.read_text()))
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise InputError(f"--set {change}: expected key=value, for example train.rate=3e-4")
        value = yaml.safe_load(value)
        if isinstance(value, str):
            value = float(value) if value.replace("e-", "").replace(".", "").isdigit() else value  # YAML 1.1: 3e-4
        for part in reversed(key.split(".")):
            value = {part: value}
        update_config(merged, value)
    return load(merged)


def corpora(
    settings: "Settings", machines: tuple[str, ...], demo_seeds: tuple[int, ...], folder: Path | None
) -> list[tuple[str, str, Callable]]:
    """The name of each corpus, a machine of it, and a function that lists its recordings in a folder."""
    found = []
    for seed in demo_seeds:
        demo = settings.dataset.demo.model_copy(update={"seed": seed})
        for machine in machines or settings.machines:
            found.append((demo_name(demo), machine, lambda home, machine=machine, demo=demo: made(home, machine, demo)))
    if folder:
        from asd.own_manifest import listed, manifest_of, read_all

        for machine in machines or sorted(set(read_all(folder / "manifest.csv")["machine"])):
            own = manifest_of(folder, machine)
            found.append((folder.name, machine, lambda home, machine=machine, own=own: listed(own, machine)))
    return found


def demo_name(demo) -> str:
    """The name of a demo corpus: its seed, and its sizes where they are not the default ones."""
    usual = type(demo)()
    other = [f"{key}{value}" for key, value in demo if key != "seed" and value != getattr(usual, key)]
    return "-".join([f"demo{demo.seed}", *other])


def made(home: Path, machine: str, demo) -> "pd.DataFrame":
    """Synthesise a machine of a demo corpus and list its recordings."""
    from asd.corpus import scan
    from asd.demo.synthesis import write_machine

    write_machine(home, machine, demo)
    return scan(home, machine)


def opened(home: Path, machine: str, settings: "Settings", make: Callable):
    """The log-mel cache of a machine, open; made where it is not there yet."""
    from asd.cache import open_cache, write_cache
    from asd.corpus import write_manifest

    cache = home / f"{machine}-{settings.logmel.file}.h5"
    if not cache.exists():
        manifest = home / machine / "manifest.csv"
        clips = make(home)
        manifest.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(manifest, clips)
        write_cache(cache, manifest, settings.logmel)
    return open_cache(cache)


def has_gaussian(settings: "Settings", model: str) -> bool:
    """Whether a model is a network with a Gaussian."""
    if model in REFERENCES:
        return False
    if model not in settings.models:
        raise InputError(f"--models: found {model!r}; expected spectrum, nearest or of {', '.join(settings.models)}")
    return settings.models[model].detector == "gaussian"


def chain(settings: "Settings", network: str) -> list[str]:
    """A network and those that it starts from, the first one first."""
    start = settings.networks[network].warm_start
    return [*(chain(settings, start) if start else []), network]


def described(settings: "Settings", name: str) -> str:
    """What a model's scores depend on beside corpus and training seed, as a text."""
    from asd.settings import canonical

    if name in REFERENCES:
        return ""
    model = settings.models[name.removesuffix(UNTRAINED)]
    parts = [canonical(model.mvg)] if model.detector == "gaussian" else []
    parts.append(canonical(settings.networks[model.network].windows))
    for network in chain(settings, model.network):
        training = settings.networks[network].training.model_copy(update={"seed": 0})
        parts.append("" if name.endswith(UNTRAINED) else canonical(training))
    return " ".join(parts)


# --- a row --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A model on a machine of a corpus."""

    settings: "Settings"
    cache: "Cache"
    corpus: str
    machine: str
    name: str
    seed: int
    work: Path
    device: object
    features: Path | None
    """Where its features are to be kept."""

    def scores(self) -> tuple[np.ndarray, float]:
        """Return the score of every clip, nan where it has none, and the last epoch's section accuracy."""
        if self.name in REFERENCES:
            vectors = self.cache.read_logmel(range(len(self.cache.clips))).mean(2)
            self.keep(vectors, np.arange(len(vectors) + 1))
            return reference(self.name, vectors, self.cache.clips), np.nan
        from asd import exposure
        from asd.features import open_features, write_features
        from asd.gaussian import fit_sections, scores
        from asd.network import fold

        model = self.settings.models[self.name.removesuffix(UNTRAINED)]
        windows = self.settings.networks[model.network].windows
        network, accuracy = self.trained(model.network)
        network = fold(network)
        if model.detector == "exposure":
            return exposure.scores(network, self.cache, windows, self.device), accuracy
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            path = Path(folder, "features.h5")
            write_features(path, network, self.cache, windows, self.device)
            with open_features(path) as features:
                self.keep(features.values[:], features.offsets)
                sections = fit_sections(features, model.mvg, model.threshold.folds, np.random.default_rng(0))
                return scores(features, sections), accuracy

    def trained(self, network: str) -> tuple["Network", float]:
        """Return a network, from its file where it has one, and the last epoch's section accuracy."""
        from asd import network as networks
        from asd import training, weights
        from asd.files import digest
        from asd.settings import canonical

        block = self.settings.networks[network]
        chosen = block.training.model_copy(update={"seed": self.seed})
        if self.name.endswith(UNTRAINED):
            chosen = chosen.model_copy(update={"epochs": 0})
        trainings = [self.settings.networks[one].training for one in chain(self.settings, network)]
        told = [self.corpus, self.machine, str(self.seed), block.backbone.file, block.logmel.file, str(chosen.epochs)]
        path = self.work / "networks" / f"{digest(' '.join(told + [canonical(one) for one in trainings]))}.safetensors"
        curve = path.with_suffix(".csv")
        if not path.exists():
            if block.warm_start:
                self.trained(block.warm_start)
                begun = self.work / "networks" / "start.safetensors"
                networks.save(begun, self.trained(block.warm_start)[0])
                start = networks.read(begun)
            else:
                metadata = {"content": "weights", "backbone": block.backbone.name, "source": block.backbone.weights}
                start = weights.fetch(block.backbone), metadata
            net = training.begin(start, self.cache, chosen, path).to(self.device)
            data = training.training_set(self.cache, net.description, chosen, self.device)
            training.measure(net, data.logmel)
            rows = training.train(net, data, chosen, self.cache.settings) if chosen.epochs else []
            path.parent.mkdir(parents=True, exist_ok=True)
            training.write_curve(curve, rows)
            networks.save(path, net)
        with curve.open() as file:
            rows = list(csv.DictReader(file))
        return networks.load(path), float(rows[-1]["section_accuracy"]) if rows else np.nan

    def keep(self, features: np.ndarray, offsets: np.ndarray) -> None:
        """Write the clips' features: clip i has the rows offsets[i]:offsets[i + 1]."""
        if self.features:
            self.features.parent.mkdir(parents=True, exist_ok=True)
            columns = ("section", "split", "domain", "label", "file", "attributes")
            table = {name: self.cache.clips[name].to_numpy(dtype=str) for name in columns}
            table["files"] = table.pop("file")  # savez has an argument of that name
            np.savez(self.features, features=features.astype(np.float32), offsets=offsets, **table)


def feature_file(key: dict) -> str:
    """The name of the file of a row's features."""
    words = [key["model"].replace(" ", "-"), key["variant"], str(key["seed"]) if key["seed"] else ""]
    return "-".join(filter(None, words)) + ".npz"


def reference(name: str, vectors: np.ndarray, clips: "pd.DataFrame") -> np.ndarray:
    """The scores of the test clips by their section's training clips, nan for all others.

    Args:
        name: spectrum or nearest.
        vectors: (clips, mels), the log-mels averaged over time.
        clips: the manifest's columns.
    """
    from scipy.spatial.distance import cdist

    from asd.gaussian import fit
    from asd.settings import Mvg

    training, found = (clips["split"] == "train").to_numpy(), np.full(len(clips), np.nan)
    for section in clips["section"].unique():
        here = (clips["section"] == section).to_numpy()
        rows, test = vectors[here & training].astype(np.float64), vectors[here & ~training].astype(np.float64)
        found[here & ~training] = (
            fit(rows, Mvg()).distance(test) if name == "spectrum" else cdist(test, rows).min(1, initial=np.inf)
        )
    return found


def figures(machine: str, clips: "pd.DataFrame", score: np.ndarray) -> dict[str, float]:
    """A machine's AUCs in percent."""
    from asd.results.metrics import ALL, arithmetic_mean, machine_figures, mean_figures

    tested = (clips["split"] == "test").to_numpy()
    of_sections = machine_figures(machine, clips[tested].assign(score=score[tested], decision=-1))
    means = dict(zip(ALL, mean_figures(of_sections)[:, 0], strict=True))
    every = arithmetic_mean(of_sections.values[:, ALL.index(("auc", "all")), 0])
    values = means["auc", "source"], means["auc", "target"], means["auc", "total"], every
    return {name: round(100 * float(value), 2) for name, value in zip(FIGURES, values, strict=True)}


# --- the rows -----------------------------------------------------------------------------------------------


class Rows:
    """The table of all rows, a CSV that only grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def read(self) -> list[dict[str, str]]:
        """All rows so far."""
        if not self.path.exists():
            return []
        with self.path.open(newline="") as file:
            return list(csv.DictReader(file))

    def has(self, key: dict) -> bool:
        """Whether there is a row of this corpus, machine, model, settings and training seed."""
        return bool(self.chosen([key]))

    def chosen(self, keys: list[dict]) -> list[dict[str, str]]:
        """The rows of these keys."""
        wanted = {_identity(key) for key in keys}
        return [row for row in self.read() if _identity(row) in wanted]

    def add(self, row: dict) -> None:
        """Append a row."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        log.info("%s", " ".join(f"{key}={value}" for key, value in row.items() if key != "settings"))


def _identity(row: dict) -> tuple[str, ...]:
    return tuple(str(row[key]) for key in ("corpus", "machine", "model", "seed", "settings"))


def markdown(rows: list[dict[str, str]]) -> str:
    """The rows as Markdown: means over corpora by machine, means over machines, and what training is worth."""
    import pandas as pd

    table = pd.DataFrame(rows, columns=COLUMNS)
    table[list(FIGURES)] = table[list(FIGURES)].astype(float)
    # Training seeds are averaged first, so that a corpus with more of them weighs no more.
    table = table.groupby(["model", "corpus", "machine"], sort=False)[list(FIGURES)].mean()
    machines = table.groupby(["model", "machine"], sort=False).mean()
    models = list(dict.fromkeys(name for name, _ in machines.index))
    names = list(dict.fromkeys(name for _, name in machines.index))
    lines = ["AUC (AUC source, AUC target; AUC all clips) in %, mean over corpora and training seeds", ""]
    lines += [f"| model | {' | '.join(names)} | mean |", "| --- |" + " --- |" * (len(names) + 1)]
    for model in models:
        here = machines.loc[model]
        cells = [_cell(here.loc[name]) if name in here.index else "" for name in names] + [_cell(here.mean())]
        lines.append(f"| {model} | {' | '.join(cells)} |")
    pairs = [model for model in models if model + UNTRAINED in models]
    if pairs:
        lines += [
            "",
            "| trained minus untrained | AUC | corpora and machines | of them better |",
            "| --- |" + " --- |" * 3,
        ]
    for model in pairs:
        difference = (table.loc[model] - table.loc[model + UNTRAINED])["auc"].dropna()
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        said = f"{difference.mean():+.1f} ± {error:.1f}"
        lines.append(f"| {model} | {said} | {len(difference)} | {(difference > 0).sum()} |")
    return "\n".join(lines)


def _cell(figures: "pd.Series") -> str:
    source, target, both, every = (f"{figures[name]:.1f}" for name in FIGURES)
    return f"{both} ({source}, {target}; {every})"


if __name__ == "__main__":
    command.run(main, __doc__)
