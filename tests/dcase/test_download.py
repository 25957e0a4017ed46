"""The recordings of a published year, from a server on loopback: the right ones, once, or a clear error."""

import hashlib
import io
import os
import random
import shutil
import stat
import subprocess
import sys
import threading
import wave
import zipfile
from pathlib import Path

import pytest
import yaml
from server import Fault, Server, file_path

from asd import releases as published
from asd.corpus import read_manifest, recordings
from asd.dcase import download, transfer
from asd.dcase.download import read_checksums, receive, unpack
from asd.errors import InputError
from asd.releases import releases
from asd.settings import Dataset, Published

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "workflow/scripts/download.py"
PARTS = ["development", "additional", "evaluation"]
RECORDS = {"development": "6355122", "additional": "6462969", "evaluation": "6586456"}
MACHINES = ["fan", "valve"]


# --- a small year -------------------------------------------------------------------------------------------


def wav(seed: str, samples: int = 60) -> bytes:
    """A recording of noise, 16 bit, 16 kHz."""
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(random.Random(seed).randbytes(2 * samples))
    return data.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # Without the time of day, so that the same files published again are the same bytes.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return data.getvalue()


def clip_names(part: str, source: int, target: int, test: int) -> list[str]:
    """The recordings of a part as 2022 names them, below the machine's folder."""
    names = []
    for section in ("00", "01", "02") if part == "development" else ("03", "04", "05"):
        if part != "evaluation":
            for domain, count in (("source", source), ("target", target)):
                names += [
                    f"train/section_{section}_{domain}_train_normal_{i:04d}_vel_{i % 3}.wav" for i in range(count)
                ]
        if part == "development":
            kinds = [(domain, label) for domain in ("source", "target") for label in ("normal", "anomaly")]
            names += [
                f"test/section_{section}_{d}_test_{x}_{i:04d}_vel_1.wav" for d, x in kinds for i in range(test // 4)
            ]
        if part == "evaluation":
            names += [f"test/section_{section}_{i:04d}.wav" for i in range(test)]
    return names


def archive_files(machine: str, part: str, source: int = 3, target: int = 1, test: int = 4) -> dict[str, bytes]:
    return {f"{machine}/{name}": wav(f"{machine}/{name}") for name in clip_names(part, source, target, test)}


def publish(server: Server, machines: list[str] = MACHINES, **counts: int) -> None:
    """Publish the year 2022 with a few clips."""
    for part, record in RECORDS.items():
        files = {}
        for machine in machines:
            archive = next(one.archive for one in releases("dcase2022", machine, PARTS) if one.part == part)
            files[archive] = zipped(archive_files(machine, part, **counts))
        server.publish(record, files)


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server with a year of 2 machines, with 3 + 1 training clips and 4 test clips per section."""
    table = tmp_path / "published.csv"
    table.write_text(published.TABLE.read_text().replace(",990,10,", ",3,1,").replace(",200\n", ",4\n"))
    monkeypatch.setattr(published, "TABLE", table)
    monkeypatch.setattr(transfer, "CHUNK", 1000)
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        publish(server)
        yield server


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "data/dcase2022"


@pytest.fixture
def run(server, folder):
    """Receive a machine; returns its clips, checked against what was published."""

    def receive_it(machine: str = "fan", parts: list[str] = PARTS, **settings: object):
        block = Published(base_url=server.url, parts=parts, **settings)
        clips = receive(folder, machine, "dcase2022", block, lambda _: None)
        expected = {name: part for part in parts for name in clip_names(part, 3, 1, 4)}
        assert dict(zip(clips["split"] + "/" + clips["file"], clips["part"], strict=True)) == expected
        for name in expected:
            assert (folder / machine / name).read_bytes() == wav(f"{machine}/{name}"), name
        assert not list(folder.glob("archives/*"))
        return clips

    return receive_it


def archive_of(part: str, machine: str = "fan") -> str:
    """Where an archive is served."""
    name = next(one.archive for one in releases("dcase2022", machine, PARTS) if one.part == part)
    return file_path(RECORDS[part], name)


# --- what is fetched ----------------------------------------------------------------------------------------


def test_a_machine_of_a_year(run, server, folder):
    clips = run()
    assert len(clips) == 3 * (3 + 1 + 4) + 3 * (3 + 1 + 4)
    assert set(clips["label"][clips["part"] == "evaluation"]) == {""}
    assert server.count(archive_of("development")) == 1
    held = read_checksums(folder / "checksums.csv")
    content = server.files[archive_of("development")]
    assert held["6355122"]["dev_fan.zip"] == (len(content), hashlib.md5(content).hexdigest())
    assert set(held["6355122"]) == {"dev_fan.zip", "dev_valve.zip"}


def test_a_second_run_needs_no_network(run, server):
    run()
    server.asked.clear()
    run()
    assert server.asked == []


def test_one_more_machine_or_part_fetches_what_is_missing(run, server):
    run(parts=["development"])
    assert {path for path, _ in server.asked} == {"/api/records/6355122", archive_of("development")}
    server.asked.clear()
    run(parts=PARTS)
    assert server.count(archive_of("development")) == 0
    assert server.count(archive_of("additional")) == server.count(archive_of("evaluation")) == 1
    server.asked.clear()
    run(parts=["development"])  # of all that is there
    assert server.asked == []
    run("valve")
    assert not any("fan" in path for path, _ in server.asked)


def test_a_lost_or_shortened_recording_is_fetched_again(run, server, folder):
    run()
    server.asked.clear()
    (folder / "fan/test/section_03_0001.wav").unlink()
    run()
    assert server.count(archive_of("evaluation")) == 1
    assert server.count(archive_of("development")) == 0
    with (folder / "fan/train/section_00_source_train_normal_0000_vel_0.wav").open("r+b") as file:
        file.truncate(50)
    run()
    assert server.count(archive_of("development")) == 1


def test_an_archive_that_was_fetched_but_not_unpacked(run, server, folder, monkeypatch):
    monkeypatch.setattr(download, "unpack", lambda *_: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        run()
    monkeypatch.undo()
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(published, "TABLE", folder.parents[1] / "published.csv")
    server.asked.clear()
    run()
    assert server.asked == []


def test_two_machines_and_the_same_twice_at_once(server, folder):
    """Locks are on open files, so threads meet them as processes do."""
    failures = []

    def job(machine: str) -> None:
        try:
            receive(folder, machine, "dcase2022", Published(base_url=server.url), lambda _: None)
        except Exception as error:
            failures.append(error)

    for path in [archive_of("development"), *(f"/api/records/{record}" for record in RECORDS.values())]:
        server.faults[path] = [Fault(status=503), Fault(cut=10)]
    threads = [threading.Thread(target=job, args=(machine,)) for machine in [*MACHINES, *MACHINES]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for machine in MACHINES:
        assert len(list((folder / machine).rglob("*.wav"))) == 48
        assert server.count(archive_of("evaluation", machine)) == 1
    assert {record: len(files) for record, files in read_checksums(folder / "checksums.csv").items()} == dict.fromkeys(
        RECORDS.values(), 2
    )


def test_a_file_system_without_locks(run, monkeypatch, caplog):
    import fcntl

    def refuse(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    run()
    assert "cannot be locked" in caplog.text


# --- a server that misbehaves -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        [Fault(cut=700), Fault(cut=2500, reset=True)],
        [Fault(status=503), Fault(status=503)],
        [Fault(status=429, headers={"Retry-After": "5"})],
        [Fault(cut=3000), Fault(no_range=True)],
        [Fault(body=b"P" * 100, no_length=True), Fault(endless=True)],
    ],
    ids=["cut", "503", "429", "no range", "short, then endless"],
)
def test_what_passes_is_survived(run, server, faults):
    for part in PARTS:
        server.faults[archive_of(part)] = list(faults)
    run()


def wrong(content: bytes) -> bytes:
    return content[:500] + bytes([content[500] ^ 1]) + content[501:]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (lambda content: Fault(status=404), "the server answered 404 Not Found"),
        (lambda content: Fault(status=503), "given up after 8 attempts"),
        (lambda content: Fault(body=wrong(content)), "found the md5"),
        (lambda content: Fault(body=content[:-9]), "found a file of .* expected .* as the record lists"),
        (lambda content: Fault(body=b"", endless=True), "found the md5"),
        (lambda content: Fault(cut=2000, no_range=True), "given up after 8 attempts"),
    ],
    ids=["404", "503", "a wrong byte", "short", "endless", "always cut"],
)
def test_what_does_not_pass_is_told_and_a_second_run_finishes(run, server, folder, fault, expected):
    path = archive_of("additional")
    server.always[path] = fault(server.files[path])
    with pytest.raises(InputError, match=expected) as refusal:
        run()
    assert path in str(refusal.value)
    assert not list(folder.rglob("*.wav"))
    assert not (folder / "fan/contents.csv").exists()
    del server.always[path]
    run()


def test_a_record_that_changed(run, server, folder):
    run("fan")
    publish(server, test=8)
    with pytest.raises(InputError, match=r"record 6355122 .* has changed: .*checksums\.csv holds .* bytes, md5 .* now"):
        run("valve")
    publish(server)
    run("valve")


def test_a_record_that_lost_a_file(run, server):
    run("fan")
    publish(server, ["valve"])
    with pytest.raises(InputError, match=r"for dev_fan\.zip; it lists no such file now"):
        run("valve")


def test_a_record_without_the_archive(run, server):
    publish(server, ["valve"])
    with pytest.raises(InputError, match=r"record 6355122 .* lists no dev_fan\.zip; it lists dev_valve\.zip"):
        run("fan")


def test_a_file_that_changed_behind_the_listing(run, server):
    run("fan")
    server.files[archive_of("development", "valve")] = zipped(archive_files("valve", "development", test=8))
    with pytest.raises(InputError, match="found a file of"):
        run("valve")


def test_a_mirror_without_listings_goes_by_what_is_held(run, server, caplog):
    run("fan")
    for record in RECORDS.values():
        del server.files[f"/api/records/{record}"]
    run("valve")
    assert "the checksums in" in caplog.text


def test_a_mirror_without_listings_the_first_time(run, server):
    del server.files["/api/records/6355122"]
    with pytest.raises(InputError, match="/api/records/6355122: the server answered 404"):
        run()


def test_a_table_of_checksums_that_is_none(run, folder):
    folder.mkdir(parents=True)
    (folder / "checksums.csv").write_text("name,md5\na,b\n")
    with pytest.raises(
        InputError, match=r"checksums\.csv: not readable .* expected the columns record, file, size, md5"
    ):
        run()


def test_too_little_disk(run, server, folder, monkeypatch):
    usage = shutil.disk_usage(".")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=30_000))
    with pytest.raises(InputError, match=r"found 0\.00 GB of free disk, expected .* GB for 3 archives of fan"):
        run()
    assert not any("/files/" in path for path, _ in server.asked)
    monkeypatch.undo()


# --- archives on disk ---------------------------------------------------------------------------------------


@pytest.fixture
def archives(server, tmp_path) -> Path:
    """The archives of fan in a folder."""
    home = tmp_path / "archives of 2022"
    home.mkdir()
    for part in PARTS:
        path = archive_of(part)
        (home / Path(path).name).write_bytes(server.files[path])
    return home


def test_archives_on_disk(run, server, archives, caplog):
    run(archives=str(archives))
    assert server.asked == []
    assert len(list(archives.iterdir())) == 3
    assert "only its own checksums are checked" in caplog.text


def test_archives_on_disk_that_are_not_there(run, archives):
    (archives / "dev_fan.zip").unlink()
    with pytest.raises(InputError, match=r"archives of 2022: found no dev_fan\.zip \(record 6355122\); put it there"):
        run(archives=str(archives))


def test_archives_on_disk_are_held_to_the_checksums(run, server, archives, folder):
    run("valve")
    archive = archives / "dev_fan.zip"
    content = archive.read_bytes()
    archive.write_bytes(wrong(content))
    with pytest.raises(InputError, match=r"dev_fan\.zip: found .* expected .* bytes, md5 .* copy it again"):
        run(archives=str(archives))
    archive.write_bytes(content)
    run(archives=str(archives))


def test_a_damaged_archive_without_checksums(run, archives, folder):
    archive = archives / "dev_fan.zip"
    archive.write_bytes(wrong(archive.read_bytes()))
    with pytest.raises(InputError, match=r"dev_fan\.zip: not a zip that can be read"):
        run(archives=str(archives))
    assert not list(folder.rglob("*.wav"))
    archive.write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"dev_fan\.zip: not a zip that can be read"):
        run(archives=str(archives))


# --- unpacking ----------------------------------------------------------------------------------------------


@pytest.fixture
def unpacked(server, tmp_path):
    """Unpack an archive of the development part; returns what is then in the machine's folder."""
    release = releases("dcase2022", "fan", PARTS)[0]

    def go(files: dict[str, bytes] | bytes, others: frozenset[str] = frozenset()) -> dict[str, bytes]:
        home = tmp_path / "unpacked/fan"
        before = sorted(home.rglob("*"))
        archive = tmp_path / release.archive
        archive.write_bytes(files if isinstance(files, bytes) else zipped(files))
        try:
            found = unpack(archive, home, release, set(others), tmp_path / "scratch")
        except InputError:
            assert sorted(home.rglob("*")) == before
            raise
        finally:
            assert not list(tmp_path.glob("scratch/*"))
        files = {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}
        assert {path: len(content) for path, content in files.items()} == found
        return files

    return go


GOOD = archive_files("fan", "development")


def test_recordings_and_attributes_come_out_and_nothing_else(unpacked, caplog):
    caplog.set_level("INFO")
    more = {
        "fan/": b"",
        "fan/attributes_00.csv": b"file_name,d1p,d1v\n",
        "fan/readme.md": b"",
        "fan/supplemental/section_00_noise_supplemental_normal_0000.wav": wav("noise"),
        "__MACOSX/fan/train/._section_00.wav": b"",
        "fan/train/._section_00_source_train_normal_0000.wav": b"",
        "fan/train/.DS_Store": b"",
    }
    expected = {name.removeprefix("fan/"): content for name, content in GOOD.items()}
    assert unpacked({**GOOD, **more}) == expected | {"attributes_00.csv": more["fan/attributes_00.csv"]}
    assert "5 files that are no recordings of train or test are left out, such as fan/readme.md" in caplog.text


def test_an_archive_with_a_folder_around_it(unpacked):
    assert len(unpacked({f"dev_data/{name}": content for name, content in GOOD.items()})) == len(GOOD)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("/tmp/evil/train/x.wav", "an absolute path"),
        ("../../evil/train/x.wav", "a path that leaves the folder"),
        ("fan/train/../../../x.wav", "a path that leaves the folder"),
        ("C:/fan/train/x.wav", "an absolute path or one of another system"),
        ("fan\\train\\x.wav", "one of another system"),
        ("..", "a path that leaves the folder"),
    ],
)
def test_nothing_gets_outside(unpacked, tmp_path, name, expected):
    before = {path for path in tmp_path.rglob("*") if path.name != "dev_fan.zip"}
    with pytest.raises(InputError, match=f"dev_fan.zip: holds .*{expected}.*nothing is unpacked"):
        unpacked({**GOOD, name: b"evil"})
    after = {path for path in tmp_path.rglob("*") if path.name != "dev_fan.zip"}
    assert before == after


