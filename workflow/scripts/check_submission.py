"""Hold a submission, ours or anyone's, to the format of the challenge, and pack it when nothing is wrong.

Reads the folder of a system, or a folder of such, and which clips must be scored: the manifests (the evaluation part,
or all test clips where there is none) or the published labels.
Every file must be there, every clip in it once and no other, scores finite, decisions 0 or 1 and such as one threshold
a machine makes, and a meta file that can be read. Writes the verdict (JSON) with a message for each fault, prints
them, and ends with status 1 where there are any.
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
        submission: The folder of a system, or of systems.
        manifests: The manifests of all machines.
        ground_truth: Instead of manifests: the folder of the published labels.
        verdict: What is found to be wrong (JSON), to write.
        package: The zip file to write when nothing is.
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
    print(f"accepted, each with {size['files']} files for {size['clips']} clips: {', '.join(found)}")


if __name__ == "__main__":
    run(main, __doc__)
