"""Write the systems of a submission in the form of the challenge: a folder with scores, decisions and description each.

Reads  the files of every model and machine, whose paths end with <model>/<machine>.csv (scores, also of the ensemble),
       <network>/<machine>.safetensors, <model>/<machine>.h5 (fitted detectors) and logmel-<digest>/<machine>.h5
       (log-mel caches); the manifests, the ensemble's selection, and metrics.csv.
Writes <out-dir>/<label>_task2_<k>/ for each system of submission.models: the evaluation part, or all test clips if
       there is none. check_submission.py checks and packs them.
"""

from pathlib import Path

from asd.command import run


def main(
    *,
    scores: list[Path],
    manifests: list[Path],
    caches: tuple[Path, ...] = (),
    networks: tuple[Path, ...] = (),
    fitted: tuple[Path, ...] = (),
    selection: Path,
    metrics: Path,
    configuration: str,
    out_dir: Path,
) -> None:
    """Write a submission.

    Args:
        scores: The score files of all models and of the ensemble.
        manifests: The machines' manifests.
        caches: The log-mel caches of the networks and machines, for the length of a clip.
        networks: The networks of all models, for their size.
        fitted: The fitted detectors of the models that have one, for their size.
        selection: The ensemble's choice (machine, model).
        metrics: The table metrics.csv, for the results on the development part.
        configuration: The configuration as YAML or JSON (the text itself).
        out_dir: The folder of the submission.
    """
    import yaml

    from asd.challenge import meta as form
    from asd.challenge.submission import clips_of_manifests, training_clips, write_system
    from asd.results.ensemble import read_scored
    from asd.results.metrics_table import read_metrics
    from asd.results.tables import read_selection
    from asd.settings import load

    settings = load(yaml.safe_load(configuration))
    read = read_scored(scores, [*settings.run_models, "ensemble"])
    chosen = read_selection(selection, {name: read[name] for name in settings.run_models})
    figures = read_metrics(metrics)
    clips = clips_of_manifests(manifests)
    machines = list(dict.fromkeys(machine for machine, _ in clips))
    training = {machine: count for machine, count in training_clips(manifests).items() if machine in machines}
    systems = form.submitted_systems(settings, chosen, machines)
    complexity = form.complexities(settings, systems, list(caches), list(networks), list(fitted))
    for number, system in enumerate(systems, 1):
        label = f"{settings.submission.label}_task2_{number}"
        results = form.development_results(figures, system.name)
        meta = form.description(label, system, settings, complexity, training, results)
        write_system(out_dir / label, read[system.name], clips, meta)
        print(f"{label}: {system.title}, {sum(map(len, clips.values()))} clips of {', '.join(machines)}")


if __name__ == "__main__":
    run(main, __doc__)
