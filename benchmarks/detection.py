"""How well the models of a configuration detect, compared with the same models without training.

    python benchmarks/detection.py --work /tmp/detection --demo-seeds 1 2 --seeds 1 2 3
    python benchmarks/detection.py --work /tmp/detection --folder /recordings --config config/config.yaml
    python benchmarks/detection.py --work /tmp/detection --confirm True

makes demo corpora (or takes a folder of recordings with a manifest.csv), trains, scores and fuses as the workflow does,
and prints Markdown tables. `--confirm True` takes the demo seeds 1 to 5, on which no setting was chosen: all machines
with one training seed, then the first of `CONFIRMED` with two more.

A row of the table (`--table`, by default rows.csv in the working folder) is a corpus, a machine, a model, its settings
and a training seed. Existing rows are not computed again, so that an interrupted run can be continued; corpora,
log-mels, networks and scores are kept in the working folder too.

"<model> untrained" is the model with the network from which its training starts, after 0 epochs; for a fusion, with
such members. AUC (source) and (target) have the normal test clips of that domain and all anomalous ones, harmonic mean
over the sections; AUC is the harmonic mean of the two; AUC (all clips) has all normal clips, arithmetic mean over the
sections.
"""

import csv
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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
    from asd.settings import Demo, Settings

ROOT = Path(__file__).parents[1]
FIGURES = ("auc_source", "auc_target", "auc", "auc_all")
COLUMNS = ("corpus", "machine", "model", "seed", *FIGURES, "section_accuracy", "seconds", "settings")
UNTRAINED = " untrained"
"""The end of the name of a model whose network is not trained."""
MODELS = ("level", "nearest", "spectrum", "global", "local", "fusion")
CONFIRMED = "fan", "ToyCar", "valve"
DEMO_SEEDS = 1, 2, 3, 4, 5

log = logging.getLogger("detection")


def main(
    *,
    work: Path,
    table: Path | None = None,
    config: tuple[Path, ...] = (ROOT / "config/config.yaml",),
    set: tuple[str, ...] = (),
    models: tuple[str, ...] = MODELS,
    machines: tuple[str, ...] = (),
    demo_seeds: tuple[int, ...] = (),
    folder: Path | None = None,
    seeds: tuple[int, ...] = (1,),
    confirm: bool = False,
    threads: int = 2,
) -> None:
    """Compare models.

    Args:
        work: folder of corpora, log-mels, networks and scores.
        table: the table of all rows (CSV), which grows.
        config: configuration and overlays, merged as Snakemake merges them.
        set: settings that differ, `train.rate=3e-4` and so on; values are YAML.
        models: entries of the configuration's models; the members of a fusion before it.
        machines: those of the corpora; by default those of the configuration or, of a folder, of its manifest.
        demo_seeds: `dataset.demo.seed` of the demo corpora, one each.
        folder: a folder of recordings with a manifest.csv, as a further corpus.
        seeds: training seeds.
        confirm: use the demo seeds, machines and training seeds that are described above.
        threads: number of threads of the computation.
    """
    from asd.device import prepare
    from asd.settings import Compute

    settings = configured(config, set)
    prepare(Compute(device="cpu", threads=threads))
    rows = Rows(table or work / "rows.csv")
    runs = [(seed, machines) for seed in seeds]
    if confirm:
        demo_seeds = DEMO_SEEDS
        runs = [(1, CONFIRMED), (2, CONFIRMED[:1]), (3, CONFIRMED[:1])]
    kept = []
    for seed, chosen in runs:
        for corpus in corpora(settings, demo_seeds, folder, work):
            for machine in chosen or corpus.machines:
                for name in named(settings, models):
                    bench = Bench(settings, corpus, machine, seed if learns(settings, name) else 0, work)
                    key = bench.key(name)
                    if key in kept:
                        continue
                    kept.append(key)
                    if rows.has(key):
                        continue
                    begin = time.perf_counter()
                    clips = bench.scored(name)
                    took = {"seconds": round(time.perf_counter() - begin, 1)}
                    rows.add(key | figures(machine, clips) | {"section_accuracy": bench.accuracy(name)} | took)
    print(markdown(rows.chosen(kept), {name: settings.models[name].members for name in models}))


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