def special(mode: int, flags: int = 0) -> bytes:
    """The good archive and a member of a special kind, that would be a recording by its name."""
    data = io.BytesIO(zipped(GOOD))
    with zipfile.ZipFile(data, "a") as archive:
        info = zipfile.ZipInfo("fan/train/section_00_source_train_normal_0099.wav")
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
        info.flag_bits |= flags
    return data.getvalue()


@pytest.mark.parametrize(
    ("mode", "flags", "expected"),
    [
        (stat.S_IFLNK | 0o777, 0, "a link or a special file"),
        (stat.S_IFIFO | 0o644, 0, "a link or a special file"),
        (stat.S_IFCHR | 0o644, 0, "a link or a special file"),
        (stat.S_IFREG | 0o644, 1, "which is encrypted"),
    ],
)
def test_links_and_other_special_members(unpacked, mode, flags, expected):
    with pytest.raises(InputError, match=expected):
        unpacked(special(mode, flags))


def test_a_bomb(unpacked):
    with pytest.raises(InputError, match=r"would unpack from .* to 300\d+ bytes .* expected at most 20 times"):
        unpacked({**GOOD, "fan/train/section_00_source_train_normal_0099.wav": bytes(300_000_000)})


def test_a_bomb_in_what_is_left_out_counts_too(unpacked):
    with pytest.raises(InputError, match="expected at most 20 times"):
        unpacked({**GOOD, "readme.md": bytes(10_000_000)})


