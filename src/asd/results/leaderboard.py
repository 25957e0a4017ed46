"""The leaderboard: systems ranked by the challenge's official score, one table per part of a corpus.

A system is a model of ours, with a run per training seed, or another system's folder of challenge files. All systems of
a table are judged on the same clips and on the same bootstrap resamples of them.

Two systems differ if the difference of their scores is too large for chance: for other test clips (the bootstrap of
the recordings) and for other training seeds (the deviation between the runs). The p values of all pairs of a table are
corrected by Holm (1979, "A simple sequentially rejective multiple test procedure"). Which pairs differ gives the ranks
that a system may have: from 1 plus the number of systems that are better to the number of systems minus that of the
worse ones (Mogstad et al. 2024, "Inference for ranks with applications to mobility across neighbourhoods and academic
achievement across countries").

A system whose settings were chosen by labels of the corpus has no rank, since it has an advantage over the others.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asd.files import read_table
from asd.results.ensemble import Scores, same_clips, selection
from asd.results.long_form import PARTS, name_undefined
from asd.results.metrics import ALL, Figures, interval, joined, judged, mean_figures
from asd.results.metrics import sections as labelled

if TYPE_CHECKING:
    from asd.settings import Metrics, Settings

SHOWN = {
    "omega": ("omega", "all"),
    "auc_source": ("auc", "source"),
    "auc_target": ("auc", "target"),
    "pauc": ("pauc", "all"),
}
"""Column -> figure, of which it is the harmonic mean over the sections of all machines. The first one ranks."""
WITHOUT_DOMAINS = {"auc": ("auc", "all"), "pauc": ("pauc", "all")}
"""The same for a corpus in which no section has clips of both domains, so that there is no official score."""
BEST = "Best model per machine"
"""The title of the choice of one of our models per machine by the labels of the development part."""
COSTS = ("training_seconds", "clip_seconds", "parameters", "memory_mb")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A row of the leaderboard."""

    title: str
    runs: tuple[str, ...]
    """Keys of its scores, one per training seed."""
    network: str = ""
    """trained, untrained or none; empty: unknown (a folder of challenge files)."""
    labels: str = ""
    """What was chosen by labels of this corpus; empty: nothing, so that the system has a rank."""
    training_seconds: float = np.nan
    """Duration of training and fitting on all machines, mean over the runs."""
    clip_seconds: float = np.nan
    """Duration per clip from the recording to the score, mean over the runs."""
    parameters: float = np.nan
    """Number of values that score a machine, the largest of the machines."""
    memory_mb: float = np.nan
    """The largest memory of its jobs."""


def entries(settings: "Settings", chosen_by_labels: dict[str, str]) -> list[Entry]:
    """Return a row per model that runs; the seeds of a sweep are the runs of one row.

    Args:
        settings: the configuration, after the expansion of a sweep (`asd.expansion.expand`).
        chosen_by_labels: entry of `models` -> what was chosen by labels.
    """
    found: dict[str, Entry] = {}
    for name in settings.run_models:
        variant = settings.variants.get(name)
        title = variant.title if variant else settings.models[name].title
        base = variant.model if variant else name
        known = found.get(title, Entry(title, (), _network(settings, name), _labels(settings, base, chosen_by_labels)))
        found[title] = replace(known, runs=(*known.runs, name))
    return list(found.values())


def _labels(settings: "Settings", name: str, chosen_by_labels: dict[str, str]) -> str:
    """What was chosen by labels of a model, or of the members of a fusion."""
    said = [chosen_by_labels.get(name, "")]
    for member in settings.models[name].members:
        if text := chosen_by_labels.get(member, ""):
            said.append(f"of {settings.models[member].title}: {text}")
    return "; ".join(filter(None, said))