@dataclass(frozen=True)
class Corpus:
    """A corpus: its name, and how the recordings of each machine are listed."""

    name: str
    home: Path
    machines: dict[str, Callable[[Path], "pd.DataFrame"]]
    """By machine, a function that makes its recordings in a folder if they are missing, and lists them."""

    @contextmanager
    def opened(self, machine: str, settings: "Settings") -> Iterator["Cache"]:
        """The log-mel cache of a machine, open; it is made if it is missing."""
        from asd.cache import open_cache, write_cache
        from asd.corpus import write_manifest

        cache = self.home / f"{machine}-{settings.logmel.file}.h5"
        if not cache.exists():
            manifest = self.home / machine / "manifest.csv"
            clips = self.machines[machine](self.home)
            manifest.parent.mkdir(parents=True, exist_ok=True)
            write_manifest(manifest, clips)
            write_cache(cache, manifest, settings.logmel)
        with open_cache(cache) as found:
            yield found


def corpora(settings: "Settings", demo_seeds: tuple[int, ...], folder: Path | None, work: Path) -> list[Corpus]:
    """Return a corpus per demo seed, and that of the folder.

    Args:
        settings: the configuration.
        demo_seeds: `dataset.demo.seed` of the demo corpora.
        folder: a folder of recordings with a manifest.csv; None for none.
        work: the working folder, in which the corpora are made.
    """
    found = []
    for seed in demo_seeds:
        demo = settings.dataset.demo.model_copy(update={"seed": seed})
        name = demo_name(demo)
        listed = {machine: synthesised(machine, demo) for machine in settings.machines}
        found.append(Corpus(name, work / "corpora" / name, listed))
    if folder:
        from asd.own_manifest import listed, manifest_of, read_all

        names = sorted(set(read_all(folder / "manifest.csv")["machine"]))
        own = {name: lambda home, name=name: listed(manifest_of(folder, name), name) for name in names}
        found.append(Corpus(folder.name, work / "corpora" / folder.name, own))
    return found


def demo_name(demo: "Demo") -> str:
    """The name of a demo corpus: its seed, and those of its sizes that are not the default."""
    usual = type(demo)()
    other = [f"{key}{value}" for key, value in demo if key != "seed" and value != getattr(usual, key)]
    return "-".join([f"demo{demo.seed}", *other])


def synthesised(machine: str, demo: "Demo") -> Callable[[Path], "pd.DataFrame"]:
    """A function that synthesises a machine of a demo corpus, and lists its recordings."""

    def make(home: Path) -> "pd.DataFrame":
        from asd.corpus import scan
        from asd.demo.synthesis import write_machine

        write_machine(home, machine, demo)
        return scan(home, machine)

    return make


def networks_of(settings: "Settings", model: str) -> list[str]:
    """The networks that a model uses, of a fusion those of its members, each with those from which it starts.

    Raises:
        InputError: there is no such model.
    """
    if model not in settings.models:
        raise InputError(f"--models: found {model!r}; expected of {', '.join(settings.models)}")
    one = settings.models[model]
    chain = [one.network] if one.network else []
    while chain and (start := settings.networks[chain[-1]].warm_start):
        chain.append(start)
    return chain + [network for member in one.members for network in networks_of(settings, member)]


def learns(settings: "Settings", name: str) -> bool:
    """Whether a model's scores depend on the training seed."""
    networks = [] if name.endswith(UNTRAINED) else networks_of(settings, name)
    return any(settings.networks[network].learns for network in networks)


def named(settings: "Settings", models: tuple[str, ...]) -> list[str]:
    """The models, those that learn also untrained; except for the detector exposure, which needs training."""
    names = []
    for model in models:
        networks_of(settings, model)  # refuses what is no model
        parts = [settings.models[part].detector for part in (model, *settings.models[model].members)]
        names += [model + UNTRAINED] if learns(settings, model) and "exposure" not in parts else []
        names.append(model)
    return names


