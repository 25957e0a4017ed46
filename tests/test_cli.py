"""The command asd: what it prints, its exit status, and what it says of recordings that cannot be scored."""

import errno
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from detectors import asd, with_threshold
from test_fitting import normals

from asd import cli
from asd.detector import Detector
from asd.errors import InputError

HEADER = [
    *("file", "start", "score", "decision", "section", "threshold", "standardised"),
    *("worst", "seconds", "level", "remark"),
]


@pytest.mark.parametrize(("limit", "status", "word"), [(0.0, 3, "anomalous"), (1e9, 0, "normal")])
def test_the_exit_status_says_whether_anything_was_anomalous(
    detectors, recordings, tmp_path, monkeypatch, capsys, limit, status, word
):
    detector = with_threshold(detectors, tmp_path, limit)
    some = list(recordings.values())[:3]
    found, out, _ = asd(monkeypatch, capsys, "score", "--detector", detector, "--format", "csv", *some)
    table = pd.read_csv(StringIO(out), dtype={"section": str})
    assert found == status
    assert list(table.columns) == HEADER
    assert table["file"].tolist() == [str(path) for path in some]
    assert set(table["decision"]) == {word}
    expected = [Detector.load(detector).score(*soundfile.read(path, dtype="int16")) for path in some]
    assert table["score"].tolist() == [one.score for one in expected]


def test_without_a_threshold_nothing_is_decided(detectors, recordings, tmp_path, monkeypatch, capsys, caplog):
    detector = with_threshold(detectors, tmp_path, None)
    some = list(recordings.values())[:2]
    found = Detector.load(detector).score(*soundfile.read(some[0], dtype="int16"), section="01")
    assert found.decision is None
    assert found.threshold == np.inf
    words = ("score", "--detector", detector, "--section", "01", *some)
    status, out, _ = asd(monkeypatch, capsys, *words)
    assert status == 1
    assert [line.split()[2] for line in out.splitlines()] == ["decision", "-", "-"]
    assert caplog.text.count("section 01: 6 scored training recordings are too few for a threshold") == 1
    _, out, _ = asd(monkeypatch, capsys, *words, "--format", "jsonl")
    assert [(row["decision"], row["threshold"]) for row in map(json.loads, out.splitlines())] == [(None, None)] * 2


def test_the_decision_is_a_wanted_rate_of_false_alarms(detectors, recordings, tmp_path, monkeypatch, capsys, caplog):
    detector, some = detectors / "spectrum/fan.zip", list(recordings.values())
    words = ("--detector", detector, "--section", "00", *some)
    found = {}
    for rate in (("0.1",), ("0.5",), ("360/hour", "--period", "5")):
        _, out, _ = asd(monkeypatch, capsys, "score", "--format", "jsonl", "--false-alarms", *rate, *words)
        found[rate[0]] = {json.loads(line)["threshold"] for line in out.splitlines()}
    assert found["0.1"] == {Detector.load(detector).description.thresholds["00"]}
    assert found["360/hour"] == found["0.5"]
    assert max(found["0.5"]) < min(found["0.1"])
    assert caplog.messages == []
    (tmp_path / "inbox").mkdir()
    shutil.copy(some[0], tmp_path / "inbox")
    words = ("watch", tmp_path / "inbox", "--detector", detector, "--once", "--interval", "0.01")
    assert asd(monkeypatch, capsys, *words, "--false-alarms", "1/day")[0] == 0
    (row,) = map(json.loads, (tmp_path / "inbox/asd.jsonl").read_text().splitlines())
    assert row["threshold"] > max(found["0.1"])
    assert "rarer than 12 training recordings can tell" in caplog.text