def _network(settings: "Settings", name: str) -> str:
    """Whether the network of a model, or one of a fusion's members, is trained."""
    model = settings.models[name]
    kinds = {_network(settings, member) for member in model.members}
    if model.network:
        kinds.add("trained" if settings.networks[model.network].learns else "untrained")
    return next((kind for kind in ("trained", "untrained") if kind in kinds), "none")


def with_costs(entry: Entry, benchmarks: dict[str, dict[str, list[str]]], scores: Scores, parameters: int) -> Entry:
    """Return a row with what it takes to train and to score.

    Args:
        entry: the row of a model.
        benchmarks: run -> training, scoring -> Snakemake's benchmark files of these jobs; missing files make the value
            unknown.
        scores: of its runs, from which the number of scored clips is taken.
        parameters: number of values that score a machine.
    """
    training, clip, memory = [], [], []
    for run in entry.runs:
        jobs = {kind: [_measured(Path(path)) for path in paths] for kind, paths in benchmarks[run].items()}
        training.append(sum(seconds for seconds, _ in jobs["training"]))
        clips = sum(len(table) for table in scores[run].values())
        clip.append(sum(seconds for seconds, _ in jobs["scoring"]) / clips)
        memory += [size for measured in jobs.values() for _, size in measured]
    return replace(
        entry,
        training_seconds=float(np.mean(training)),
        clip_seconds=float(np.mean(clip)),
        parameters=parameters,
        memory_mb=float(np.max(memory)),
    )


def _measured(path: Path) -> tuple[float, float]:
    """Duration and largest memory (MB) of a job; nan if Snakemake did not measure it."""
    if not path.exists():
        return np.nan, np.nan
    last = pd.read_csv(path, sep="\t", na_values="-").iloc[-1]
    return float(last["s"]), float(last["max_rss"])


# --- who is compared with whom ------------------------------------------------------------------------------


def parts(scores: Scores, strangers: Scores) -> dict[str, Scores]:
    """Return the systems that are judged together: part of the corpus -> system -> machine -> its test clips.

    Args:
        scores: of our runs.
        strangers: of folders of challenge files, each of one part.

    Raises:
        InputError: two systems were not scored on the same clips of a part. The message names a clip.
    """
    found = {}
    for part in PARTS:
        here = {
            name: {machine: judged(clips, part) for machine, clips in machines.items()}
            for name, machines in (scores | strangers).items()
        }
        lacking = [name for name in here if not any(map(labelled, here[name].values()))]
        here = {name: machines for name, machines in here.items() if name not in lacking}
        if not here:
            continue
        if ours := [name for name in lacking if name in scores]:
            log.warning(
                "%s: the clips of %s have no labels, so that only submissions are judged", part, ", ".join(ours)
            )
        own = next((here[name] for name in scores if name in here), None)
        for name in strangers if own else ():
            if name in here:
                here[name] = {
                    machine: _with_recordings(clips, own[machine]) if machine in own else clips
                    for machine, clips in here[name].items()
                }
        same_clips(here)
        name_undefined(next(iter(here.values())), part)
        found[part] = here
    return found


def _with_recordings(clips: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Another system's clips with the recordings that they are parts of, by which they are resampled like ours."""
    known = own.set_index(["section", "file"])["recording"]
    named = known.reindex(pd.MultiIndex.from_frame(clips[["section", "file"]])).fillna("")
    return clips.assign(recording=named.to_numpy(str))


def chosen(rows: list[Entry], scores: Scores, figures: dict[str, Figures]) -> tuple[Entry, dict[str, Figures]] | None:
    """Return the choice of one model per machine by the labels of the development part, seed by seed.

    Args:
        rows: of our models.
        scores: of their runs.
        figures: of their runs, on the part that is shown.

    Returns:
        Its row and the figures of its runs; None if there is nothing to choose from, or there are no labels.
    """
    made = {}
    for number in range(max((len(row.runs) for row in rows), default=0)):
        models = [row.runs[min(number, len(row.runs) - 1)] for row in rows]
        choice = selection({model: scores[model] for model in models}, models[0])
        if len(models) < 2 or (choice["reason"] == "fallback").any():
            return None
        pairs = zip(choice["machine"], choice["model"], strict=True)
        made[f"{BEST} {number}"] = joined(figures[model].of(machine) for machine, model in pairs)
    row = Entry(BEST, tuple(made), labels="the model of each machine, by the labels of the development part")
    return (row, made) if made else None


# --- ranks --------------------------------------------------------------------------------------------------


def holm(p: np.ndarray) -> np.ndarray:
    """Return p values that are corrected for their number (Holm 1979).

    Args:
        p: (tests,).

    Returns:
        (tests,): if those below a level are called real, the probability of any false one is at most this level.
    """
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order]), 1)
    return adjusted


