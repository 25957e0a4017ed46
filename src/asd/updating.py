"""New normal recordings for a detector: it is fitted again, to its old training features and those of the new ones.

Networks stay as they are. The features are in the detector file, so what comes out is the detector that a fit to all
recordings makes; held-out scores are the same to the last bit where the folds are, which are dealt in the order of the
recordings' names.
"""

import logging
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from asd.cache import common_length, open_cache, write_cache
from asd.corpus import check_once, sorted_clips, write_manifest
from asd.detector import Detector, Loaded
from asd.detector_file import FEATURES, Source, levels_of, refuse_silence, write_detector
from asd.errors import InputError
from asd.features import open_features, write_features, write_training
from asd.files import printable
from asd.fitting import Made, fit_features, fused_scores
from asd.scores import read_scores
from asd.soundfiles import length
from asd.spectra import write_spectra
from asd.threshold import checked, per_clip, unsupported

if TYPE_CHECKING:
    import pandas as pd
    import torch

log = logging.getLogger(__name__)


def update(
    path: Path,
    detector: Detector,
    recordings: list[Path],
    out: Path,
    *,
    section: str | None,
    domain: Literal["source", "target"] | None,
    device: "torch.device",
    false_alarms: str | None = None,
    period: float | None = None,
) -> Made:
    """Add normal recordings to what a detector was fitted to, and write the detector that this gives.

    Args:
        path: the file of the detector.
        detector: the same, loaded on the device. Its settings say how recordings are read.
        recordings: those that are added; those that it has already are left out.
        out: the detector to write.
        section: of the recordings; None: the only one.
        domain: of the recordings; None: that of the section's training clips.
        device: where networks compute.
        false_alarms: the wanted rate of false alarms (`asd.threshold.per_clip`); None: the detector's.
        period: seconds from one clip to the next; None: the length of a clip.

    Raises:
        InputError: the detector cannot be fitted again, the recordings are not as those that it was made from, or
            nothing says their section or domain.
    """
    description, decision = detector.description, detector.description.decision
    _check_members(path, detector)
    seconds = description.samples / description.logmel.rate
    period = checked(seconds if period is None else period)
    if false_alarms:
        decision = decision.model_copy(update={"quantile": 1 - per_clip(false_alarms, period)})
    clips = _clips(detector, recordings, section, domain)
    _check_lengths(clips, detector)
    sources: list[Source] = []
    known: set[str] = set()
    with TemporaryDirectory(prefix="asd-update-") as folder:
        work = Path(folder)
        _unpack(path, work / "before")
        write_manifest(work / "manifest.csv", clips)
        for loaded in detector.members:
            before, here = work / "before" / loaded.member.model, work / loaded.member.model
            cache = _cache(work, loaded, detector)
            new = _features(here / "new.h5", loaded, cache, device)
            if not sources:
                refuse_silence(levels_of(cache))
                known = _known(before / "features.h5", new)
                _check_names(detector, clips, known)
            files = {"features": here / "features.h5", "fitted": here / "fitted.h5"}
            learned = {before / "features.h5": (), new: known}
            write_training(files["features"], learned, loaded.member.windows)
            scores = work / "scores" / loaded.member.model / f"{description.machine}.csv"
            fit_features(files["features"], loaded.fitted.settings, decision, files["fitted"], scores)
            if loaded.network is not None:
                files["network"] = before / "network.safetensors"
            kept = loaded.member.model_dump(include={"model", "title", "detector", "spectrum", "windows"})
            sources.append(Source.model_validate({**kept, **files, "cache": cache, "scores": scores}))
        scores = work / "scores" / f"{description.machine}.csv"
        scores = fused_scores(sources, description.fuse, description.weights, decision, scores)
        write_detector(
            out,
            sources,
            scores=scores,
            model=description.model,
            title=description.title,
            decision=decision,
            fuse=description.fuse,
            weights=description.weights,
            levels=dict(zip(detector.training["file"], detector.training["level"], strict=True)),
        )
        found = read_scores(scores)
    if false_alarms:
        for line in unsupported(found, found["score"].to_numpy(), decision):
            log.warning("%s", line)
    rate = description.logmel.rate
    return Made(found, seconds, rate, description.machine, description.title, 1 - decision.quantile, period)


