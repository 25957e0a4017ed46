"""A machine's detector: one fitted to each section's training clips, with held-out scores of these clips.

`asd.settings.detectors` has the table of the detectors. The detector <name> is the module asd.<name> with

    fit(rows, settings, …)    of rows (n, d) of features and the settings of the detector; further arguments, if it
                              names them: domain, target, unit and rng (see `fit_rows`). What it returns, and is
                              annotated with, is
    a dataclass               of arrays and numbers, with distances(rows) -> (n, domains)

A detector that is fitted to sums over rows instead of the rows (the Gaussian) also has `streams`, `moments` and
`fit_moments`, so that not all rows are in memory.

Here is what they share: which rows, the folds, the domains on one scale, windows pooled to clips, and the file (HDF5):

    section/<number>/…    the fields of the section's dataclass: arrays as checksummed datasets, numbers as attributes
    section/<number>      further attributes: name, the section; divisor (domains,), see `Section`
    held_out/file         (clips,) text, the training clips
    held_out/score        (clips,) float64, each by a detector that was fitted without it; nan if there was none
    attributes: settings (JSON of asd.settings.Fit)
"""

import inspect
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, get_type_hints

import numpy as np

from asd import domains, hdf5
from asd.corpus import recording_numbers
from asd.errors import InputError
from asd.files import written
from asd.settings import Fit, WindowPooling

if TYPE_CHECKING:
    import h5py

    from asd.features import Features

log = logging.getLogger(__name__)

ROWS_AT_ONCE = 2048
"""Rows that are read at one time, or a clip more."""


class Fitted(Protocol):
    """What a detector's `fit` returns."""

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """Return the distance of rows (n, d) to each domain, (n, domains)."""


def module_of(detector: str) -> ModuleType:
    """Return the module of a detector that is fitted to features.

    It is imported by its name, so that a new detector needs no change here.
    """
    return import_module(f"asd.{detector}")


def fit_rows(
    rows: np.ndarray,
    settings: Fit,
    *,
    domain: np.ndarray,
    target: np.ndarray,
    unit: float,
    rng: np.random.Generator,
) -> Fitted:
    """Return a detector fitted to rows. Of the last four arguments it gets those that its `fit` names.

    Args:
        rows: (n, d), n at least 1.
        settings: which detector, and how.
        domain: (n,) int, 0, 1, … without gaps: the domains to which distances are computed; all 0 if there is one.
        target: (n,) bool, the rows of the target domain, also if `domain` does not distinguish them.
        unit: the variance to take if the rows have none.
        rng: for the random draws of the detector.
    """
    fit = module_of(settings.detector).fit
    further: dict[str, Any] = {"domain": domain, "target": target, "unit": unit, "rng": rng}
    named = inspect.signature(fit).parameters
    return fit(rows, settings=settings.own, **{key: value for key, value in further.items() if key in named})


@dataclass(frozen=True)
class Section:
    """The detector of a section."""

    fitted: Fitted
    divisor: np.ndarray
    """(domains,) what distances to each domain are divided by (`asd.domains.usual_distances`); 1 if there is one."""

    def window_scores(self, rows: np.ndarray) -> np.ndarray:
        """Return the scores of rows (n, d) for each domain, (n, domains)."""
        return self.fitted.distances(rows) / self.divisor


@dataclass(frozen=True)
class Sections:
    """A machine's detector, with the scores of its training clips."""

    sections: dict[str, Section]
    """By name."""
    held_out: dict[str, float]
    """Score of every training clip, by file, each by a detector that was fitted without it; nan if there is none."""
    settings: Fit


def chosen_columns(widths: np.ndarray, stages: list[int]) -> np.ndarray:
    """Return the columns (values,) of the chosen stages.

    Args:
        widths: (stages,) the numbers of columns of the stages, which lie side by side.
        stages: which, from 1.
    """
    ends = np.cumsum(widths)
    return np.concatenate([np.arange(ends[stage - 1] - widths[stage - 1], ends[stage - 1]) for stage in stages])


def columns_of(widths: np.ndarray, settings: Fit) -> np.ndarray:
    """Return the columns (values,) of the features that a detector takes: of a network its stages, of a spectrum all.

    Args:
        widths: (stages,) of a network, (1,) of a spectrum.
        settings: of the detector.
    """
    stages = getattr(settings.own, "stages", None)
    if stages and len(widths) > 1:
        return chosen_columns(widths, stages)
    return np.arange(int(np.sum(widths)))


