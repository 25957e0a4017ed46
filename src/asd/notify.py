"""Alarms about anomalous recordings: a program is run, or a web address gets a request.

Both get one object of JSON. Each has a thread of its own, so that scoring continues while a receiver is slow or down.
"""

import contextlib
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from queue import Full, Queue
from urllib.parse import urlsplit

from asd.errors import InputError

log = logging.getLogger(__name__)

SECONDS = 10.0
"""Time for a web address to take the connection, and again to answer."""

RUN_SECONDS = 30.0
"""Time for a program; then it is killed, with the programs that it started."""

WAITS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds between one try and the next; the last is repeated."""

LAST_SECONDS = 30.0
"""Time for what is still to be delivered when the command ends."""

KEPT = 1000
"""Alarms that wait for a receiver; further ones are not delivered."""

Deliver = Callable[[bytes], None]


class Undelivered(Exception):
    """An alarm that a receiver did not take.

    Args:
        why: the reason.
        again: whether another try may succeed.
    """

    def __init__(self, why: str, again: bool) -> None:
        super().__init__(why)
        self.again = again


def post(url: str, alarm: bytes) -> None:
    """Send an alarm to a web address (HTTP POST).

    Args:
        url: the address.
        alarm: the JSON.

    Raises:
        Undelivered: no connection, no answer in time, or an answer other than 2xx. Another try follows if the receiver
            may work later: not after answers of 3xx and 4xx, except for 408 (time-out) and 429 (too many requests).
    """
    import requests

    try:
        headers = {"Content-Type": "application/json"}
        # A redirected POST would become a GET without the alarm.
        with requests.post(
            url, data=alarm, headers=headers, timeout=SECONDS, allow_redirects=False, stream=True
        ) as answer:
            status = answer.status_code
    except requests.Timeout:
        raise Undelivered(f"no answer within {SECONDS:g} s", again=True) from None
    except requests.RequestException as error:
        raise Undelivered(_reason(error), again=not isinstance(error, ValueError)) from None  # an address that is none
    if not 200 <= status < 300:
        raise Undelivered(f"the answer is {status} {answer.reason}", again=status >= 500 or status in (408, 429))


def _reason(error: BaseException) -> str:
    """The innermost reason of an error of requests, without the address, which may contain a password."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return (error.strerror if isinstance(error, OSError) else "") or type(error).__name__