def test_what_cannot_be_read_is_named_and_the_rest_goes_on(
    detectors, recordings, tmp_path, monkeypatch, capsys, caplog
):
    detector = with_threshold(detectors, tmp_path, 1e9)
    good = next(iter(recordings.values()))
    (tmp_path / "empty.wav").write_bytes(b"")
    soundfile.write(tmp_path / "short.wav", np.zeros(3000, np.int16), 16000)
    soundfile.write(tmp_path / "slow.wav", np.zeros(8000), 8000)
    soundfile.write(tmp_path / "stereo.wav", np.zeros((16000, 2)), 16000)
    (tmp_path / "text.wav").write_text("no sound")
    bad = {
        "empty.wav": "an empty file",
        "short.wav": "found 0.19 s; a window of the detector takes 0.48 s",
        "slow.wav": "expected a wav, 16-bit PCM, mono, 16000 Hz; convert it, or set logmel.convert (asd: --convert)",
        "stereo.wav": "16-bit PCM, mono, 16000 Hz; convert it, or set logmel.channel (asd: --channel mix)",
        "text.wav": "not a readable wav",
        "none.wav": "no such file",
    }
    words = ("score", "--detector", detector, "--format", "jsonl")
    paths = [tmp_path / name for name in bad]
    found, out, _ = asd(monkeypatch, capsys, *words, paths[0], good, *paths[1:])
    assert found == 1
    (row,) = map(json.loads, out.splitlines())
    assert row["file"] == str(good)
    assert row["seconds"] == 1
    for path, (name, said) in zip(paths, bad.items(), strict=True):
        assert any(str(path) in message and said in message for message in caplog.messages), name
    assert caplog.messages[-1] == "6 of 7 recordings could not be scored"
    others = (tmp_path / "slow.wav", tmp_path / "stereo.wav")
    caplog.clear()
    found, out, _ = asd(monkeypatch, capsys, *words, "--convert", "--channel", "mix", *others)
    assert found == 0
    assert [json.loads(line)["file"] for line in out.splitlines()] == list(map(str, others))
    assert [message.endswith("may be defective") for message in caplog.messages] == [True, True]


def test_a_folder_stands_for_the_recordings_in_it(detectors, recordings, tmp_path, monkeypatch, capsys, caplog):
    words = ("score", "--detector", with_threshold(detectors, tmp_path, 1e9), "--format", "csv")
    (tmp_path / "new/deep").mkdir(parents=True)
    sources = list(recordings.values())[:2]
    for source, name in zip(sources, ("b.wav", "deep/a.wav"), strict=True):
        shutil.copy(source, tmp_path / "new" / name)
    (tmp_path / "new/notes.m4a").write_bytes(b"?")
    status, out, _ = asd(monkeypatch, capsys, *words, tmp_path / "new")
    assert status == 0
    inside, named = pd.read_csv(StringIO(out)), pd.read_csv(StringIO(asd(monkeypatch, capsys, *words, *sources)[1]))
    assert sorted(inside["score"]) == sorted(named["score"])
    assert {Path(file).name for file in inside["file"]} == {"a.wav", "b.wav"}
    assert "notes.m4a" in caplog.text
    (tmp_path / "none").mkdir()
    status, _, said = asd(monkeypatch, capsys, *words, tmp_path / "none")
    assert status == 2
    assert "none: found no recordings in it; expected files that end in" in said


def test_entries_that_cannot_be_looked_at_and_names_that_are_no_text(detectors, recordings, tmp_path):
    good, bad = (tmp_path / os.fsdecode(name) for name in (b"L\xfcfter.wav", b"in/y.wav"))
    shutil.copy(next(iter(recordings.values())), good)
    bad.parent.mkdir()
    shutil.copy(good, bad)
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    names = [good, tmp_path / "loop.wav", tmp_path / ("x" * 300 + ".wav")]
    words = [
        sys.executable,
        "-c",
        "from asd.cli import main; main()",
        "score",
        "--detector",
        detectors / "global/fan.zip",
        "--format",
    ]
    for locale in ("C", "C.UTF-8"):
        run = {"capture_output": True, "env": os.environ | {"LC_ALL": locale}}
        said = subprocess.run([*words, "jsonl", *names], **run)
        assert said.returncode in (1, 3), said.stderr
        assert b"Traceback" not in said.stderr
        (row,) = map(json.loads, said.stdout.splitlines())
        assert row["file"] == str(good)
        for reason in (errno.ELOOP, errno.ENAMETOOLONG):
            assert os.strerror(reason).encode() in said.stderr
    table = subprocess.run([*words, "table", good], **run).stdout.decode("utf-8")
    assert "L\\udcfcfter.wav" in table


def test_recordings_of_another_length_are_scored_with_a_warning(detectors, tmp_path, monkeypatch, capsys, caplog):
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / name, np.random.default_rng(0).normal(0, 0.1, 23000), 16000)
    some = tmp_path / "a.wav", tmp_path / "b.wav"
    _, out, _ = asd(monkeypatch, capsys, "score", "--detector", detectors / "local/fan.zip", "--format", "csv", *some)
    table = pd.read_csv(StringIO(out))
    assert table["seconds"].tolist() == [1.4375, 1.4375]
    assert table["start"].isna().all()
    (said,) = caplog.messages
    assert (
        f"made from clips of 1.00 s; its threshold may not fit recordings of another length: {some[0]}, 1.44 s" in said
    )
    assert said.endswith("and 1 more")


