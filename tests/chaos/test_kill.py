"""The short form of kill.py, and what a full disk and an unreadable or damaged file do to a job."""

from kill import disturb


def test_whatever_is_killed_the_same_command_ends_with_the_same_tables(tmp_path):
    count = disturb(tmp_path, kills=2, seed=5, longest=20)
    assert count.of_jobs + count.of_snakemake == 2
    assert count.completed >= 1
