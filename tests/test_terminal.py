"""What a run says on the terminal: enough, and no more."""

import random

import pytest

from asd.terminal import Job, Progress, duration, earlier_seconds


def run(**jobs: tuple) -> tuple[Progress, dict[str, int]]:
    """A run of jobs (stage, machine, earlier) that begins at 100 s, and their numbers by name."""
    numbers = {name: number for number, name in enumerate(jobs, 1)}
    named = {
        numbers[name]: Job(stage, machine, name, earlier=earlier) for name, (stage, machine, earlier) in jobs.items()
    }
    return Progress(named, 100), numbers


def test_a_line_when_the_last_job_of_a_stage_and_machine_has_ended():
    progress, number = run(
        a=("train", "fan", None), b=("train", "fan", None), c=("train", "valve", None), d=("tables", "", None)
    )
    progress.begin([number["a"], number["b"], 77], 101)
    assert progress.end(number["a"], 103) == ""
    # c is expected to take (2 + 4) / 2 s, d as long; 6 s of work were done in 5 s.
    assert progress.end(number["b"], 105) == "2 of 4  train   fan    6 s in 2 jobs, about 5 s left"
    progress.begin([number["c"]], 105)
    assert progress.end(number["c"], 165.4).startswith("3 of 4  train   valve  60 s, about ")
    assert progress.end(77, 165.4) == ""
    progress.begin([number["d"]], 166)
    assert progress.end(number["d"], 166) == "4 of 4  tables         0 s"


def test_the_time_left_is_that_of_earlier_runs_until_this_one_says_more():
    progress, number = run(a=("train", "fan", 50.0), b=("train", "valve", 70.0), c=("tables", "", None))
    assert progress.left(100) is None
    assert progress.left(101) == pytest.approx(50 + 70 + 60)
    progress.begin([number["a"], number["b"]], 101)
    assert progress.left(111) == pytest.approx((40 + 60 + 60) / (20 / 11))  # 20 s of work in 11 s
    progress.end(number["a"], 121)
    # Training takes 20 s now, of which b has spent 20; tables as long.
    assert progress.left(121) == pytest.approx(20 / (40 / 21))