@pytest.fixture
def long(recordings, tmp_path) -> Path:
    """Four and a half seconds of recordings, one after another."""
    parts = [soundfile.read(path, dtype="int16")[0] for path in list(recordings.values())[:5]]
    soundfile.write(tmp_path / "long.wav", np.concatenate(parts)[:72000], 16000, "PCM_16")
    return tmp_path / "long.wav"


@pytest.mark.parametrize(
    ("words", "starts"),
    [((), [0, 1, 2, 3, 3.5]), (("--every", "0.7"), [0, 0.7, 1.4, 2.1, 2.8, 3.5]), (("--every", "2"), [0, 2])],
)
def test_a_long_recording_is_scored_in_steps(
    detectors, recordings, long, tmp_path, monkeypatch, capsys, caplog, words, starts
):
    detector = with_threshold(detectors, tmp_path, 1e9)
    short = next(iter(recordings.values()))
    status, out, err = asd(monkeypatch, capsys, "score", "--detector", detector, "--format", "csv", long, short, *words)
    table = pd.read_csv(StringIO(out), dtype={"section": str})
    steps = table[table["file"] == str(long)]
    assert status == 0
    assert steps["start"].tolist() == starts
    assert set(steps["seconds"]) == {1.0}
    samples = soundfile.read(long, dtype="int16")[0]
    for step in steps.itertuples():
        first = round(step.start * 16000)
        expected = Detector.load(detector).score(samples[first : first + 16000], 16000)
        assert (step.score, step.section) == (expected.score, expected.section)
        assert step.worst == pytest.approx(step.start + expected.worst)
    assert err.splitlines()[-1] == f"{long}: {len(starts)} steps of 1.00 s; none is anomalous"
    assert caplog.messages == []  # steps are as long as the training clips
    (other,) = table[table["file"] == str(short)].itertuples()
    assert np.isnan(other.start)


def test_the_steps_of_a_recording_stay_in_order_and_are_drawn(
    detectors, recordings, long, tmp_path, monkeypatch, capsys
):
    short, plot = next(iter(recordings.values())), tmp_path / "pictures"
    words = ("score", "--detector", with_threshold(detectors, tmp_path, 0.0), "--plot", plot, long, short)
    status, out, err = asd(monkeypatch, capsys, *words)
    assert status == 3
    rows = [line.split() for line in out.splitlines()[1:]]
    assert [row[1] for row in rows if row[0] == str(long)] == ["0", "1", "2", "3", "3.5"]
    assert rows[0][0] == rows[4][0] or rows[1][0] == rows[5][0]
    assert f"{long}: 5 steps of 1.00 s; anomalous from 0:00:00 to 0:00:04.5 (5 of 5 steps)" in err
    assert "5 of 5 steps anomalous" in (plot / "long.svg").read_text()


def test_a_picture_that_cannot_be_written_takes_no_score_away(
    detectors, recordings, tmp_path, monkeypatch, capsys, caplog
):
    def full(figure, folder, name):
        raise InputError(f"{folder / name}.svg: cannot be written: the disk is full")

    monkeypatch.setattr("asd.report.style.save", full)
    words = ("--detector", detectors / "local/fan.zip", "--format", "jsonl", *recordings.values())
    expected = asd(monkeypatch, capsys, "score", *words)
    assert asd(monkeypatch, capsys, "score", "--plot", tmp_path, *words)[:2] == expected[:2]
    assert len(caplog.messages) == len(recordings)
    assert all(one.endswith(".svg: cannot be written: the disk is full") for one in caplog.messages)


def test_steps_of_a_watched_recording_count_one_by_one(detectors, long, tmp_path, monkeypatch, capsys):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    long.rename(inbox / "long.wav")
    words = ("watch", inbox, "--once", "--interval", "0.01", "--after", "3", "--every", "0.5", "--detector")
    status, out, err = asd(monkeypatch, capsys, *words, with_threshold(detectors, tmp_path, 0.0))
    assert status == 0
    rows = [json.loads(line) for line in (inbox / "asd.jsonl").read_text().splitlines()]
    assert [row["start"] for row in rows] == [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5]
    assert [row["alarm"] for row in rows] == [False, False, True, False, False, False, False, False]
    assert out.splitlines()[2].endswith("long.wav  0:00:01  ALARM")
    assert "8 steps of 1.00 s; anomalous from 0:00:00 to 0:00:04.5" in err
    assert asd(monkeypatch, capsys, *words, detectors / "local/fan.zip")[1] == ""


