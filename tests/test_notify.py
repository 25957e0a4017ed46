"""Alarms: when one is raised, and what becomes of it if its receiver is well, slow, down or wrong."""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from asd import notify
from asd.errors import InputError
from asd.notify import Alarms


class Receiver:
    """A web server on loopback; `statuses` are its next answers (then 200), None is none at all until the end."""

    def __init__(self, port: int = 0, statuses: tuple[int | None, ...] = ()):
        self.alarms: list[dict] = []
        self.headers: list[str] = []
        self.statuses = list(statuses)
        self.over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.statuses.pop(0) if receiver.statuses else 200
                if status is None:
                    receiver.over.wait()
                    return
                if status == 200:
                    receiver.alarms.append(json.loads(content))
                    receiver.headers.append(self.headers["Content-Type"])
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/hook?key=secret"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(self, *_):
        self.over.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    """The same course of events in less time."""
    monkeypatch.setattr(notify, "SECONDS", 0.2)
    monkeypatch.setattr(notify, "RUN_SECONDS", 10.0)
    monkeypatch.setattr(notify, "LAST_SECONDS", 5.0)
    monkeypatch.setattr(notify, "WAITS", (0.02, 0.05))


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(condition: Callable[[], bool]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen")


@pytest.mark.parametrize(
    ("after", "decisions", "expected"),
    [
        (1, "aanaa", "10010"),
        (3, "aanaaaaan", "000001000"),
        (2, "a-a-ana", "0010000"),  # what is not decided neither counts nor ends the row
    ],
)
def test_one_alarm_per_row(after, decisions, expected):
    words = {"a": "anomalous", "n": "normal", "-": None}
    alarms = Alarms(after, None, None)
    assert "".join(str(int(alarms.raised(words[one]))) for one in decisions) == expected
    for begun in range(len(decisions)):  # a restart at any place goes on in the same way
        again = Alarms(after, None, None, [words[one] for one in decisions[:begun]])
        rest = "".join(str(int(again.raised(words[one]))) for one in decisions[begun:])
        assert rest == expected[begun:]


def test_an_alarm_is_posted_as_json():
    with Receiver() as receiver:
        alarms = Alarms(1, None, receiver.url)
        sent = [{"file": "Lüfter; rm -rf *.wav", "score": 1.5}, {"file": os.fsdecode(b"\xfc.wav"), "worst": None}]
        for one in sent:
            alarms.tell(one)
        assert alarms.close() == 0
        assert receiver.alarms == sent
        assert set(receiver.headers) == {"application/json"}


def test_a_receiver_that_fails_or_hangs_for_a_while_gets_all_alarms_in_order(caplog):
    with Receiver(statuses=(500, None, 503, 429)) as receiver:
        alarms = Alarms(1, None, receiver.url)
        for number in range(3):
            alarms.tell({"number": number})
        assert alarms.close() == 0
        assert [one["number"] for one in receiver.alarms] == [0, 1, 2]
    assert "an alarm is not delivered yet: the answer is 500 Internal Server Error; more tries follow" in caplog.text
    assert "the alarm is delivered, with try 5" in caplog.text
    assert "secret" not in caplog.text  # the address may be a password


def test_a_receiver_that_is_down_gets_the_alarms_when_it_is_up_again(caplog):
    port = closed_port()
    alarms = Alarms(1, None, f"http://127.0.0.1:{port}/")
    alarms.tell({"number": 0})
    alarms.tell({"number": 1})
    until(lambda: "Connection refused; more tries follow" in caplog.text)
    with Receiver(port) as receiver:
        until(lambda: len(receiver.alarms) == 2)
        assert alarms.close() == 0


@pytest.mark.parametrize("kind", ["down", "hangs"])
def test_what_is_not_delivered_at_the_end_is_said(kind, monkeypatch, caplog, capsys):
    monkeypatch.setattr(notify, "LAST_SECONDS", 0.3)
    with Receiver(statuses=(None,) * 100) as receiver:
        url = receiver.url if kind == "hangs" else f"http://127.0.0.1:{closed_port()}"
        alarms = Alarms(1, None, url)
        for number in range(3):
            alarms.tell({"number": number})
        assert alarms.close() == 3
    assert "alarms that are not delivered: 3; the log has them" in caplog.text
    assert "s for the last alarms" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "said"), [(404, "404 Not Found"), (302, "302 Found")])
