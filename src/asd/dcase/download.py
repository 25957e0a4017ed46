"""Download, check and unpack the recordings of a published year.

    <folder>/checksums.csv              record,file,size,md5: what each record listed at its first use; later downloads
                                        must agree
    <folder>/archives/                  archives during the download; each is removed after it was unpacked
    <folder>/<machine>/{train,test}/    the recordings, independent of the names of the archive's folders
    <folder>/<machine>/contents.csv     archive,path,size: which archive contained which file

An archive is not fetched again if all its files exist and have their full size. Several processes may work in one
folder: each machine, and the table of checksums, has a lock.
"""

import csv
import errno
import logging
import re
import shutil
import stat
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from asd.corpus import parse_name, scan
from asd.dcase.transfer import Remote, address, fetch_all, listing, md5, part
from asd.errors import InputError
from asd.files import written
from asd.progress import progress
from asd.releases import COUNTED, Release, releases

if TYPE_CHECKING:
    import pandas as pd

    from asd.settings import Published

PARTS = ["development", "additional", "evaluation"]

GROWTH = 1.5
"""Largest size of recordings relative to their archives, for the check of the free disk (noise hardly compresses)."""

RATIO = 20
FILES = 20_000
"""Limits beyond which an archive is refused as a decompression bomb: unpacked bytes per packed byte, and number of
files. Compressed sound has at least half its size, and a machine of 2022 has 3,600 development clips."""

log = logging.getLogger(__name__)


def receive(
    folder: Path, machine: str, kind: str, settings: "Published", pause: Callable[[float], object] | None = None
) -> "pd.DataFrame":
    """List the recordings of a machine of a published year, and download those that are missing.

    Args:
        folder: the data set's folder; its content is described above.
        machine: the machine's name.
        kind: the year, "dcase2022".
        settings: the parts to use, and how to download them.
        pause: waits for some seconds between two attempts (tests replace it).

    Returns:
        One row per clip of the chosen parts, with the manifest's columns; paths are absolute.

    Raises:
        InputError: there is no such machine; an archive cannot be fetched, is not as its record lists it, or does not
            contain what it should; the disk is full; there are recordings that belong to no archive.
    """
    home = folder / machine
    chosen = releases(kind, machine, settings.parts)
    home.mkdir(parents=True, exist_ok=True)
    with _locked(folder / f".{machine}.lock"):
        contents = _read_contents(home / "contents.csv")
        missing = [release for release in chosen if not _is_there(home, contents.get(release.archive, {}))]
        if settings.archives:
            archives = _on_disk(folder, missing, Path(settings.archives))
        else:
            archives = _fetched(folder, machine, missing, settings, pause)
        for release, archive in zip(missing, archives, strict=True):
            others = {path for name, files in contents.items() if name != release.archive for path in files}
            contents[release.archive] = unpack(archive, home, release, others, folder / "archives")
            _write_contents(home / "contents.csv", contents)
            if not settings.archives:
                archive.unlink()
    clips = scan(folder, machine, chosen[0].names)
    parts = {
        path: release.part for release in releases(kind, machine, PARTS) for path in contents.get(release.archive, {})
    }
    clips["part"] = [parts.get(path, "") for path in clips["split"] + "/" + clips["file"]]
    strange = clips["path"][clips["part"] == ""]
    if len(strange):
        raise InputError(
            f"{strange.iloc[0]}: comes from no archive of {kind}, nor do {len(strange) - 1} more recordings in {home}; "
            "remove them, or read them as a folder of your own (dataset.kind: folder)"
        )
    return clips[clips["part"].isin(settings.parts)].reset_index(drop=True)


def _on_disk(folder: Path, missing: list[Release], archives: Path) -> list[Path]:
    """The archives in a folder that the user has filled, verified if their checksums are known."""
    gone = [release for release in missing if not (archives / release.archive).is_file()]
    if gone:
        names = ", ".join(f"{release.archive} (record {release.record})" for release in gone)
        raise InputError(f"{archives}: found no {names}; put it there, or leave dataset.published.archives empty")
    held = read_checksums(folder / "checksums.csv")
    for release in missing:
        path, expected = archives / release.archive, held.get(release.record, {}).get(release.archive)
        if expected is None:
            log.warning("%s: not in %s; only its own checksums are checked", path, folder / "checksums.csv")
        elif (found := (path.stat().st_size, md5(path))) != expected:
            raise InputError(
                f"{path}: found {found[0]} bytes, md5 {found[1]}; expected {expected[0]} bytes, md5 {expected[1]}, as "
                f"{folder / 'checksums.csv'} holds for record {release.record}; copy it again"
            )
    return [archives / release.archive for release in missing]