def test_a_table_to_read_and_a_picture_of_each_recording(detectors, recordings, tmp_path, monkeypatch, capsys):
    first, second = list(recordings.values())[:2]
    plot = tmp_path / "pictures"
    _, out, _ = asd(
        monkeypatch, capsys, "score", "--detector", detectors / "local/fan.zip", first, second, "--plot", plot
    )
    header = [name for name in HEADER if name != "start"]  # there are no steps
    assert out.splitlines()[0].split() == header
    rows = [dict(zip(header, line.split(), strict=False)) for line in out.splitlines()[1:]]
    found = [
        Detector.load(detectors / "local/fan.zip").score(*soundfile.read(one, dtype="int16")) for one in (first, second)
    ]
    found.sort(key=lambda one: -one.standardised)
    assert [row["score"] for row in rows] == [f"{one.score:.4g}" for one in found]
    assert [row["worst"] for row in rows] == [f"{one.worst:.4g}" for one in found]
    assert {path.name for path in plot.iterdir()} == {
        f"{one.stem}.{kind}" for one in (first, second) for kind in ("svg", "png")
    }
    assert "window score" in (plot / f"{first.stem}.svg").read_text()
    again = tmp_path / "again" / first.name  # of the same name, in another folder
    again.parent.mkdir()
    again.symlink_to(first)
    plot = tmp_path / "both"
    asd(monkeypatch, capsys, "score", "--detector", detectors / "global/fan.zip", first, again, "--plot", plot)
    assert len({path.name for path in plot.glob("*.png")}) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--detector", "none.zip", "a.wav"), "none.zip: not a readable detector"),
        (("--detector", "oe/fan.zip", "--section", "07", "a.wav"), "--section: found 07; the detector knows 00, 01"),
        (("--detector", "oe/fan.zip"), "found no recordings; name them"),
        (("--detector", "oe/fan.zip", "--false-alarms", "few", "a.wav"), "--false-alarms: found few; expected a share"),
        (
            ("--detector", "oe/fan.zip", "--period", "60", "a.wav"),
            "--period: found 60, but no --false-alarms in a time",
        ),
        (("--detector", "oe/fan.zip", "--device", "gpu", "a.wav"), "--device: .* found 'gpu'"),
        (("--detector", "oe/fan.zip", "--channel", "0", "a.wav"), "--channel: .* found 0"),
        (("--detector", "oe/fan.zip", "--plot", "oe/fan.zip", "a.wav"), "File exists: 'oe/fan.zip'"),
    ],
)
def test_what_is_wrong_with_the_command_ends_it_with_a_word(
    detectors, recordings, tmp_path, monkeypatch, capsys, words, message
):
    (tmp_path / "oe").symlink_to(detectors / "oe")
    (tmp_path / "a.wav").symlink_to(next(iter(recordings.values())))
    monkeypatch.chdir(tmp_path)
    status, _, err = asd(monkeypatch, capsys, "score", *words)
    assert status == 2
    assert re.search(f"error: .*{message}", err)


def test_scoring_without_a_network_imports_nothing_slow(detectors, recordings):
    """Each of these takes as long to import as tens of recordings take to score."""
    program = (
        "import sys; from asd.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({'torch', 'timm', 'pandas', 'scipy', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
    )
    words = ["score", "--detector", detectors / "spectrum/fan.zip", *list(recordings.values())[:2]]
    for form in ("table", "csv", "jsonl"):
        command = [sys.executable, "-c", program, *words, "--format", form]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1, 3), done.stderr
        assert "fan" in done.stdout
        assert done.stderr.splitlines()[-1] == ""


def test_the_command_says_its_version(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["asd", "--version"])
    cli.main()
    assert capsys.readouterr().out == f"asd {importlib.metadata.version('asd')}\n"


def test_a_reader_that_has_seen_enough_is_no_error(detectors, recordings):
    """As in `asd score … | head -0`: the pipe is closed before anything is written."""
    command = [Path(sys.executable).with_name("asd"), "score", "--detector", detectors / "local/fan.zip"]
    words = [*command, *recordings.values()]
    for unbuffered in ("", "1"):  # written at the end only, or at once
        run = {
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "env": os.environ | {"PYTHONUNBUFFERED": unbuffered},
        }
        with subprocess.Popen(words, text=True, **run) as begun:
            begun.stdout.close()
            assert begun.stderr.read() == ""
        assert begun.returncode == 141