def pooled(scores: np.ndarray, counts: np.ndarray, settings: WindowPooling) -> np.ndarray:
    """Return the scores of clips from those of their windows.

    Args:
        scores: (windows, domains), clip after clip.
        counts: (clips,) the windows of each clip, at least 1.
        settings: how.

    Returns:
        (clips, domains) float64.
    """
    begins = np.cumsum(counts) - counts
    if settings.kind == "mean":
        return np.add.reduceat(scores, begins) / counts[:, None]
    if settings.kind == "max":
        return np.maximum.reduceat(scores, begins)
    # Global weighted ranking pooling (Guan et al. 2023, arXiv:2305.03328), of scores instead of spectra.
    found = np.empty((len(counts), scores.shape[1]))
    for clip, (begin, count) in enumerate(zip(begins, counts, strict=True)):
        weights = settings.decay ** np.arange(count)
        found[clip] = weights @ np.sort(scores[begin : begin + count], axis=0)[::-1] / weights.sum()
    return found


# --- fitting ------------------------------------------------------------------------------------------------


def fit_sections(features: "Features", settings: Fit, rng: np.random.Generator) -> Sections:
    """Fit a detector to each section's training clips, and score these clips held out.

    Args:
        features: an open features file.
        settings: of the detector. The recordings of a section are dealt into `folds`, domain by domain, and each fold
            is scored by a detector fitted to the others; with fewer recordings, each recording is a fold.
        rng: deals the recordings, and is for the random draws of the detector.

    Raises:
        InputError: no training clips, features that are not finite, a damaged file, or settings that do not fit them.
    """
    clips = features.clips
    training = clips[clips["split"] == "train"]
    if training.empty:
        raise InputError(f"{features.path}: no training clips (split train) to fit a detector to")
    sections, held_out = {}, {}
    for name in sorted(training["section"].unique()):
        chosen = np.flatnonzero((clips["split"] == "train") & (clips["section"] == name))
        where = f"machine {clips['machine'].iloc[chosen[0]]}, section {name}"
        sections[name], scores = _fit_section(_Training.of(features, chosen, settings, rng, where), settings, rng)
        held_out.update(zip(clips["file"].iloc[chosen], scores.tolist(), strict=True))
        if np.isnan(scores).all():
            log.warning(
                f"{where}: a single training recording, so no detector is fitted without it; its score is left empty"
            )
    return Sections(sections, held_out, settings)


@dataclass(frozen=True)
class _Training:
    """The training clips of a section."""

    features: "Features"
    clips: np.ndarray
    """(clips,), their positions in the features file."""
    columns: np.ndarray
    fold: np.ndarray
    """(clips,), the fold of each."""
    domain: np.ndarray
    """(clips,), 0 or 1; all 0 if domains are pooled."""
    target: np.ndarray
    """(clips,) bool, whether a clip is known to be of the target domain."""
    where: str
    """For messages."""

    @classmethod
    def of(
        cls, features: "Features", clips: np.ndarray, settings: Fit, rng: np.random.Generator, where: str
    ) -> "_Training":
        """Deal the recordings of clips (positions in the file) into folds, domain by domain."""
        names = features.clips["domain"].iloc[clips].to_numpy(str)
        recording = recording_numbers(features.clips.iloc[clips])
        target = names == "target"
        fold = domains.grouped_folds(target, recording, settings.folds, rng)
        domain = np.zeros(len(clips), int)
        if settings.domains == "nearest":
            domain = domains.told_apart(names, recording)
            if target.any() and not domain.any():
                log.warning(
                    f"{where}: {target.sum()} of {len(names)} training clips are of the target domain; domains: "
                    f"nearest needs {domains.FEWEST} recordings of each domain, so they are pooled"
                )
        return cls(features, clips, columns_of(features.widths, settings), fold, domain, target, where)

    @property
    def counts(self) -> np.ndarray:
        """(clips,), the rows of each clip."""
        return np.diff(self.features.offsets)[self.clips]

    def rows(self, chosen: np.ndarray) -> np.ndarray:
        """Return the rows of chosen clips (bool mask), (n, d) float32."""
        return np.concatenate([block for block, _ in _blocks(self.features, self.clips[chosen], self.columns)])