def differences(rows: list[Entry], values: dict[str, np.ndarray], settings: "Metrics") -> pd.DataFrame:
    """Compare every pair of systems.

    Args:
        rows: the systems.
        values: run -> (1 + resamples,) the figure that ranks.
        settings: how figures are computed from scores.

    Returns:
        One row per pair: first, second, difference (first - second), low and high (of this pair alone), p (two-sided),
        p_corrected (Holm), real (whether p_corrected is below 1 - level).
    """
    runs = {row.title: np.stack([values[run] for run in row.runs]) for row in rows}
    compared = [
        (first, second, *difference(runs[first], runs[second], settings.level))
        for first, second in combinations(runs, 2)
    ]
    table = pd.DataFrame(compared, columns=["first", "second", "difference", "low", "high", "p"])
    table["p_corrected"] = holm(table["p"].to_numpy(float))
    return table.assign(real=table["p_corrected"] < 1 - settings.level)


def difference(first: np.ndarray, second: np.ndarray, level: float) -> tuple[float, float, float, float]:
    """Compare the mean figures of two systems over their runs.

    The variance of the difference is that of the bootstrap of the clips, plus that of the mean over the runs of each
    system. Since the latter is estimated from few runs, the distribution is Student's t with the degrees of freedom of
    Welch and Satterthwaite (Satterthwaite 1946, "An approximate distribution of estimates of variance components").

    Args:
        first: (runs, 1 + resamples) the figure of each run of the first system, and on each resample of the clips.
        second: the same for the second system, whose number of runs may be another.
        level: coverage of the interval.

    Returns:
        The difference (first - second), the ends of its interval, and the two-sided p value; without resamples, and if
        all of them agree, only the difference.
    """
    from scipy.stats import t

    paired = first.mean(axis=0) - second.mean(axis=0)
    clips = paired[1:].var(ddof=1) if len(paired) > 2 else np.nan
    of_runs = [(one[:, 0].var(ddof=1) / len(one), len(one) - 1) for one in (first, second) if len(one) > 1]
    variance = clips + sum(own for own, _ in of_runs)
    if not variance > 1e-24:
        return paired[0], np.nan, np.nan, np.nan
    uncertain = sum(own**2 / freedom for own, freedom in of_runs)
    freedom = variance**2 / uncertain if uncertain else np.inf
    error = np.sqrt(variance)
    reach = t.ppf((1 + level) / 2, freedom) * error
    return paired[0], paired[0] - reach, paired[0] + reach, 2 * t.sf(abs(paired[0]) / error, freedom)


