"""Copy the detector of the model that the ensemble chose for a machine.

Reads  the ensemble's selection and the detectors of every model, <anything>/<model>/<machine>.zip.
Writes a copy of the chosen detector.
"""

from pathlib import Path

from asd import command


def main(*, selection: Path, detectors: list[Path], out: Path) -> None:
    """Copy a detector.

    Args:
        selection: the ensemble's choice (machine, model, …).
        detectors: the machine's detectors, one per model.
        out: the detector to write, <anything>/<machine>.zip.
    """
    import shutil

    from asd.errors import InputError
    from asd.files import written
    from asd.results.ensemble import chosen_model

    by_model = {path.parent.name: path for path in detectors}
    chosen = chosen_model(selection, out.stem)
    if chosen not in by_model:
        raise InputError(f"{selection}: machine {out.stem}: found the model {chosen}; expected {', '.join(by_model)}")
    with written(out) as aside:
        shutil.copyfile(by_model[chosen], aside)


if __name__ == "__main__":
    command.run(main, __doc__)