def test_a_bomb_that_lies_about_its_size(unpacked):
    """Its directory says 100 bytes; not a byte more is written, and its checksum tells."""
    name = "fan/train/section_00_source_train_normal_0000_vel_0.wav"
    data = bytearray(zipped({**GOOD, name: bytes(5_000_000)}))
    size = (5_000_000).to_bytes(4, "little")
    assert data.count(size) == 2
    with pytest.raises(InputError, match=f"not a zip that can be read .*{name}"):
        unpacked(bytes(data).replace(size, (100).to_bytes(4, "little")))


def test_too_many_files(unpacked, monkeypatch):
    monkeypatch.setattr(download, "FILES", len(GOOD))
    with pytest.raises(InputError, match=rf"in {len(GOOD) + 1} files; expected at most .* {len(GOOD)} files"):
        unpacked({**GOOD, "x": b""})
    assert unpacked(GOOD)


def test_the_same_recording_twice(unpacked):
    twice = {f"dev/{name}": content for name, content in GOOD.items()}
    with pytest.raises(InputError, match="twice; nothing is unpacked"):
        unpacked(GOOD | twice)


def test_the_same_file_in_two_archives(unpacked):
    csv = {"fan/attributes_00.csv": b"file_name,d1p,d1v\n"}
    unpacked(GOOD | csv)
    again = frozenset({"attributes_00.csv"})
    unpacked(GOOD | csv, again)
    with pytest.raises(InputError, match=r"holds attributes_00\.csv; another archive holds a different file"):
        unpacked({**GOOD, "fan/attributes_00.csv": b"file_name\n"}, again)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            {name: content for name, content in GOOD.items() if "01_source_train_normal_0002" not in name},
            "found section 01: 2 source train clips, expected 3; is the archive complete",
        ),
        (
            {name: content for name, content in GOOD.items() if "section_02_target" not in name},
            "found section 02: 0 target train clips, expected 1; section 02: 2 test clips, expected 4",
        ),
        (
            {name: content for name, content in GOOD.items() if "section_02" not in name},
            "found sections 00, 01, expected 00, 01, 02; section 02: 0 source",
        ),
        ({**GOOD, "fan/test/section_00_source_test_normal_0077.wav": b"x"}, "section 00: 5 test clips, expected 4"),
        ({**GOOD, "fan/test/morning.wav": b"x"}, "'morning.wav' does not follow the naming scheme"),
        ({name.replace("fan/train", "fan/tr"): content for name, content in GOOD.items()}, "0 source train clips"),
        ({"readme.md": b"x"}, "holds no recordings in train or test"),
    ],
)
def test_clips_that_are_missing_or_too_many(unpacked, files, expected):
    with pytest.raises(InputError, match=expected):
        unpacked(files)