def _fit_section(training: _Training, settings: Fit, rng: np.random.Generator) -> tuple[Section, np.ndarray]:
    """Return the detector of a section, and the held-out scores of its clips, (clips,)."""
    fit = _fitter(training, settings, rng)
    fitted = fit(np.ones(len(training.clips), bool), 1.0)
    folds = training.fold.max() + 1
    distances = np.full((int(training.counts.sum()), training.domain.max() + 1), np.nan)
    row_fold = np.repeat(training.fold, training.counts)
    if folds > 1:
        for one in range(folds):
            # A fold may leave a single clip, which has no variance: it takes the section's, so that all scores are in
            # one unit.
            without = fit(training.fold != one, getattr(fitted, "variance", 1.0))
            parts = _blocks(training.features, training.clips[training.fold == one], training.columns)
            distances[row_fold == one] = np.concatenate([without.distances(rows) for rows, _ in parts])
    by_clip = pooled(distances, training.counts, settings.window_pooling)
    divisor = domains.usual_distances(by_clip, training.domain) if by_clip.shape[1] > 1 else np.ones(1)
    log.info(
        f"{training.where}: {len(row_fold)} rows of {len(training.clips)} clips, {len(training.columns)} features"
        + (f", shrinkage {fitted.shrinkage:.4f}" if hasattr(fitted, "shrinkage") else "")
        + (f", distances divided by {', '.join(f'{one:.4g}' for one in divisor)}" if len(divisor) > 1 else "")
    )
    return Section(fitted, divisor), domains.nearest(by_clip, divisor)


def _fitter(training: _Training, settings: Fit, rng: np.random.Generator) -> Callable[[np.ndarray, float], Fitted]:
    """Return a function that fits the detector to chosen clips.

    Its arguments are a bool mask of the clips, of whole folds, and the variance that is used if the rows have none.
    """
    module = module_of(settings.detector)
    if hasattr(module, "streams") and module.streams(settings.own, int(training.counts.sum()), len(training.columns)):
        return _streamed(training, module, settings.own)
    rows = training.rows(np.ones(len(training.clips), bool))
    clip = np.repeat(np.arange(len(training.clips)), training.counts)

    def fit(chosen: np.ndarray, unit: float) -> Fitted:
        kept = chosen[clip]
        domain, target = training.domain[clip][kept], training.target[clip][kept]
        return fit_rows(rows[kept], settings, domain=domain, target=target, unit=unit, rng=rng)

    return fit


def _streamed(training: _Training, module: ModuleType, settings: Any) -> Callable[[np.ndarray, float], Fitted]:
    """`_fitter` of a detector that keeps sums over the rows of each fold and domain, not rows."""
    origin = next(_blocks(training.features, training.clips[:1], training.columns))[0][0].astype(np.float64)
    groups = list(dict.fromkeys(zip(training.fold.tolist(), training.domain.tolist(), strict=True)))
    sums = {}
    for fold, domain in groups:
        clips = training.clips[(training.fold == fold) & (training.domain == domain)]
        blocks = (block for block, _ in _blocks(training.features, clips, training.columns))
        sums[fold, domain] = module.moments(blocks, origin)

    def fit(chosen: np.ndarray, unit: float) -> Fitted:
        kept = set(training.fold[chosen].tolist())
        by_domain = [
            [sums[fold, domain] for fold, domain in groups if domain == one and fold in kept]
            for one in range(training.domain.max() + 1)
        ]
        return module.fit_moments([sum(some[1:], some[0]) for some in by_domain], settings, unit)

    return fit


# --- scoring ------------------------------------------------------------------------------------------------


def scores(features: "Features", sections: Sections) -> np.ndarray:
    """Return the score of every clip, (clips,) float64: held-out for training clips, nan if there is none.

    The score is that of the detector of the clip's section; for windows they are pooled over the clip (Narita 2022,
    section 2.2.2: their mean).

    Raises:
        InputError: a section without a detector, a detector of other features or clips, features that are not finite,
            or a damaged file.
    """
    clips, held_out = features.clips, sections.held_out
    columns = columns_of(features.widths, sections.settings)
    unknown = sorted(set(clips["section"]) - set(sections.sections))
    if unknown:
        raise InputError(
            f"{features.path}: machine {clips['machine'].iloc[0]}: section {', '.join(unknown)} has test clips but no "
            f"training clips; sections with a detector: {', '.join(sections.sections)}. Add training clips or leave "
            "it out."
        )
    for name, section in sections.sections.items():
        try:
            section.window_scores(np.zeros((1, len(columns))))
        except ValueError:
            raise InputError(
                f"{features.path}: section {name}: found {len(columns)} features, but the detector was fitted to "
                "another number; fit it to this features file"
            ) from None
    training = (clips["split"] == "train").to_numpy()
    missing = [file for file in clips["file"][training] if file not in held_out]
    if missing:
        raise InputError(
            f"{features.path}: {missing[0]}: a training clip without a held-out score ({len(missing)} such); "
            "fit the detector to this features file"
        )
    values = np.array([held_out.get(file, np.nan) for file in clips["file"]])
    for name, section in sections.sections.items():
        chosen = np.flatnonzero(~training & (clips["section"] == name))
        for rows, counts, place in _placed(features, chosen, columns):
            found = pooled(section.window_scores(rows), counts, sections.settings.window_pooling)
            values[chosen[place]] = found.min(1)
    return values


