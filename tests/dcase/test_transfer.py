"""Files from a server that misbehaves: in the end the right bytes, or a clear error and a second run that finishes."""

import hashlib
import logging
import random
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from server import Fault, Server, file_path

from asd.dcase import transfer
from asd.dcase.transfer import Remote, fetch_all, listing, part
from asd.errors import InputError

CONTENT = random.Random(1).randbytes(50_000)
PATH = file_path("1", "a.zip")


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(transfer, "CHUNK", 1000)
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        server.publish("1", {"a.zip": CONTENT})
        yield server


@pytest.fixture
def fetch(server, tmp_path):
    """Fetch a.zip as its record lists it; returns the pauses."""

    def run(size: int = len(CONTENT), md5: str = hashlib.md5(CONTENT).hexdigest()) -> list[float]:
        pauses: list[float] = []
        fetch_all({tmp_path / "a.zip": Remote(server.url + PATH, size, md5)}, "fan", 2, pauses.append)
        assert (tmp_path / "a.zip").read_bytes() == CONTENT
        assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
        return pauses

    return run


def test_a_server_that_behaves(server, fetch):
    assert fetch() == []
    assert server.asked == [(PATH, "")]
    assert not any("python-requests" in agent for agent in server.agents)


# --- what passes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [False, True])
def test_a_connection_cut_at_random_bytes_is_taken_up_there(server, fetch, reset):
    dice = random.Random(2)
    cuts = [dice.randrange(1000, 20_000) for _ in range(4)]
    server.faults[PATH] = [Fault(cut=cut, reset=reset) for cut in cuts]
    pauses = fetch()
    ranges = [int(asked.removeprefix("bytes=").removesuffix("-") or 0) for _, asked in server.asked]
    assert ranges == sorted(ranges)
    assert len(ranges) == len(pauses) + 1
    if not reset:  # which may lose what is on the way; a plain end loses less than the bytes read at a time
        done = [sum(cut // transfer.CHUNK for cut in cuts[:i]) * transfer.CHUNK for i in range(len(ranges))]
        assert ranges == done


def test_pauses_grow_while_nothing_comes(server, fetch):
    server.faults[PATH] = [Fault(status=503), Fault(status=503), Fault(cut=3000), Fault(status=500), Fault(cut=0)]
    assert fetch() == [1, 2, 1, 2, 4]  # a byte gained starts them anew


def test_a_busy_server_says_how_long_to_wait(server, fetch):
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    server.faults[PATH] = [
        Fault(status=429, headers={"Retry-After": "7"}),
        Fault(status=503, headers={"Retry-After": later}),
        Fault(status=429, headers={"Retry-After": "86400"}),
        Fault(status=429, headers={"Retry-After": "soon"}),
    ]
    pauses = fetch()
    assert pauses[0] == 7
    assert pauses[1] == pytest.approx(120, abs=10)
    assert pauses[2:] == [transfer.LONGEST_WAIT, 8]


@pytest.mark.parametrize("no_length", [False, True])
def test_a_server_that_ignores_range_cannot_spoil_what_is_there(server, fetch, tmp_path, no_length):
    part(tmp_path / "a.zip").write_bytes(CONTENT[:20_000])
    server.faults[PATH] = [Fault(no_range=True, cut=30_000), Fault(no_range=True, no_length=no_length)]
    fetch()
    assert server.asked == [(PATH, "bytes=20000-"), (PATH, "bytes=30000-")]


def test_a_server_that_falls_silent(server, fetch, monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", (5.0, 0.1))
    server.faults[PATH] = [Fault(cut=10_000, stall=0.5)]
    assert fetch() == [1]
    assert server.asked[1] == (PATH, "bytes=10000-")


def test_an_answer_without_a_length_that_ends_early(server, fetch):
    server.faults[PATH] = [Fault(no_length=True, cut=12_345)]
    assert fetch() == [1]
    assert server.asked[1] == (PATH, "bytes=12345-")


def test_a_wrong_byte_on_the_way(server, fetch):
    wrong = bytearray(CONTENT)
    wrong[33_333] ^= 1
    server.faults[PATH] = [Fault(body=bytes(wrong))]
    fetch()
    assert server.asked == [(PATH, ""), (PATH, "")]


def test_the_beginning_of_another_file(server, fetch, tmp_path):
    part(tmp_path / "a.zip").write_bytes(bytes(10_000))
    fetch()
    assert server.asked == [(PATH, "bytes=10000-"), (PATH, "")]


def test_more_than_the_file_is_there(server, fetch, tmp_path):
    part(tmp_path / "a.zip").write_bytes(CONTENT + b"more")
    fetch()


def test_all_is_there_but_the_name(server, fetch, tmp_path):
    part(tmp_path / "a.zip").write_bytes(CONTENT)
    fetch()
    assert server.asked == []


def test_no_byte_more_than_announced_is_taken(server, fetch):
    server.always[PATH] = Fault(endless=True)
    fetch()


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    there=st.integers(0, len(CONTENT)),
    faults=st.lists(
        st.builds(
            Fault,
            status=st.sampled_from([0, 0, 0, 0, 500, 502, 503, 504, 408, 429]),
            cut=st.none() | st.integers(0, len(CONTENT)),
            reset=st.booleans(),
            no_range=st.booleans(),
            no_length=st.booleans(),
        ),
        max_size=transfer.ATTEMPTS - 1,
    ),
)
def test_whatever_passes_the_bytes_are_right(server, fetch, tmp_path, there, faults):
    (tmp_path / "a.zip").unlink(missing_ok=True)
    part(tmp_path / "a.zip").write_bytes(CONTENT[:there])
    server.faults[PATH] = faults
    fetch()


# --- what does not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_given_up_at_once(server, fetch, tmp_path, status):
    server.faults[PATH] = [Fault(status=status)]
    with pytest.raises(InputError, match=rf"{PATH}: the server answered {status}"):
        fetch()
    assert len(server.asked) == 1
    assert not list(tmp_path.iterdir())
    fetch()


def test_given_up_after_many_attempts_and_taken_up_by_a_second_run(server, fetch, tmp_path):
    server.faults[PATH] = [Fault(cut=20_000)] + [Fault(status=503)] * transfer.ATTEMPTS
    with pytest.raises(InputError, match=r"answered 503.* given up after 8 attempts.*dataset\.published\.archives"):
        fetch()
    assert part(tmp_path / "a.zip").read_bytes() == CONTENT[:20_000]
    server.faults[PATH] = []
    fetch()
    assert server.asked[-1] == (PATH, "bytes=20000-")


def test_a_connection_that_is_always_cut_at_the_same_byte(server, fetch):
    server.always[PATH] = Fault(no_range=True, cut=20_000)
    with pytest.raises(InputError, match="given up after 8 attempts"):
        fetch()
    assert len(server.asked) == 1 + transfer.ATTEMPTS - 1
    del server.always[PATH]
    fetch()


@pytest.mark.parametrize("body", [CONTENT[:-1], b"", CONTENT + b"more", b"<html>please log in</html>"])
@pytest.mark.parametrize("there", [0, 10_000])
def test_a_file_of_another_length(server, fetch, tmp_path, body, there):
    part(tmp_path / "a.zip").write_bytes(CONTENT[:there])
    server.always[PATH] = Fault(body=body)
    with pytest.raises(InputError, match=rf"found a file of {len(body)} bytes .*, expected 50000"):
        fetch()
    assert len(server.asked) == 1
    del server.always[PATH]
    fetch()


def test_a_wrong_byte_that_stays(server, fetch, tmp_path):
    wrong = bytearray(CONTENT)
    wrong[33_333] ^= 1
    server.always[PATH] = Fault(body=bytes(wrong))
    with pytest.raises(InputError, match=r"found the md5 [0-9a-f]{32}, expected [0-9a-f]{32}, twice"):
        fetch()
    assert not list(tmp_path.iterdir())
    del server.always[PATH]
    fetch()


def test_endless_rubbish(server, fetch):
    server.always[PATH] = Fault(body=b"x", endless=True)
    with pytest.raises(InputError, match="found the md5"):
        fetch()
    del server.always[PATH]
    fetch()


def test_ranges_that_make_no_sense(server, fetch, tmp_path):
    part(tmp_path / "a.zip").write_bytes(CONTENT[:100])
    for answer in ("bytes 200-49999/50000", "words", "bytes */50000"):
        server.faults[PATH].append(Fault(status=206, headers={"Content-Range": answer}))
    assert fetch() == [1, 2, 4]


def test_nobody_there(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    with Server() as server:
        url = server.url
    with pytest.raises(InputError, match=r"no connection.*dataset\.published\.archives"):
        fetch_all({tmp_path / "a.zip": Remote(url, 1, "")}, "fan", 1, lambda _: None)


def test_addresses_that_are_none(tmp_path):
    for url in ("http://", "http://a b/", "http://[1/"):
        with pytest.raises(InputError, match="base_url"):
            fetch_all({tmp_path / "a.zip": Remote(url, 1, "")}, "fan", 1, lambda _: None)


def test_a_certificate_that_is_not_trusted(monkeypatch, tmp_path):
    import requests

    def refuse(*_, **__):
        raise requests.exceptions.SSLError("[SSL: CERTIFICATE_VERIFY_FAILED]")

    monkeypatch.setattr(requests, "get", refuse)
    with pytest.raises(InputError, match="REQUESTS_CA_BUNDLE"):
        fetch_all({tmp_path / "a.zip": Remote("https://127.0.0.1/", 1, "")}, "fan", 1, lambda _: None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk here")
def test_a_full_disk(fetch, tmp_path):
    part(tmp_path / "a.zip").symlink_to("/dev/full")
    with pytest.raises(InputError, match="the disk is full"):
        fetch()
    part(tmp_path / "a.zip").unlink()
    fetch()


# --- several files ------------------------------------------------------------------------------------------


def test_several_files_and_one_that_fails(server, tmp_path):
    others = {f"{i}.zip": random.Random(i).randbytes(30_000) for i in range(6)}
    server.publish("2", others)
    files = {tmp_path / name: remote for name, remote in listing(server.url, "2").items()}
    server.faults[file_path("2", "3.zip")] = [Fault(status=404)]
    with pytest.raises(InputError, match=r"3\.zip: the server answered 404"):
        fetch_all(files, "fan", 3, lambda _: None)
    fetch_all(files, "fan", 3, lambda _: None)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == others


def test_the_others_stop_when_one_fails(server, tmp_path):
    """One waits for a busy server; it does not wait on when another is not there at all."""
    server.publish("2", {"busy.zip": CONTENT})
    server.always[file_path("2", "busy.zip")] = Fault(status=429, headers={"Retry-After": "500"})
    files = {tmp_path / "busy.zip": listing(server.url, "2")["busy.zip"], tmp_path / "b": Remote(server.url, 1, "")}
    with pytest.raises(InputError, match="answered 404"):
        fetch_all(files, "fan", 2)


def test_progress_in_a_log_and_on_a_terminal(fetch, tmp_path, caplog, capsys, monkeypatch):
    monkeypatch.setattr(transfer, "PERIOD", 0.0)
    part(tmp_path / "a.zip").write_bytes(CONTENT[:10_000])
    with caplog.at_level(logging.INFO):
        fetch()
    lines = [record.message for record in caplog.records if record.message.startswith("fan: ")]
    assert lines[-1].startswith("fan: 0.1 of 0.1 MB, ")
    assert "s left" in lines[0]
    (tmp_path / "a.zip").unlink()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    fetch()
    assert "fan: 100%" in capsys.readouterr().err


# --- listings -----------------------------------------------------------------------------------------------


def test_a_listing(server):
    remote = Remote(server.url + PATH, len(CONTENT), hashlib.md5(CONTENT).hexdigest())
    assert listing(server.url, "1") == {"a.zip": remote}


def test_a_listing_after_some_failures(server):
    server.faults["/api/records/1"] = [
        Fault(status=503),
        Fault(cut=20),
        Fault(status=429, headers={"Retry-After": "9"}),
    ]
    pauses: list[float] = []
    assert list(listing(server.url, "1", pauses.append)) == ["a.zip"]
    assert pauses == [1, 2, 9]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<html></html>", "not a listing"),
        (b"[]", "not a listing"),
        (b'{"files": 3}', "not a listing"),
        (b'{"files": [3]}', "not a listing"),
        (b'{"files": [{"key": "a"}]}', "not a listing"),
        (b'{"files": [{"key": "a", "size": 0, "checksum": "md5:%s"}]}' % (b"0" * 32), "not a listing"),
        (b'{"files": [{"key": "a", "size": "1", "checksum": "md5:%s"}]}' % (b"0" * 32), "not a listing"),
        (b'{"files": [{"key": "a", "size": 1, "checksum": "sha256:00"}]}', "not a listing"),
        (b'{"files": [{"key": "a", "size": 1, "checksum": 3}]}', "not a listing"),
        (b"\xff\xfe", "not a listing"),
    ],
)
def test_what_is_no_listing(server, body, expected):
    server.files["/api/records/1"] = body
    with pytest.raises(InputError, match=expected):
        listing(server.url, "1")


def test_a_listing_that_does_not_end(server, monkeypatch):
    monkeypatch.setattr(transfer, "LISTING_LIMIT", 5000)
    server.faults["/api/records/1"] = [Fault(body=b" ", endless=True)]
    with pytest.raises(InputError, match="longer than 5000 bytes"):
        listing(server.url, "1")


def test_a_proxy_from_the_environment(server, monkeypatch, tmp_path):
    """The proxy is asked for another host's files: nothing else could answer for it."""
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", server.url)
    remotes = listing("http://records.invalid", "1")
    fetch_all({tmp_path / "a.zip": remotes["a.zip"]}, "fan", 1)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