def test_a_recording_that_no_archive_brought(run, folder):
    run()
    (folder / "fan/train/section_00_source_train_normal_0077_vel_1.wav").write_bytes(wav("own"))
    with pytest.raises(InputError, match=r"0077_vel_1\.wav: comes from no archive of dcase2022, nor do 0 more"):
        run()


def write_archives(home: Path, archives: dict[str, list[str]]) -> Path:
    """Write zips of recordings."""
    home.mkdir()
    for archive, names in archives.items():
        (home / archive).write_bytes(zipped({f"fan/{name}": wav(name) for name in names}))
    return home


def test_2021(tmp_path):
    """Test clips in two folders, attributes without keys, and a domain in every name."""
    tests = [(section, domain) for section in range(3) for domain in ("source", "target")]
    archives = {
        "dev_data_fan.zip": [f"train/section_0{s}_{d}_train_normal_0000_strength_1_ambient.wav" for s, d in tests]
        + [f"{d}_test/section_0{s}_{d}_test_{label}_0000.wav" for s, d in tests for label in ("normal", "anomaly")],
        "eval_data_fan_train.zip": [f"train/section_0{s}_source_train_normal_0000_C2Spd6Mic1.wav" for s in (3, 4, 5)],
        "eval_data_fan_test.zip": [f"{d}_test/section_0{s + 3}_{d}_test_0000.wav" for s, d in tests],
    }
    block = Published(archives=str(write_archives(tmp_path / "archives", archives)))
    clips = receive(tmp_path / "dcase2021", "fan", "dcase2021", block)
    names = [name.rpartition("/")[2] for files in archives.values() for name in files]
    assert sorted(clips["file"]) == sorted(names)
    assert clips["part"].value_counts().to_dict() == {"development": 18, "evaluation": 6, "additional": 3}
    assert set(clips["attributes"][clips["part"] == "additional"]) == {'{"attributes": "C2Spd6Mic1"}'}
    assert clips["domain"].value_counts().to_dict() == {"source": 15, "target": 12}