def board(rows: list[Entry], figures: dict[str, Figures], settings: "Metrics") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rank systems.

    Args:
        rows: the systems.
        figures: of their runs, paired resample by resample.
        settings: how figures are computed from scores.

    Returns:
        The table, sorted by the first figure (`SHOWN`, or `WITHOUT_DOMAINS`), the systems without a rank last. Columns:
        rank, rank_low, rank_high, system; per figure its mean over the runs, <figure>_deviation over the runs (NaN with
        one run), <figure>_low and <figure>_high (interval over clips, of the mean over the runs); better_than (the
        ranks of the systems that are really worse), network, labels, runs, and `COSTS`. Values are fractions.
        And the table of `differences` of the systems with a rank.
    """
    means = {run: mean_figures(figures[run]) for row in rows for run in row.runs}
    official = ALL.index(SHOWN["omega"])
    shown = SHOWN if any(np.isfinite(values[official, 0]) for values in means.values()) else WITHOUT_DOMAINS
    lines = []
    for row in rows:
        line = {"system": row.title}
        for name, key in shown.items():
            values = np.stack([means[run][ALL.index(key)] for run in row.runs])
            low, high = interval(values.mean(axis=0), settings.level)
            line[name] = values[:, 0].mean()
            line[f"{name}_deviation"] = values[:, 0].std(ddof=1) if len(values) > 1 else np.nan
            line |= {f"{name}_low": float(low), f"{name}_high": float(high)}
        line |= {"network": row.network, "labels": row.labels, "runs": len(row.runs)}
        lines.append(line | {cost: getattr(row, cost) for cost in COSTS})
    table = pd.DataFrame(lines)
    first = next(iter(shown))
    ranked = [row for row, value in zip(rows, table[first], strict=True) if not row.labels and np.isfinite(value)]
    judging = {run: means[run][ALL.index(shown[first])] for row in ranked for run in row.runs}
    pairs = differences(ranked, judging, settings)
    of = ranks(table.set_index("system")[first][[row.title for row in ranked]], pairs)
    table = of.merge(table, how="right", left_index=True, right_on="system")
    table.insert(table.columns.get_loc("network"), "better_than", table.pop("better_than").fillna(""))
    return table.sort_values(["rank", first], ascending=[True, False], ignore_index=True, kind="stable"), pairs


def ranks(values: pd.Series, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the rank of each system, the ranks that it may have, and the ranks of those that it is better than.

    Args:
        values: by system, the figure that ranks.
        pairs: of `differences`.

    Returns:
        By system: rank; rank_low and rank_high (missing if it was not compared); better_than, as text: "2, 5-7".
    """
    rank = values.rank(ascending=False, method="min").astype("Int64")
    real = pairs[pairs["real"]]
    first = real["difference"] > 0
    winner, loser = real["first"].where(first, real["second"]), real["second"].where(first, real["first"])
    compared = values.index.isin([*pairs["first"][pairs["p"].notna()], *pairs["second"][pairs["p"].notna()]])
    count = {"low": 1 + values.index.map(loser.value_counts()).fillna(0)}
    count["high"] = len(values) - values.index.map(winner.value_counts()).fillna(0)
    table = pd.DataFrame({"rank": rank}, index=values.index)
    for end in ("low", "high"):
        table[f"rank_{end}"] = pd.Series(count[end], index=values.index).where(compared).astype("Int64")
    beaten = {title: rank[loser[winner == title]] for title in values.index}
    return table.assign(better_than=[_ranges(sorted(beaten[title])) for title in values.index])


def _ranges(numbers: Iterable[int]) -> str:
    """Ascending numbers as a text: "2, 5-7"."""
    runs: list[list[int]] = []
    for number in dict.fromkeys(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


# --- published figures --------------------------------------------------------------------------------------

PUBLISHED = ("dataset", "part", "system", "omega", "auc_source", "auc_target", "pauc", "labels", "note", "source")


def read_published(path: Path, kind: str, part: str) -> pd.DataFrame:
    """Read the published figures of a part of a data set, sorted by official score.

    Args:
        path: the CSV, with the columns `PUBLISHED`; figures are in percent, and empty if they are not known.
        kind: the data set, "dcase2022".
        part: development or evaluation.

    Raises:
        InputError: the file is missing or not such a table.
    """
    table = read_table(path, PUBLISHED, tuple(SHOWN))
    rows = table[(table["dataset"] == kind) & (table["part"] == part)]
    return rows.sort_values(["omega", "auc_source"], ascending=False, ignore_index=True, kind="stable")