def _placed(
    features: "Features", clips: np.ndarray, columns: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, slice]]:
    """Yield (rows, rows of each clip, which of `clips`) of blocks of clips."""
    done = 0
    for rows, counts in _blocks(features, clips, columns):
        yield rows, counts, slice(done, done + len(counts))
        done += len(counts)


def _blocks(features: "Features", clips: np.ndarray, columns: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (rows (n, d) float32, rows of each clip) of whole clips, together a block of rows or a clip more."""
    counts = np.diff(features.offsets)[clips]
    block = np.cumsum(counts) // ROWS_AT_ONCE
    for one in np.unique(block):
        chosen, each = clips[block == one], counts[block == one]
        runs = np.split(chosen, np.flatnonzero(np.diff(chosen) != 1) + 1)  # clips that lie side by side, read at once
        rows = np.concatenate(
            [features.rows(features.offsets[run[0]], features.offsets[run[-1] + 1], columns) for run in runs]
        )
        finite = np.isfinite(rows).all(1)
        if not finite.all():
            clip = np.repeat(chosen, each)[finite.argmin()]
            raise InputError(
                f"{features.path}: {features.clips['file'].iloc[clip]}: features that are not finite; look at the "
                "training curve of the network that made them"
            )
        yield rows, each


# --- the file -----------------------------------------------------------------------------------------------


def write_sections(path: Path, sections: Sections) -> None:
    """Write a machine's detector (HDF5; the layout is above)."""
    import h5py

    files = [file.encode() for file in sections.held_out]
    # Text of fixed length, so that checksums reach everything.
    text = h5py.string_dtype("utf-8", max(map(len, files)))
    with written(path) as aside, h5py.File(aside, "w", libver=hdf5.LIBVER) as file:
        file.attrs["settings"] = np.bytes_(sections.settings.model_dump_json().encode())  # as in a cache
        for number, (name, section) in enumerate(sections.sections.items()):
            group = file.create_group(f"section/{number}")
            group.attrs["name"], group.attrs["divisor"] = name, section.divisor
            for field in fields(section.fitted):
                value = getattr(section.fitted, field.name)
                if isinstance(value, np.ndarray):
                    chunks = (min(64, len(value)), *value.shape[1:])
                    group.create_dataset(field.name, data=value, chunks=chunks, fletcher32=True)
                else:
                    group.attrs[field.name] = value
        file.create_dataset("held_out/file", data=np.array(files, dtype=text), fletcher32=True)
        file.create_dataset("held_out/score", data=list(sections.held_out.values()), dtype=float, fletcher32=True)


def read_sections(path: Path) -> Sections:
    """Read a machine's detector.

    Raises:
        InputError: not there, damaged, or not such a file.
    """

    def content(file: "h5py.File") -> Sections:
        settings = Fit.model_validate_json(file.attrs["settings"])
        kind = get_type_hints(module_of(settings.detector).fit)["return"]
        groups = [file[f"section/{number}"] for number in range(len(file["section"]))]
        sections = {
            str(group.attrs["name"]): Section(
                kind(
                    **{
                        field.name: group[field.name][:] if field.name in group else group.attrs[field.name].item()
                        for field in fields(kind)
                    }
                ),
                group.attrs["divisor"][:],
            )
            for group in groups
        }
        held_out = dict(zip(file["held_out/file"].asstr()[:], file["held_out/score"][:].tolist(), strict=True))
        return Sections(sections, held_out, settings)

    with hdf5.opened(path, "file of a detector", "fit.py", content) as sections:
        return sections