def test_an_answer_that_further_tries_will_not_change_ends_them(status, said, caplog):
    with Receiver(statuses=(status,)) as receiver:
        alarms = Alarms(1, None, receiver.url)
        alarms.tell({"number": 0})
        alarms.tell({"number": 1})
        assert alarms.close() == 1
        assert receiver.alarms == [{"number": 1}]
    assert f"an alarm is not delivered: the answer is {said}" in caplog.text


def test_more_alarms_than_are_kept_are_said(monkeypatch, caplog):
    monkeypatch.setattr(notify, "KEPT", 2)
    with Receiver(statuses=(None,)) as receiver:
        alarms = Alarms(1, None, receiver.url)
        for number in range(5):
            alarms.tell({"number": number})
        lost = caplog.text.count("2 alarms are waiting; one more is not delivered")
        assert lost in (2, 3)  # the first may or may not be on its way
        until(lambda: len(receiver.alarms) == 5 - lost)
        assert alarms.close() == lost


def test_a_program_gets_the_alarm_and_its_arguments_as_they_are(tmp_path, capfd):
    code = "import json, sys; print(json.dumps([sys.argv[1:], json.load(sys.stdin)]))"
    words = ["-x", "a b", "$(touch hacked)", "*", "'"]
    alarms = Alarms(1, notify.shlex.join([sys.executable, "-c", code, *words]), None)
    alarm = {"file": "$(touch hacked); `touch hacked`.wav"}
    alarms.tell(alarm)
    assert alarms.close() == 0
    said = capfd.readouterr()
    assert json.loads(said.err.splitlines()[-1]) == [words, alarm]
    assert said.out == ""


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit(7)", "its exit status is 7"),
        ("import os, time; os.fork(); time.sleep(60)", "it took longer than 0.5 s and was killed"),
    ],
)
def test_a_program_that_fails_or_hangs_is_said_and_the_next_alarm_runs_it_again(code, said, monkeypatch, caplog):
    monkeypatch.setattr(notify, "RUN_SECONDS", 0.5)
    alarms = Alarms(1, notify.shlex.join([sys.executable, "-c", code]), None)
    alarms.tell({})
    alarms.tell({})
    assert alarms.close() == 2
    assert caplog.text.count(f"an alarm is not delivered: {said}") == 2


def test_a_receiver_that_hangs_does_not_hold_up_the_other(tmp_path):
    with Receiver(statuses=(None,) * 100) as receiver:
        alarms = Alarms(1, f"cp /dev/stdin {tmp_path}/alarm.json", receiver.url)
        alarms.tell({"number": 0})  # which waits for neither
        until((tmp_path / "alarm.json").exists)
        until(lambda: (tmp_path / "alarm.json").read_text() == '{"number": 0}\n')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, None, None), "--after: found 0; expected a number of recordings in a row, at least 1"),
        ((1, "", None), "--exec: found nothing; expected a program and its arguments, at the end of the command"),
        ((1, "'no such program' x", None), "--exec: found 'no such program', which is no program that can be run"),
        (
            (1, None, "localhost:8000"),
            "--webhook: found 'localhost:8000'; expected an address that begins with http://",
        ),
        ((1, None, "ftp://host/x"), "--webhook: found 'ftp://host/x'; expected"),
        ((1, None, "http://host:port/x"), "--webhook: found 'http://host:port/x'; expected"),
        ((1, None, "http://[::1/x"), "--webhook: found 'http://.::1/x'; expected"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_scored(arguments, message):
    with pytest.raises(InputError, match=message):
        Alarms(*arguments)