def _fetched(
    folder: Path, machine: str, missing: list[Release], settings: "Published", pause: Callable[[float], object] | None
) -> list[Path]:
    """The archives, fetched and verified."""
    there = folder / "archives"
    there.mkdir(parents=True, exist_ok=True)
    remotes, had = {}, 0
    with _locked(folder / ".checksums.lock"):
        held = read_checksums(folder / "checksums.csv")
        for release in missing:
            path = there / release.archive
            known = held.get(release.record, {}).get(release.archive)
            if known and path.exists() and md5(path) == known[1]:
                continue  # an earlier run ended before it was unpacked
            size, sum_ = held_to(folder / "checksums.csv", release, settings.base_url, pause or time.sleep)
            remotes[path] = Remote(address(settings.base_url, release.record, release.archive), size, sum_)
            had += part(path).stat().st_size if part(path).exists() else 0
    if remotes:
        total = sum(remote.size for remote in remotes.values())
        _need(folder, round((1 + GROWTH) * total) - had, f"{len(remotes)} archives of {machine} and what is in them")
        fetch_all(remotes, machine, settings.connections, pause)
    return [there / release.archive for release in missing]


def _need(folder: Path, size: int, what: str) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"{folder}: found {free / 1e9:.2f} GB of free disk, expected {size / 1e9:.2f} GB for {what}; free some "
            "space, or set data_dir to another disk"
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock against other processes; if the file system has no locks, continue without one and log it."""
    import fcntl

    with path.open("a") as file:
        try:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("waiting for another process that works in this folder (%s)", path)
                fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.warning("%s: cannot be locked (%s); do not fetch the same data by two processes", path, error)
        yield


# --- checksums ----------------------------------------------------------------------------------------------


def held_to(path: Path, release: Release, base_url: str, pause: Callable[[float], object]) -> tuple[int, str]:
    """Return the size and MD5 of an archive as its record listed them at the first download.

    The listing is read again each time, and a record that lists other files than before is refused. A mirror without
    listings can be used if the checksums are known already.

    Args:
        path: the table of the checksums; new entries of the listing are added.
        release: the archive.
        base_url: the server.
        pause: waits for some seconds between two attempts.

    Raises:
        InputError: the record's listing cannot be fetched, has changed, or does not contain the file.
    """
    held = read_checksums(path)
    known = held.setdefault(release.record, {})
    try:
        listed = {name: (file.size, file.md5) for name, file in listing(base_url, release.record, pause).items()}
    except InputError as error:
        if release.archive not in known:
            raise
        log.warning("%s; the checksums in %s are used", error, path)
        return known[release.archive]
    for name, (size, sum_) in known.items():
        if listed.get(name) != (size, sum_):
            now = (
                "it lists no such file now"
                if name not in listed
                else "it lists {} bytes, md5 {} now".format(*listed[name])
            )
            raise InputError(
                f"record {release.record} at {base_url} has changed: {path} holds {size} bytes, md5 {sum_} for {name}; "
                f"{now}. If the new file is the right one, remove the record's rows from the table, and its recordings"
            )
    if release.archive not in listed:
        raise InputError(
            f"record {release.record} at {base_url} lists no {release.archive}; it lists {', '.join(sorted(listed))}"
        )
    if listed != known:
        held[release.record] = listed
        rows = [(record, name, *file) for record in held for name, file in sorted(held[record].items())]
        _write_csv(path, ["record", "file", "size", "md5"], rows)
    return listed[release.archive]


def read_checksums(path: Path) -> dict[str, dict[str, tuple[int, str]]]:
    """Return record -> file -> (size in bytes, MD5); empty if there is no such table yet."""
    held: dict[str, dict[str, tuple[int, str]]] = {}
    for record, name, size, sum_ in _read_csv(path, ["record", "file", "size", "md5"]):
        held.setdefault(record, {})[name] = (size, sum_)
    return held


# --- contents -----------------------------------------------------------------------------------------------


def _is_there(home: Path, files: dict[str, int]) -> bool:
    """Whether an archive was received: all its files exist and have their full size."""
    for path, size in files.items():
        try:
            if (home / path).stat().st_size == size:
                continue
        except FileNotFoundError:
            pass
        log.info("%s: not there, or not in full size; its archive is needed again", home / path)
        return False
    return bool(files)


def _read_contents(path: Path) -> dict[str, dict[str, int]]:
    """Archive -> path below the machine's folder -> size in bytes."""
    contents: dict[str, dict[str, int]] = {}
    for archive, name, size in _read_csv(path, ["archive", "path", "size"]):
        contents.setdefault(archive, {})[name] = size
    return contents


def _write_contents(path: Path, contents: dict[str, dict[str, int]]) -> None:
    rows = [(archive, *file) for archive in sorted(contents) for file in sorted(contents[archive].items())]
    _write_csv(path, ["archive", "path", "size"], rows)


def _read_csv(path: Path, header: list[str]) -> list[list]:
    """Rows of a table that this module wrote, the column `size` as a number; none if there is no such file."""
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            found, *rows = csv.reader(file, strict=True)
        if found != header or any(len(row) != len(header) for row in rows):
            raise ValueError(f"found the columns {found}")
        place = header.index("size")
        return [[*row[:place], int(row[place]), *row[place + 1 :]] for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: not readable ({error}); expected the columns {', '.join(header)}; remove it"
        ) from None


def _write_csv(path: Path, header: list[str], rows: list[tuple]) -> None:
    with written(path) as aside, aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


# --- archives -----------------------------------------------------------------------------------------------


