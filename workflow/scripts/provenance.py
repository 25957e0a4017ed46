"""Write which code, configuration, versions, data and seeds made the tables.

Reads  the manifests with their recordings, and the files that were made, for their checksums.
Writes a JSON document; asd.provenance describes its layout. Its `configuration`, given to Snakemake as --configfile,
       makes the same tables again.
"""

from pathlib import Path

from asd import command


def main(
    *,
    configuration: str,
    code: list[str],
    manifests: list[Path],
    files: list[Path],
    out: Path,
) -> None:
    """Write the provenance of a run.

    Args:
        configuration: the effective settings, as JSON.
        code: STAGE=DIGEST of the stages' code.
        manifests: the manifests of the machines.
        files: weights, networks, scores and tables.
        out: the document to write (JSON).
    """
    import json

    from asd.files import written
    from asd.provenance import describe

    stages = dict(pair.split("=", 1) for pair in code)
    project = Path(__file__).parents[2]
    document = describe(json.loads(configuration), stages, project, manifests, files)
    with written(out) as aside:
        aside.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    command.run(main, __doc__)