# --- a row --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """A machine of a corpus, with a training seed."""

    settings: "Settings"
    corpus: Corpus
    machine: str
    seed: int
    work: Path

    def key(self, name: str) -> dict[str, str]:
        """The cells that identify a row of a model."""
        from asd.settings import canonical

        model = self.settings.models[name.removesuffix(UNTRAINED)]
        parts = [self.settings.logmel.file, canonical(model)]
        parts += [canonical(self.settings.spectra[model.spectrum])] if model.spectrum else []
        parts += [self.key(self._member(name, member))["settings"] for member in model.members]
        for network in networks_of(self.settings, name.removesuffix(UNTRAINED)):
            parts += [canonical(self.settings.networks[network].windows), self._described(network, name)]
        return {
            "corpus": self.corpus.name,
            "machine": self.machine,
            "model": name,
            "seed": str(self.seed),
            "settings": " ".join(parts),
        }

    def _member(self, name: str, member: str) -> str:
        """The name of a fusion's member: untrained if the fusion is, and if it learns."""
        return member + UNTRAINED if name.endswith(UNTRAINED) and learns(self.settings, member) else member

    def _described(self, network: str, name: str) -> str:
        """What a network depends on besides corpus and seed."""

        block = self.settings.networks[network]
        chosen = block.training.model_copy(update={"seed": 0})
        chosen = chosen.untrained if name.endswith(UNTRAINED) else chosen
        return f"{block.backbone.file if block.starts else ''} {block.logmel.file} {chosen.flags}"

    def scored(self, name: str) -> "pd.DataFrame":
        """Return the scores of a model, as `asd.scores.read_scores` does, from its file if there is one."""
        from asd.files import digest
        from asd.scores import read_scores, write_scores
        from asd.threshold import of_sections

        path = self.work / "scores" / f"{digest(' '.join(self.key(name).values()))}.csv"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            clips, score = self._scores(name)
            decision = self.settings.models[name.removesuffix(UNTRAINED)].decision
            write_scores(path, clips, score, of_sections(clips, score, decision))
        return read_scores(path)

    def _scores(self, name: str) -> tuple["pd.DataFrame", np.ndarray]:
        """Return the clips of the machine and the score of each."""
        import torch

        from asd import exposure, sections
        from asd.features import open_features, write_features
        from asd.fusion import fuse_tables
        from asd.spectra import write_spectra

        model = self.settings.models[name.removesuffix(UNTRAINED)]
        if model.members:
            members = [self._member(name, member) for member in model.members]
            benches = {
                member: Bench(self.settings, self.corpus, self.machine, self._seed(member), self.work)
                for member in members
            }
            tables = {member: bench.scored(member) for member, bench in benches.items()}
            return fuse_tables(tables, model.fuse, model.weights)
        with (
            self.corpus.opened(self.machine, self.settings) as cache,
            tempfile.TemporaryDirectory(dir=self.work) as folder,
        ):
            features = Path(folder, "features.h5")
            if model.spectrum:
                write_spectra(features, cache, self.settings.spectra[model.spectrum])
            else:
                network = self._network(model.network, name).for_scoring()
                windows, device = self.settings.networks[model.network].windows, torch.device("cpu")
                if model.detector == "exposure":
                    return cache.clips, exposure.scores(network, cache, windows, device)
                write_features(features, network, cache, windows, device)
            with open_features(features) as opened:
                fitted = sections.fit_sections(opened, model.fit, np.random.default_rng(0))
                return opened.clips, sections.scores(opened, fitted)

    def _seed(self, name: str) -> int:
        return self.seed if learns(self.settings, name) else 0

    def _path(self, network: str, name: str) -> Path:
        """The file of a network."""
        from asd.files import digest

        chain = networks_of(self.settings, name.removesuffix(UNTRAINED))
        chain = chain[chain.index(network) :] if network in chain else chain
        scope = "all" if self.settings.networks[network].scope == "all" else self.machine
        told = [self.corpus.name, scope, str(self._seed(name)), *(self._described(one, name) for one in chain)]
        return self.work / "networks" / f"{digest(' '.join(told))}.safetensors"

    def _network(self, network: str, name: str) -> "Network":
        """Return a network; it is trained if it has no file yet."""
        import torch

        from asd import network as networks
        from asd import weights
        from asd.cache import Joined
        from asd.kinds import load, module_of
        from asd.loop import write_curve

        block, path = self.settings.networks[network], self._path(network, name)
        if path.exists():
            return load(path)
        chosen = block.training.model_copy(update={"seed": self.seed})
        if name.endswith(UNTRAINED):
            chosen = chosen.untrained
        start, kind = None, module_of(block.kind)
        if block.warm_start:
            self._network(block.warm_start, name)
            start = networks.read(self._path(block.warm_start, name))
        elif block.starts:
            start = weights.start(block.backbone)
        with ExitStack() as stack:
            names = self.corpus.machines if chosen.scope == "all" else [self.machine]
            caches = [stack.enter_context(self.corpus.opened(one, self.settings)) for one in names]
            cache = Joined(caches) if chosen.scope == "all" else caches[0]
            net, data = kind.prepared(start, cache, chosen, path, torch.device("cpu"))
            curve = kind.train(net, data, chosen, cache.settings) if chosen.learns else []
        path.parent.mkdir(parents=True, exist_ok=True)
        write_curve(path.with_suffix(".csv"), curve)
        networks.save(path, net)
        return load(path)

    def accuracy(self, name: str) -> float:
        """The section accuracy in the last epoch of a model's network; nan if there is none."""
        network = self.settings.models[name.removesuffix(UNTRAINED)].network
        if not network or not learns(self.settings, name):
            return np.nan
        with self._path(network, name).with_suffix(".csv").open() as file:
            rows = list(csv.DictReader(file))
        return float(rows[-1]["section_accuracy"]) if rows else np.nan