def test_a_folder_is_watched_and_a_restart_goes_on(detectors, recordings, tmp_path, monkeypatch, capsys):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    first, second, third = list(recordings.values())[:3]
    for path in (first, second):
        (inbox / path.name).write_bytes(path.read_bytes())
    (inbox / "notes.txt").write_text("no recording")
    (inbox / "broken.wav").write_bytes(first.read_bytes()[:1000])
    words = ("watch", inbox, "--detector", detectors / "local/fan.zip", "--once", "--interval", "0.01")
    assert asd(monkeypatch, capsys, *words)[0] == 1  # one could not be scored
    rows = [json.loads(line) for line in (inbox / "asd.jsonl").read_text().splitlines()]
    assert {row["file"] for row in rows} == {first.name, second.name, "broken.wav"}
    scored = {row["file"]: row.get("score") for row in rows}
    detector = Detector.load(detectors / "local/fan.zip")
    assert scored[first.name] == detector.score(*soundfile.read(first, dtype="int16")).score
    assert scored["broken.wav"] is None
    with (inbox / "asd.jsonl").open("a") as log:
        log.write('{"file": "half a li')  # a power cut
    (inbox / third.name).write_bytes(third.read_bytes())
    _, out, _ = asd(monkeypatch, capsys, *words)
    assert third.name in out
    assert first.name not in out
    again = [json.loads(line) for line in (inbox / "asd.jsonl").read_text().splitlines()]
    assert again[:3] == rows
    assert [row["file"] for row in again[3:]] == [third.name]


def test_anomalous_recordings_in_a_row_raise_one_alarm(detectors, recordings, tmp_path, monkeypatch, capsys):
    inbox, alarm = tmp_path / "inbox", tmp_path / "alarm.json"
    inbox.mkdir()
    words = ["watch", inbox, "--once", "--interval", "0.01", "--after", "2", "--detector"]
    program = ["--exec", sys.executable, "-c", f"import sys; open({str(alarm)!r}, 'a').write(sys.stdin.read())", "-x"]
    some = list(recordings.values())[:4]
    for limit, paths in ((0.0, some[:1]), (0.0, some[1:3]), (1e9, some[3:])):  # also after a restart
        for path in paths:
            shutil.copy(path, inbox)
        assert asd(monkeypatch, capsys, *words, with_threshold(detectors, tmp_path, limit), *program)[0] == 0
    rows = [json.loads(line) for line in (inbox / "asd.jsonl").read_text().splitlines()]
    assert [row["alarm"] for row in rows] == [False, True, False, False]
    (told,) = map(json.loads, alarm.read_text().splitlines())
    logged = {key: value for key, value in rows[1].items() if key not in ("size", "changed")}
    assert told == logged | {"file": str(inbox / rows[1]["file"]), "machine": "fan", "in_a_row": 2}


def test_an_alarm_that_is_not_delivered_is_in_the_log(detectors, recordings, tmp_path, monkeypatch, capsys, caplog):
    monkeypatch.setattr("asd.notify.LAST_SECONDS", 0.1)
    shutil.copy(next(iter(recordings.values())), tmp_path)
    words = ("watch", tmp_path, "--once", "--interval", "0.01", "--webhook", "http://127.0.0.1:9/", "--detector")
    status, out, _ = asd(monkeypatch, capsys, *words, with_threshold(detectors, tmp_path, 0.0))
    assert status == 1
    assert out.endswith("ALARM\n")
    assert json.loads((tmp_path / "asd.jsonl").read_text())["alarm"]
    assert "--webhook http://127.0.0.1:9: alarms that are not delivered: 1; the log has them" in caplog.text


@pytest.mark.parametrize("gain", [1, 3])
def test_another_gain_is_said_once_and_a_few_anomalies_are_none(tmp_path, monkeypatch, capsys, caplog, gain):
    cli.fit(normals(tmp_path / "fan", 12), out=tmp_path / "fan.zip")
    inbox = normals(tmp_path / "inbox", 24, seed=1)
    for number, path in enumerate(sorted(inbox.iterdir())):
        sound = soundfile.read(path)[0]
        fault = 0.5 * np.sin(np.arange(16000)) if number % 4 == 0 else 0
        soundfile.write(path, gain * sound + fault, 16000)
    caplog.clear()
    capsys.readouterr()
    words = ("--detector", tmp_path / "fan.zip", inbox)
    _, out, _ = asd(monkeypatch, capsys, "score", "--format", "jsonl", *words)
    _, seen, _ = asd(monkeypatch, capsys, "watch", "--once", "--interval", "0.01", *words)
    rows = [json.loads(line) for line in out.splitlines()]
    assert sum(row["decision"] == "anomalous" for row in rows) >= 6
    assert len(seen.splitlines()) == 24
    said = [message for message in caplog.messages if "as a whole" in message]
    if gain == 1:
        assert said == []
        return
    at_once, watched = said
    assert at_once.startswith("section 00: the 24 recordings are as a whole 9.")
    assert watched.startswith("section 00: the last 20 recordings are as a whole 9.")
    assert "dB louder than the training recordings" in watched