NORMAL = [f"normal_id_0{i}_0000000{j}.wav" for i in (0, 2) for j in range(2)]
OF_2020 = {
    "dev_data_fan.zip": [f"{split}/{name}" for split in ("train", "test") for name in NORMAL]
    + ["test/anomaly_id_00_00000000.wav"],
    "eval_data_train_fan.zip": ["train/normal_id_01_00000000.wav"],
    "eval_data_test_fan.zip": ["test/id_01_00000000.wav"],
}


def test_2020(tmp_path):
    """No domains, and names that both splits use."""
    block = Published(archives=str(write_archives(tmp_path / "archives", OF_2020)))
    clips = receive(tmp_path / "dcase2020", "fan", "dcase2020", block)
    assert clips["part"].value_counts().to_dict() == {"development": 9, "evaluation": 1, "additional": 1}
    assert set(clips["section"]) == {"00", "01", "02"}
    for split in ("train", "test"):
        path = tmp_path / "dcase2020/fan" / split / NORMAL[0]
        assert path.read_bytes() == wav(f"{split}/{NORMAL[0]}")


# --- the command --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_of_a_machine_of_2022_through_the_command(tmp_path, monkeypatch):
    """All 7,200 clips of the real table, each a few samples long, from a server with some faults; and their labels."""
    monkeypatch.setenv("NO_PROXY", "*")
    truth = tmp_path / "truth"
    for home in ("ground_truth_data", "ground_truth_domain"):
        (truth / home).mkdir(parents=True)
        for section in ("03", "04", "05"):
            rows = "".join(f"section_{section}_{i:04d}.wav,{i % 2}\n" for i in range(200))
            (truth / home / f"ground_truth_fan_section_{section}_test.csv").write_text(rows)
    out = tmp_path / "data/dcase2022/fan/manifest.csv"
    with Server() as server:
        publish(server, ["fan"], source=990, target=10, test=200)
        server.faults[archive_of("development")] = [Fault(cut=300_000)]
        server.faults["/api/records/6355122"] = [Fault(status=429, headers={"Retry-After": "1"})]
        block = Published(base_url=server.url, ground_truth=str(truth))
        dataset = Dataset(kind="dcase2022", published=block)
        flags = [*dataset.flags.split(), *dataset.transfer.split()]
        flags[flags.index("''")] = ""
        command = [sys.executable, str(SCRIPT), "--machine", "fan", *flags, "--out", str(out)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "429" in done.stderr
    clips = read_manifest(out)
    assert len(clips) == 7200
    assert clips["part"].value_counts().to_dict() == {"development": 3600, "additional": 3000, "evaluation": 600}
    assert set(clips["label"]) == {"normal", "anomaly"}
    assert all(path.is_file() for path in recordings(out, clips)[::100])
    # again, without the server
    before = out.read_bytes()
    out.unlink()
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == before


@pytest.mark.slow
def test_the_rule_does_not_run_again_for_another_mirror(tmp_path):
    write_archives(tmp_path / "archives", OF_2020)
    truth = tmp_path / "truth/ground_truth_data/ground_truth_fan_section_01_test.csv"
    truth.parent.mkdir(parents=True)
    truth.write_text("id_01_00000000.wav,1\n")
    target = "data/dcase2020/fan/manifest.csv"

    def snakemake(*arguments: str, **transfer: object) -> str:
        overlay = {
            "dataset": {"kind": "dcase2020", "published": {"ground_truth": "truth", **transfer}},
            "machines": ["fan"],
        }
        (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "1"]
        command += [
            "--directory",
            str(tmp_path),
            "--configfile",
            str(tmp_path / "overlay.yaml"),
            *arguments,
            "--",
            target,
        ]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(command, env=os.environ | {"PATH": path}, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    snakemake(archives="archives")
    clips = read_manifest(tmp_path / target)
    assert len(clips) == 11
    assert list(clips["label"][clips["part"] == "evaluation"]) == ["anomaly"]
    assert "Nothing to be done" in snakemake("--dry-run", base_url="http://127.0.0.1:9", connections=1)