def figures(machine: str, clips: "pd.DataFrame") -> dict[str, float]:
    """A machine's AUCs in percent.

    Args:
        machine: its name.
        clips: its scores, as `asd.scores.read_scores` gives them.
    """
    from asd.results.metrics import ALL, arithmetic_mean, machine_figures, mean_figures

    of_sections = machine_figures(machine, clips[clips["split"] == "test"])
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

    def has(self, key: dict[str, str]) -> bool:
        """Whether there is a row of this corpus, machine, model, settings and training seed."""
        return bool(self.chosen([key]))

    def chosen(self, keys: list[dict[str, str]]) -> list[dict[str, str]]:
        """The rows of these keys."""
        return [row for row in self.read() if {name: row[name] for name in keys[0]} in keys]

    def add(self, row: dict) -> None:
        """Append a row."""
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow(row)
        log.info("%s", " ".join(f"{key}={value}" for key, value in row.items() if key != "settings"))


def markdown(rows: list[dict[str, str]], members: dict[str, list[str]]) -> str:
    """The rows as Markdown: means over corpora by machine, means over machines, and paired differences.

    Args:
        rows: of the table.
        members: of each model that is a fusion, the models that it is compared with; empty for the others.
    """
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
    pairs = [(model, model + UNTRAINED) for model in models if model + UNTRAINED in models]
    pairs += [(model, one) for model in models for one in members.get(model, []) if one in models]
    if pairs:
        lines += ["", "| difference of AUC, ± standard error | mean | corpora and machines | of them better |"]
        lines.append("| --- |" + " --- |" * 3)
    for first, second in pairs:
        difference = (table.loc[first] - table.loc[second])["auc"].dropna()
        error = difference.std(ddof=1) / np.sqrt(len(difference))
        said = f"{difference.mean():+.1f} ± {error:.1f}"
        lines.append(f"| {first} minus {second} | {said} | {len(difference)} | {(difference > 0).sum()} |")
    return "\n".join(lines)


def _cell(figures: "pd.Series") -> str:
    source, target, both, every = (f"{figures[name]:.1f}" for name in FIGURES)
    return f"{both} ({source}, {target}; {every})"


if __name__ == "__main__":
    command.run(main, __doc__)
