"""Write what the report plays and shows of each test clip of a machine.

Reads  the machine's log-mel cache, the scores of every model and of the ensemble (<anything>/<model>/<machine>.csv)
       and the features and the detector of two models: of one that sees windows, for the curves over time; and of one
       with spectra, for the curves along the frequency.
Writes a folder: sounds (FLAC), log-mels (WebP), and the list of the clips with both curves (JSON).
"""

from pathlib import Path

from asd import command


def main(
    *,
    cache: Path,
    scores: list[Path],
    features: Path | None = None,
    fitted: Path | None = None,
    spectra: Path | None = None,
    spectra_fitted: Path | None = None,
    threads: int = 2,
    out_dir: Path,
) -> None:
    """Write clips.

    Args:
        cache: log-mel cache of the machine (HDF5).
        scores: scores of the models, the ensemble's among them.
        features: features of the machine's windows (HDF5).
        fitted: the detector fitted to these features (HDF5), in the folder of its model.
        spectra: features of the machine's clips from spectra (HDF5), for the curves along the frequency.
        spectra_fitted: the Gaussian fitted to these features (HDF5), in the folder of its model.
        threads: number of threads of the linear algebra.
        out_dir: the folder to write.
    """
    from contextlib import nullcontext

    from threadpoolctl import threadpool_limits

    from asd.cache import open_cache
    from asd.features import open_features
    from asd.report.clips import write_clips
    from asd.scores import read_scores
    from asd.sections import read_sections

    models = [path.parent.name for path in scores]
    with (
        threadpool_limits(threads),
        open_cache(cache) as opened,
        open_features(features) if features else nullcontext() as windows,
        open_features(spectra) if spectra else nullcontext() as pooled,
    ):
        windowed = (fitted.parent.name, windows, read_sections(fitted)) if windows and fitted else None
        spectral = (spectra_fitted.parent.name, pooled, read_sections(spectra_fitted)) if spectra_fitted else None
        write_clips(out_dir, opened, dict(zip(models, map(read_scores, scores), strict=True)), windowed, spectral)


if __name__ == "__main__":
    command.run(main, __doc__)