def expected_left(progress: Progress, now: float) -> float | None:
    """The time that is left from all jobs one by one, as `Progress.left` describes it."""
    done = [job for job in progress.jobs.values() if job.took is not None]
    coming = [job for job in progress.jobs.values() if job.took is None]
    times = []
    for job in coming:
        same = [one.took for one in done if one.stage == job.stage]
        times.append(sum(same) / len(same) if same else job.earlier)
    known = [one for one in times if one is not None]
    if 2 * (len(done) + len(known)) < len(progress.jobs):
        return None
    usual = sum(known) / len(known) if known else sum(job.took for job in done) / len(done)
    spent = [0 if job.begun is None else now - job.begun for job in coming]
    rest = sum(max((usual if one is None else one) - gone, 0) for one, gone in zip(times, spent, strict=True))
    return rest / max((sum(job.took for job in done) + sum(spent)) / (now - progress.began), 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_time_left_is_that_of_all_jobs_one_by_one(seed):
    rng = random.Random(seed)
    jobs = {
        number: Job(rng.choice("abcd"), rng.choice("xyz"), earlier=rng.choice([None] * 4 + [rng.uniform(1, 50)]))
        for number in range(60)
    }
    progress, now, seen = Progress(jobs, 0), 0.0, set()
    while any(job.took is None for job in jobs.values()):
        now += rng.uniform(0, 10)
        number = rng.choice([number for number, job in jobs.items() if job.took is None])
        if jobs[number].begun is None and rng.random() < 0.9:
            progress.begin([number], now)
        elif rng.random() < 0.2:
            progress.fail(number)
        else:
            progress.end(number, now)
        expected = expected_left(progress, now)
        seen.add(expected is None)
        assert progress.left(now) == (None if expected is None else pytest.approx(expected))
    assert seen == {True, False}


def test_nothing_is_promised_while_most_is_unknown():
    progress, number = run(a=("download", "", None), b=("train", "", None), c=("train", "x", None))
    progress.begin([number["a"]], 100)
    assert progress.end(number["a"], 101) == "1 of 3  download     1 s"


def test_what_a_run_waits_for(tmp_path):
    progress, number = run(a=("train", "fan", None), b=("score", "fan", None))
    assert progress.waiting(101) == ""
    progress.jobs[number["a"]].log = tmp_path / "log"
    progress.begin([number["b"]], 102)
    progress.begin([number["a"]], 101)
    assert progress.waiting(103) == "0 of 2  running: train a fan and 1 more"
    (tmp_path / "log").write_text("INFO device cpu\nINFO epoch 3 of 10: loss 0.5, 15 s left\n\n")
    assert progress.waiting(103) == "0 of 2  running: train a fan (epoch 3 of 10: loss 0.5, 15 s left) and 1 more"


def test_warnings_in_the_logs_are_counted(tmp_path):
    progress, number = run(a=("score", "fan", None), b=("score", "fan", None))
    for name in "ab":
        progress.jobs[number[name]].log = tmp_path / name
    (tmp_path / "a").write_text("INFO WARNING\n")
    (tmp_path / "b").write_text("WARNING few clips\nINFO\nWARNING fewer clips\n")
    progress.begin(progress.jobs, 100)
    progress.end(number["a"], 101)
    assert progress.end(number["b"], 102) == f"2 of 2  score  fan  3 s in 2 jobs; 2 warnings, see {tmp_path / 'b'}"


def test_a_failed_job_is_said_with_the_end_of_its_log(tmp_path):
    progress, number = run(a=("train", "fan", None), b=("tables", "", None))
    progress.jobs[number["a"]].log = tmp_path / "log"
    assert progress.fail(number["a"]) == f"failed: train a fan; {tmp_path / 'log'} says nothing"
    (tmp_path / "log").write_bytes(b"\n".join(f"{line}".encode() for line in range(100)) + b"\xff")
    shown = progress.fail(number["a"]).splitlines()
    assert shown[0] == f"failed: train a fan; the end of {tmp_path / 'log'}:"
    assert [line.strip() for line in shown[1:]] == [*map(str, range(80, 99)), "99�"]
    assert progress.fail(number["b"]) == "failed: tables b"


def test_a_failed_job_shows_its_warnings_however_far_above_the_end_they_are(tmp_path):
    progress, number = run(a=("train", "fan", None))
    progress.jobs[number["a"]].log = tmp_path / "log"
    steps = "".join(f"INFO epoch {epoch}\n" for epoch in range(100))
    (tmp_path / "log").write_text("WARNING no checkpoint\n" + steps + "error: disk full\n")
    shown = progress.fail(number["a"]).splitlines()[1:]
    assert [line.strip() for line in shown] == ["WARNING no checkpoint", "INFO epoch 99", "error: disk full"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("s\th:m:s\n12.5\t0:00:12\n", 12.5),
        ("s\th:m:s\n", None),
        ("", None),
        ("h:m:s\n0:00:12\n", None),
        ("s\n-\n", None),
    ],
)
def test_earlier_seconds_are_those_of_a_benchmark_file(tmp_path, text, seconds):
    (tmp_path / "benchmark.tsv").write_text(text)
    assert earlier_seconds(tmp_path / "benchmark.tsv") == seconds


def test_without_a_benchmark_file_nothing_is_known(tmp_path):
    assert earlier_seconds(tmp_path / "none.tsv") is earlier_seconds(None) is None


def test_durations_are_in_words():
    assert [duration(one) for one in (0.4, 99.4, 100, 5999, 6000)] == ["0 s", "99 s", "2 min", "100 min", "1.7 h"]