def unpack(archive: Path, home: Path, release: Release, others: set[str], scratch: Path) -> dict[str, int]:
    """Unpack the recordings and attribute files of an archive.

    Everything about the archive is checked before anything is written. Its files are written into another folder first,
    and get their names when all of them are complete.

    Args:
        archive: the zip file.
        home: the machine's folder; recordings go into its `train` and `test`.
        release: what the archive should contain.
        others: the files in `home` that came from other archives.
        scratch: a folder on the same disk, for the files while they are written.

    Returns:
        path below `home` -> size in bytes.

    Raises:
        InputError: the file is not a zip; a member has a path outside its folder, is a link or is encrypted; the
            archive is too large when unpacked, or has too many files; clips are missing or too many; the disk is full.
    """
    aside = scratch / f"{archive.name}.unpacking"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as zipped:
            members = _members(zipped, archive, release)
            _check_clips(archive, release, members)
            twice = [path for path in sorted(others & set(members)) if not _same(home / path, members[path])]
            if twice:
                raise InputError(f"{archive}: holds {twice[0]}; another archive holds a different file of this name")
            aside.mkdir(parents=True)
            _need(aside, sum(member.file_size for member in members.values()), f"the recordings in {archive.name}")
            for path, member in progress(members.items(), f"unpacking {archive.name}", "files"):
                (aside / path).parent.mkdir(parents=True, exist_ok=True)
                with zipped.open(member) as packed, (aside / path).open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
        for path in members:
            (home / path).parent.mkdir(parents=True, exist_ok=True)
            (aside / path).replace(home / path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{archive}: not a zip that can be read ({error}); fetch it again") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{home}: the disk is full; free some space, or set data_dir to another disk") from None
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return {path: member.file_size for path, member in members.items()}


def _same(path: Path, member: zipfile.ZipInfo) -> bool:
    return not path.exists() or zlib.crc32(path.read_bytes()) == member.CRC


def _members(zipped: zipfile.ZipFile, archive: Path, release: Release) -> dict[str, zipfile.ZipInfo]:
    """The recordings and attribute files, by their path below the machine's folder."""
    infos = zipped.infolist()
    packed, size = archive.stat().st_size, sum(info.file_size for info in infos)
    if size > RATIO * packed or len(infos) > FILES:
        raise InputError(
            f"{archive}: would unpack from {packed} to {size} bytes in {len(infos)} files; expected at most {RATIO} "
            f"times the size and {FILES} files; this is not an archive of recordings"
        )
    members: dict[str, zipfile.ZipInfo] = {}
    left = []
    for info in infos:
        if (fault := _fault(info)) is not None:
            raise InputError(f"{archive}: holds {info.filename!r}, {fault}; nothing is unpacked")
        *above, file = PurePosixPath(info.filename).parts or ("",)
        path = ""
        if not info.is_dir() and not any(part.startswith((".", "__")) for part in (*above, file)):
            if above and above[-1] in release.folders and file.endswith(".wav"):
                path = f"{release.folders[above[-1]]}/{file}"
            elif re.fullmatch(r"attributes_[0-9]+\.csv", file):
                path = file
        if path in members:
            raise InputError(f"{archive}: holds {path} twice; nothing is unpacked")
        if path:
            members[path] = info
        elif not info.is_dir():
            left.append(info.filename)
    if left:
        log.info(
            "%s: %d files that are no recordings of %s are left out, such as %s",
            archive.name,
            len(left),
            " or ".join(release.folders),
            left[0],
        )
    return members


def _fault(info: zipfile.ZipInfo) -> str | None:
    """Why a member must not be unpacked; None if it may be."""
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name):
        return "an absolute path or one of another system"
    if ".." in PurePosixPath(name).parts:
        return "a path that leaves the folder"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "a link or a special file"
    return "which is encrypted" if info.flag_bits & 1 else None


def _check_clips(archive: Path, release: Release, members: dict[str, zipfile.ZipInfo]) -> None:
    """Compare the clips of each section with the numbers of the year, if these are known."""
    found: Counter[tuple[str, str, str]] = Counter()
    for path in members:
        split, _, file = path.rpartition("/")
        if split:
            try:
                name = parse_name(file, release.names)
            except InputError as error:
                raise InputError(f"{archive}: {error}") from None
            found[name.section, split, name.domain] += 1
    if not found:
        raise InputError(
            f"{archive}: holds no recordings in {' or '.join(release.folders)}; expected those of a machine"
        )
    sections = sorted({section for section, _, _ in found})
    faults = []
    if release.sections and sections != release.sections:
        faults.append(f"sections {', '.join(sections)}, expected {', '.join(release.sections)}")
    for section in release.sections if release.clips else ():
        for (split, domain), expected in zip(COUNTED, release.clips, strict=True):
            count = sum(n for (s, p, d), n in found.items() if (s, p) == (section, split) and domain in ("", d))
            if count != expected:
                faults.append(
                    f"section {section}: {count} {' '.join(filter(None, (domain, split)))} clips, expected {expected}"
                )
    if faults:
        raise InputError(f"{archive}: found {'; '.join(faults)}; is the archive complete, and of this year?")