def run(command: list[str], alarm: bytes) -> None:
    """Run a program with an alarm on its standard input. What it prints goes to standard error.

    Args:
        command: the program and its arguments.
        alarm: the JSON.

    Raises:
        Undelivered: the program cannot be started, fails, or takes too long. It is not run again, since it may have
            done a part of its work.
    """
    try:
        # In a session of its own: Ctrl-C, which ends asd, does not interrupt it.
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sys.__stderr__, start_new_session=True)
    except OSError as error:
        raise Undelivered(f"it cannot be started: {error.strerror}", again=False) from None
    with process:
        try:
            process.communicate(alarm + b"\n", timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise Undelivered(f"it took longer than {RUN_SECONDS:g} s and was killed", again=False) from None
    if process.returncode:
        raise Undelivered(f"its exit status is {process.returncode}", again=False)


class _Receiver:
    """Delivers alarms one after another, in a thread of its own."""

    def __init__(self, name: str, deliver: Deliver) -> None:
        self.name, self.deliver = name, deliver
        self.waiting: Queue[bytes | None] = Queue(KEPT)
        self.ending = threading.Event()
        self.lost = 0
        # A daemon: a receiver that hangs cannot keep the command from ending.
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def tell(self, alarm: bytes) -> None:
        """Deliver an alarm soon."""
        try:
            self.waiting.put_nowait(alarm)
        except Full:
            self.lost += 1
            log.error("%s: %d alarms are waiting; one more is not delivered", self.name, KEPT)

    def _work(self) -> None:
        while (alarm := self.waiting.get()) is not None:
            self._deliver(alarm)
            self.waiting.task_done()
        self.waiting.task_done()

    def _deliver(self, alarm: bytes) -> None:
        tries = 0
        while True:
            tries += 1
            try:
                self.deliver(alarm)
            except Undelivered as fault:
                if not fault.again:
                    self.lost += 1
                    log.error("%s: an alarm is not delivered: %s", self.name, fault)
                    return
                if tries == 1:
                    log.warning("%s: an alarm is not delivered yet: %s; more tries follow", self.name, fault)
                # At the end there is no time for long waits.
                self.ending.wait(WAITS[min(tries, len(WAITS)) - 1])
                if self.ending.is_set():
                    time.sleep(WAITS[0])
            else:
                if tries > 1:
                    log.warning("%s: the alarm is delivered, with try %d", self.name, tries)
                return

    def close(self, until: float) -> int:
        """Wait for what is to be delivered, at most until a time of the monotonic clock; return how many were lost."""
        self.ending.set()
        with contextlib.suppress(Full):
            self.waiting.put_nowait(None)
        if self.waiting.unfinished_tasks > 1:
            left = until - time.monotonic()
            print(f"{self.name}: waiting up to {left:.0f} s for the last alarms", file=sys.stderr, flush=True)
        self.thread.join(max(0.0, until - time.monotonic()))
        if self.thread.is_alive():
            left = sum(alarm is not None for alarm in self.waiting.queue) + 1
            self.lost += left
            log.error("%s: alarms that are not delivered: %d; the log has them", self.name, left)
        return self.lost


class Alarms:
    """Tells receivers when there are several anomalous recordings in a row.

    There is one alarm per row: the next one follows only after a normal recording. Recordings without a decision are
    not counted.
    """

    def __init__(
        self, after: int, program: str | None, webhook: str | None, decisions: Iterable[str | None] = ()
    ) -> None:
        """Start the threads of the receivers.

        Args:
            after: number of anomalous recordings in a row that raise an alarm.
            program: a program and its arguments, written as `shlex.join` writes them; None for none.
            webhook: a web address; None for none.
            decisions: of the recordings before, for example, before a restart.

        Raises:
            InputError: the number is below 1, the program does not exist, or the address is not valid.
        """
        if after < 1:
            raise InputError(f"--after: found {after}; expected a number of recordings in a row, at least 1")
        self.after, self.row = after, 0
        receivers: list[tuple[str, Deliver]] = []
        if program is not None:
            receivers.append(_program(program))
        if webhook is not None:
            receivers.append(_webhook(webhook))
        self.receivers = [_Receiver(*one) for one in receivers]
        for decision in decisions:
            self.raised(decision)

    def raised(self, decision: str | None) -> bool:
        """Count a decision; return whether it raises an alarm.

        Args:
            decision: anomalous, normal, or None.
        """
        if decision is not None:
            self.row = self.row + 1 if decision == "anomalous" else 0
        return decision is not None and self.row == self.after

    def tell(self, alarm: dict) -> None:
        """Tell all receivers about an alarm, which JSON can write."""
        text = json.dumps(alarm).encode("ascii")
        for receiver in self.receivers:
            receiver.tell(text)

    def close(self) -> int:
        """Wait some time for what is to be delivered; return how many alarms a receiver did not get."""
        until = time.monotonic() + LAST_SECONDS
        return sum(receiver.close(until) for receiver in self.receivers)


def _program(program: str) -> tuple[str, Deliver]:
    command = shlex.split(program)
    if not command:
        raise InputError("--exec: found nothing; expected a program and its arguments, at the end of the command")
    if not shutil.which(command[0]):
        raise InputError(
            f"--exec: found {command[0]!r}, which is no program that can be run; expected its name or path and, as "
            "words of their own, its arguments"
        )
    return f"--exec {command[0]}", lambda alarm: run(command, alarm)


def _webhook(url: str) -> tuple[str, Deliver]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:  # a port that is no number, a bracket that is open
        parts, host, port = urlsplit(""), None, None
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(f"--webhook: found {url!r}; expected an address that begins with http:// or https://")
    # Only the host: path and query of such addresses often are the password.
    name = f"--webhook {parts.scheme}://{host}" + (f":{port}" if port else "")
    return name, lambda alarm: post(url, alarm)
