"""Check whether a submission has the format of the challenge, and pack it if nothing is wrong.

Reads  the folder of a system, or a folder with several of them; and which clips must be scored: from the manifests (the
       evaluation part, or all test clips if there is none) or from the published labels.
Writes the verdict (JSON) with one message per fault, and the package. Prints the faults, and ends with status 1 if
       there are any.

All files must exist and contain each clip exactly once and no other clip. Scores must be finite. Decisions must be 0 or
1 and agree with one threshold per machine. The meta file must be readable.
"""

from pathlib import Path

from asd.command import run


def main(
    *,
    submission: Path,
    manifests: tuple[Path, ...] = (),
    ground_truth: Path | None = None,
    verdict: Path,
    package: Path | None = None,
) -> None:
    """Check a submission.

    Args:
        submission: The folder of a system, or of several systems.
        manifests: The manifests of all machines.
        ground_truth: The folder of the published labels, instead of manifests.
        verdict: The file for the verdict (JSON).
        package: The zip file to write if nothing is wrong.
    """
    import json

    from asd.challenge.checker import faults, system_folders
    from asd.challenge.submission import KINDS, clips_of_ground_truth, clips_of_manifests, pack
    from asd.errors import InputError
    from asd.files import written

    if bool(manifests) == bool(ground_truth):
        raise InputError("one of --manifests and --ground-truth is needed: which clips are to be scored?")
    clips = clips_of_manifests(manifests) if manifests else clips_of_ground_truth(ground_truth)
    folders = system_folders(submission)
    found = {folder.name: faults(folder, clips) for folder in folders}
    accepted = not any(found.values())
    size = {"files": len(KINDS) * len(clips), "clips": sum(map(len, clips.values()))}
    with written(verdict) as aside:
        aside.write_text(json.dumps({"accepted": accepted, "each": size, "faults": found}, indent=1) + "\n")
    if not accepted:
        lines = [f"  {name}/{message}" for name, messages in found.items() for message in messages]
        raise InputError(f"{submission}: not a submission that the challenge takes\n" + "\n".join(lines))
    if package:
        pack(package, folders)
    each = f"each with {size['files']} files for {size['clips']} clips"
    print(f"accepted, {', '.join(found)}, {each}" + (f": {package}" if package else ""))


if __name__ == "__main__":
    run(main, __doc__)