def _unpack(path: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: damaged ({error}); make the detector again") from None


def _check_members(path: Path, detector: Detector) -> None:
    """Refuse a detector that cannot be fitted again from its file."""
    with zipfile.ZipFile(path) as archive:
        names = set(archive.namelist())
    for one in (loaded.member for loaded in detector.members):
        if one.detector == "exposure":
            raise InputError(
                f"{path}: {one.title} scores by its classifier, which would have to be trained again; make a detector "
                "from all recordings with asd fit"
            )
        if f"{one.model}/features.h5" not in names:
            raise InputError(
                f"{path}: does not carry the training features of {one.title}, which took more than "
                f"{FEATURES / 1e6:.0f} MB; make a detector from all recordings with asd fit"
            )


def _clips(detector: Detector, recordings: list[Path], section: str | None, domain: str | None) -> "pd.DataFrame":
    """The manifest's columns of the new recordings, in a manifest's order."""
    import pandas as pd

    training = detector.training
    sections = detector.description.sections
    if section is None and len(sections) > 1:
        raise InputError(f"--section: not given; the detector has {', '.join(sections)}; say of which they are")
    section = sections[0] if section is None else section
    if section not in sections:
        raise InputError(f"--section: found {section}; the detector has {', '.join(sections)}")
    domains = sorted(training["domain"][training["section"] == section].unique())
    if domain is None and len(domains) > 1:
        raise InputError(
            f"--domain: not given; section {section} was made from the domains "
            f"{' and '.join(one or 'unknown' for one in domains)}; say of which they are: --domain source, or target"
        )
    for recording in recordings:
        if not recording.is_file():
            raise InputError(f"{recording}: no such file")
        if printable(recording) != str(recording):
            raise InputError(f"{printable(recording)}: a name that is not UTF-8; rename it")
    check_once(Path.cwd(), recordings)
    files = [str(recording.absolute()) for recording in recordings]
    fixed = {"machine": detector.description.machine, "section": section, "domain": domain or domains[0]}
    fixed |= {"split": "train", "part": "development", "label": "normal", "attributes": "{}", "recording": ""}
    return sorted_clips(pd.DataFrame({"path": files, "file": files}).assign(**fixed))


def _check_lengths(clips: "pd.DataFrame", detector: Detector) -> None:
    """Refuse recordings for which a fit to all would have cut all to another length."""
    settings, samples = detector.description.logmel, detector.description.samples
    if settings.cut.seconds:  # its clips have one length
        return
    found = {file: length(Path(file), settings) for file in clips["path"]}
    common = common_length({"the detector's training clips": samples, **found}, settings)
    if common != samples:
        odd = min(found, key=found.__getitem__) if common < samples else max(found, key=found.__getitem__)
        raise InputError(
            f"{odd}: {found[odd] / settings.rate:.2f} s; the detector was made from clips of "
            f"{samples / settings.rate:.2f} s, and logmel.lengths: {settings.lengths} would cut or fill them all to "
            "another length; leave it out, or make a detector from all recordings with asd fit"
        )


def _cache(work: Path, loaded: Loaded, detector: Detector) -> Path:
    """The log-mel cache of the new recordings, as a member hears them."""
    reading = detector.description.logmel.model_dump(include={"convert", "channel"})
    settings = loaded.member.logmel.model_copy(update=reading)
    path = work / f"{settings.file}.h5"
    if not path.exists():
        write_cache(path, work / "manifest.csv", settings, detector.description.samples)
    return path


def _features(path: Path, loaded: Loaded, cache: Path, device: "torch.device") -> Path:
    """The features of the new recordings."""
    with open_cache(cache) as opened:
        if loaded.network is None:
            write_spectra(path, opened, loaded.member.spectrum)
        else:
            write_features(path, loaded.network, opened, loaded.member.windows, device)
    return path


def _known(before: Path, new: Path) -> set[str]:
    """The new recordings that the detector has already, or that are there twice: their features are the same.

    Held out, a copy would be scored by a detector that has learned the same sound.
    """
    seen: dict[bytes, str] = {}
    known: dict[str, str] = {}
    for path in (before, new):
        with open_features(path) as opened:
            for file, begin, end in zip(opened.clips["file"], opened.offsets[:-1], opened.offsets[1:], strict=True):
                content = opened.rows(begin, end).tobytes()
                if path == new and content in seen:
                    known[file] = seen[content]
                seen.setdefault(content, file)
            count = len(opened.clips)
    if known:
        file, same = next(iter(known.items()))
        other = "" if same == file else f", which is the same sound as {same}"
        said = f"{len(known)} of {count} recordings are in the detector already, or twice: {file}{other}"
        if len(known) == count:
            raise InputError(f"{said}; there is nothing to add")
        log.warning("%s; they are left out", said)
    return set(known)


def _check_names(detector: Detector, clips: "pd.DataFrame", known: set[str]) -> None:
    """Refuse another recording with the name of one that the detector has."""
    names = set(detector.training["file"])
    if same := [file for file in clips["file"] if file in names and file not in known]:
        raise InputError(
            f"{same[0]}: the detector was made from another recording of this name ({len(same)} such); rename it"
        )
