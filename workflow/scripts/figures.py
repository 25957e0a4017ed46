"""Draw the figures of one machine.

Reads  the machine's log-mel cache, its networks' training curves (<anything>/<network>/<machine>.csv), the scores of
       every model and of the ensemble (<anything>/<model>/<machine>.csv) and, for the map, features.
Writes each figure as SVG and PNG into a folder: roc-<model>, scores-<model>, training, spectra, examples, map. A figure
       for which clips are missing is left out, and the log says so.
"""

from pathlib import Path

from asd import command


def main(
    *,
    cache: Path,
    features: Path | None = None,
    curves: tuple[Path, ...] = (),
    scores: list[Path],
    clip_scores: Path,
    max_fpr: float = 0.1,
    threads: int = 2,
    out_dir: Path,
) -> None:
    """Draw figures.

    Args:
        cache: log-mel cache of the machine (HDF5).
        features: features of the machine's clips (HDF5), whose last stage is mapped; without it there is no map.
        curves: training curves of the machine's networks.
        scores: scores of the models, the ensemble's among them.
        clip_scores: the ensemble's scores of the cache's clips, by which the examples are chosen. `scores` are of
            recordings if these were cut into clips.
        max_fpr: upper end of the false positive rates of the pAUC.
        threads: number of threads of the linear algebra; the last bits of the map depend on it.
        out_dir: the folder of the figures.
    """
    import logging
    from contextlib import nullcontext

    import pandas as pd
    from threadpoolctl import threadpool_limits

    from asd.cache import open_cache
    from asd.features import open_features
    from asd.report.machine_figures import machine_figures
    from asd.report.style import save
    from asd.scores import read_scores

    models = [path.parent.name for path in scores]
    with (
        threadpool_limits(threads),
        open_cache(cache) as opened,
        open_features(features) if features else nullcontext() as vectors,
    ):
        for name, figure in machine_figures(
            opened,
            vectors,
            {path.parent.name: pd.read_csv(path) for path in curves},
            {model: read_scores(path) for model, path in zip(models, scores, strict=True)},
            read_scores(clip_scores),
            max_fpr,
        ):
            if figure is None:
                logging.getLogger("figures").info("%s: left out, since the clips that it needs are missing", name)
            else:
                save(figure, out_dir, name)


if __name__ == "__main__":
    command.run(main, __doc__)
