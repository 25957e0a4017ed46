"""Download files from a server that may fail: continue after interruptions, try again if that may help, and verify.

requests handles redirects, certificates and proxies. This module does what requests leaves to its users: it continues
with an incomplete file (HTTP Range), also after the process was ended; it pauses longer after each failure, or as long
as the server asks; it gives up at once if waiting cannot help; and it accepts no more bytes than were announced.
"""

import errno
import hashlib
import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from asd.errors import InputError

if TYPE_CHECKING:
    import requests

ATTEMPTS = 8
"""Failures in a row without any progress after which a file is given up: two minutes of pauses."""

LONGEST_PAUSE = 60.0
LONGEST_WAIT = 600.0
"""Longest pauses in seconds: our own, which double from 1, and those that a server asks for (Retry-After)."""

TIMEOUT = (20.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes."""

CHUNK = 1 << 16
LISTING_LIMIT = 1 << 24
"""Bytes that are read at a time (and lost if a connection breaks), and the largest size of a record's listing."""

# Zenodo slows down clients that do not name themselves.
HEADERS = {"User-Agent": "asd-workflow/0.1 (recordings of DCASE Task 2)", "Accept-Encoding": "identity"}

log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Remote:
    """A file as its record lists it."""

    url: str
    size: int
    """In bytes."""
    md5: str


class Failure(Exception):
    """A failure after which another attempt may succeed."""

    def __init__(self, reason: str, wait: float = 0.0, gained: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        """Seconds for which the server asks to wait."""
        self.gained = gained
        """Whether some bytes were received before the failure."""


class Stopped(Exception):
    """Another file failed for good."""


# --- one request --------------------------------------------------------------------------------------------


@contextmanager
def _answer(url: str, headers: dict[str, str]) -> Iterator["requests.Response"]:
    """Request a URL; yield a response with a body to read, or one that refuses the range.

    Raises:
        Failure: there is no connection, it broke, or the status is a temporary one.
        InputError: the server has another status, the URL is invalid, or a certificate is not trusted.
    """
    import requests

    try:
        with requests.get(url, headers=HEADERS | headers, stream=True, timeout=TIMEOUT) as response:
            status = f"{response.status_code} {response.reason}"
            if response.status_code in (408, 425, 429) or response.status_code >= 500:
                raise Failure(f"the server answered {status}", _wait(response.headers.get("Retry-After", "")))
            if response.status_code not in (200, 206, 416):
                raise InputError(f"{url}: the server answered {status}, expected the file; is base_url right?")
            yield response
    except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise InputError(
                f"{url}: the certificate is not trusted ({error}); set REQUESTS_CA_BUNDLE to the file of yours"
            ) from None
        raise Failure(f"no connection, or a broken one ({error})") from None
    except requests.RequestException as error:
        raise InputError(f"{url}: cannot be requested ({error}); is base_url right?") from None


def _wait(text: str) -> float:
    """The seconds of a Retry-After header: a number, or a date."""
    if re.fullmatch("[0-9]{1,9}", text):
        return min(float(text), LONGEST_WAIT)
    try:
        seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _persist(attempt: Callable[[], Result], url: str, pause: Callable[[float], object]) -> Result:
    """Attempt until it works, with growing pauses.

    Raises:
        InputError: there were `ATTEMPTS` failures in a row without any progress.
    """
    failures = 0
    while True:
        try:
            return attempt()
        except Failure as failure:
            failures = 1 if failure.gained else failures + 1
            if failures >= ATTEMPTS:
                raise InputError(
                    f"{url}: {failure}; given up after {failures} attempts. What was received is kept: run again when "
                    "the server can be reached. Without a network, fetch the archives elsewhere and name their folder: "
                    "dataset.published.archives"
                ) from None
            seconds = max(failure.wait, min(2.0 ** (failures - 1), LONGEST_PAUSE))
            log.warning("%s: %s; again in %.0f s", url, failure, seconds)
            pause(seconds)


# --- a record -----------------------------------------------------------------------------------------------


def listing(base_url: str, record: str, pause: Callable[[float], object] = time.sleep) -> dict[str, Remote]:
    """Return the files of a Zenodo record by name, from its own listing (the records API).

    Args:
        base_url: the server.
        record: the number of the record.
        pause: waits for some seconds between two attempts.

    Raises:
        InputError: the listing cannot be fetched, or is not such a listing.
    """
    url = f"{base_url}/api/records/{record}"

    def read() -> bytes:
        with _answer(url, {}) as response:
            body = b""
            for chunk in response.iter_content(CHUNK):
                body += chunk
                if len(body) > LISTING_LIMIT:
                    raise InputError(f"{url}: the listing is longer than {LISTING_LIMIT} bytes; is base_url right?")
            return body

    try:
        return {
            file["key"]: _remote(base_url, record, file) for file in json.loads(_persist(read, url, pause))["files"]
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{url}: not a listing of files with key, size and md5 checksum ({error!r}); is base_url a Zenodo server "
            "or a mirror of one?"
        ) from None


def _remote(base_url: str, record: str, file: dict) -> Remote:
    algorithm, _, md5 = file["checksum"].partition(":")
    if algorithm != "md5" or not re.fullmatch("[0-9a-f]{32}", md5) or file["size"] <= 0:
        raise ValueError(f"{file['key']}: {file['checksum']}, {file['size']} bytes")
    # Not the link of the listing, which leads to Zenodo even if the listing comes from a mirror.
    return Remote(address(base_url, record, file["key"]), file["size"], md5)


def address(base_url: str, record: str, name: str) -> str:
    """Return the URL of a file of a record.

    Args:
        base_url: of Zenodo or of a mirror with the same paths.
        record: its number.
        name: of the file.
    """
    return f"{base_url}/records/{record}/files/{name}"


# --- files --------------------------------------------------------------------------------------------------


def fetch_all(
    files: dict[Path, Remote], title: str, connections: int, pause: Callable[[float], object] | None = None
) -> None:
    """Fetch files, several at the same time. If one fails finally, the others stop, and their parts are kept.

    Args:
        files: the path of each file. Until it is complete and verified it is `<path>.part`, with which a later call
            continues.
        title: the name of the work in the progress.
        connections: number of files at the same time.
        pause: waits for some seconds (tests replace it).

    Raises:
        InputError: a file cannot be fetched as its record lists it, or the disk is full.
    """
    stop = threading.Event()
    there = sum(min(_size(part(path)), remote.size) for path, remote in files.items())
    with _meter(title, sum(remote.size for remote in files.values()), there) as report:

        def tell(count: int) -> None:
            if stop.is_set():
                raise Stopped
            report(count)

        def wait(seconds: float) -> None:
            (pause or stop.wait)(seconds)
            tell(0)

        with ThreadPoolExecutor(connections) as pool:
            waiting = [pool.submit(fetch, remote, path, wait, tell) for path, remote in files.items()]
            try:
                for future in as_completed(waiting):
                    future.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise


def fetch(remote: Remote, path: Path, pause: Callable[[float], object], tell: Callable[[int], None]) -> None:
    """Fetch one file.

    Args:
        remote: the file.
        path: its path when it is complete and verified.
        pause: waits for some seconds between two attempts.
        tell: called with the number of new bytes; negative if bytes were discarded.

    Raises:
        InputError: the file cannot be fetched as its record lists it, or the disk is full.
    """
    half = part(path)
    if _size(half) > remote.size:
        half.unlink()  # it was begun by another listing
    found = ""
    # Twice: the bytes may have been changed on the way, or the beginning may be from another server.
    for _ in range(2):
        _persist(lambda: _go_on(remote, half, tell), remote.url, pause)
        if (found := md5(half)) == remote.md5:
            half.replace(path)
            return
        log.warning("%s: found the md5 %s, expected %s", remote.url, found, remote.md5)
        half.unlink()
        tell(-remote.size)
    raise InputError(
        f"{remote.url}: found the md5 {found}, expected {remote.md5}, twice; the server or something on the way "
        "changes the file: name another server (dataset.published.base_url)"
    )


def part(path: Path) -> Path:
    """Return the path of a file that is not complete yet."""
    return path.with_name(f"{path.name}.part")


def md5(path: Path) -> str:
    """Return the MD5 of a file, as records list it. It shows damage, but does not protect against manipulation."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _go_on(remote: Remote, half: Path, tell: Callable[[int], None]) -> None:
    """Fetch the rest of the incomplete file `half` in one request."""
    before = have = _size(half)
    if have == remote.size:
        return
    try:
        with _answer(remote.url, {"Range": f"bytes={have}-"} if have else {}) as response, half.open("ab") as file:
            skip = have - _begin(response, remote, have)
            for chunk in response.iter_content(CHUNK):
                new = chunk[skip:][: remote.size - have]
                skip = max(0, skip - len(chunk))
                file.write(new)
                have += len(new)
                tell(len(new))
                if have == remote.size:  # even if more is sent
                    file.flush()
                    os.fsync(file.fileno())
                    return
        raise Failure(f"the answer ended after {have} of {remote.size} bytes")
    except Failure as failure:
        failure.gained = have > before
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{half.parent}: the disk is full; free some space, or set data_dir to another disk"
            ) from None
        raise


def _begin(response: "requests.Response", remote: Remote, have: int) -> int:
    """The place in the file at which an answer's body begins: 0 if the server ignores Range."""
    if response.status_code == 200:
        begin, total = "0", response.headers.get("Content-Length", "")
    else:
        content = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (?:([0-9]+)-[0-9]+|\*)/([0-9]+|\*)", content)
        if match is None:
            raise Failure(f"the server answered {response.status_code} with the range {content!r}")
        begin, total = match.groups()
    if total.isdecimal() and int(total) != remote.size:
        kind = response.headers.get("Content-Type", "no type")
        raise InputError(
            f"{remote.url}: found a file of {total} bytes ({kind}), expected {remote.size} as the record lists; the "
            "server has another file, or an error page in its place"
        )
    if begin is None or int(begin) > have:
        raise Failure(f"the server answered {response.status_code} when asked for the bytes from {have}")
    return int(begin)


# --- progress -----------------------------------------------------------------------------------------------

PERIOD = 30.0
"""Seconds between two lines about the progress."""


@contextmanager
def _meter(title: str, total: int, there: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to be called with numbers of new bytes. It shows a bar on a terminal, otherwise lines."""
    lock = threading.Lock()
    start = last = time.monotonic()
    came = 0

    def line() -> str:
        rate = came / max(time.monotonic() - start, 1e-3)
        left = f", {(total - there - came) / rate:.0f} s left" if came > 0 else ""
        return f"{title}: {(there + came) / 1e6:.1f} of {total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s{left}"

    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(desc=title, total=total, initial=there, unit="B", unit_scale=True, dynamic_ncols=True) as bar:

            def advance(count: int) -> None:
                with lock:
                    bar.update(count)

            yield advance
        return

    def write(count: int) -> None:
        nonlocal came, last
        with lock:
            came += count
            if time.monotonic() - last >= PERIOD:
                log.info(line())
                last = time.monotonic()

    yield write
    log.info(line())
