"""Sound as it comes: 16-bit samples from a pipe, raw or behind the header of a wav, and the gaps in it."""

import logging
import os
import select
import struct
import time
from collections.abc import Callable, Iterator

import numpy as np

from asd.errors import InputError
from asd.settings import LogMel
from asd.soundfiles import FULL_SCALE, WavHeader, mono, resampled, to_int16
from asd.steps import clock

log = logging.getLogger(__name__)

GAP = 2.0
"""Seconds without a sample that are a gap."""

AT_ONCE = 2**16
"""Bytes that are read at a time at most: what a pipe holds."""

OTHERS = {
    **{b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "mp3", b"\xff\xfb": "mp3", b"FORM": "AIFF", b".snd": "au"},
    **{b"RF64": "RF64", b"caff": "CAF"},
}
"""The first bytes of formats that are not samples."""


class Pcm:
    """Samples of 16 bit, little-endian (S16_LE), from a pipe."""

    def __init__(self, descriptor: int, rate: int | None, channels: int | None, settings: LogMel) -> None:
        """Read the header, if there is one; this waits for the first bytes.

        Args:
            descriptor: of the pipe.
            rate: in Hz; None: that of the wav's header, or else of the settings.
            channels: None: those of the wav's header, or else one.
            settings: which channel is taken, and the rate to which sound is resampled.

        Raises:
            InputError: the input has another format, its header contradicts the arguments, or it has several channels
                and none is chosen.
        """
        for name, value in (("--rate", rate), ("--channels", channels)):
            if value is not None and value < 1:
                raise InputError(f"{name}: found {value}; expected a number of at least 1")
        self.descriptor, self.settings = descriptor, settings
        self.rest = b""
        self.bytes_left: int | None = None
        """Bytes of samples that are to come, if the header of a wav says their number."""
        self.gaps: list[tuple[float, float]] = []
        """(seconds of sound before it, its length in seconds) of each gap."""
        self.frames = 0
        """Samples of each channel that were read."""
        header = self._header()
        for name, given, value in (("--rate", rate, header[0]), ("--channels", channels, header[1])):
            if None not in (given, value) and given != value:
                raise InputError(f"{name}: found {given}, but the header of the wav says {value}; leave {name} out")
        self.rate = rate or header[0] or settings.rate
        self.channels = channels or header[1] or 1
        if self.channels > 1 and settings.channel == "mono":
            raise InputError(
                f"standard input: {self.channels} channels; choose one of them (--channel 1), or take their mean "
                "(--channel mix)"
            )
        if isinstance(settings.channel, int) and settings.channel > self.channels:
            raise InputError(
                f"--channel: found {settings.channel}, but the input has {self.channels} (--channels says how many)"
            )

    @property
    def seconds(self) -> float:
        """Seconds of sound that were read."""
        return self.frames / self.rate

    def _exactly(self, count: int) -> bytes:
        """The next bytes, fewer at the end of the input."""
        data = b""
        while len(data) < count and (more := os.read(self.descriptor, count - len(data))):
            data += more
        return data

    def _header(self) -> tuple[int | None, int | None]:
        """Read what comes before the samples; return the rate and the number of channels, None if they are unknown."""
        begin = self._exactly(4)
        if name := next((name for magic, name in OTHERS.items() if begin.startswith(magic)), None):
            raise InputError(
                f"standard input: found {name}; expected raw samples of 16 bit (S16_LE), or a wav of these: decode it "
                f"before, for example with ffmpeg -i … -f s16le -ac 1 -ar {self.settings.rate} -"
            )
        if begin != b"RIFF":
            self.rest = begin
            return None, None
        self._exactly(8)
        rate = channels = None
        while len(head := self._exactly(8)) == 8:
            chunk, size = struct.unpack("<4sI", head)
            if chunk == b"data":
                self.bytes_left = None if WavHeader(0, size, "RIFF").unfinished else size
                return rate, channels
            content = self._exactly(size + size % 2)
            if chunk == b"fmt " and len(content) >= 16:
                tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", content[:16])
                if tag == 0xFFFE and len(content) >= 26:  # the extensible format has the tag further behind
                    tag = struct.unpack("<H", content[24:26])[0]
                if (tag, bits) != (1, 16):
                    raise InputError(
                        f"standard input: found a wav of {bits} bit (format {tag}); expected PCM of 16 bit (S16_LE)"
                    )
        raise InputError("standard input: ended within the header of a wav; expected samples after it")

    def blocks(self, say: Callable[[str], None]) -> Iterator[np.ndarray]:
        """Yield the samples as they come, of one channel at the rate of the settings.

        Args:
            say: is called with a text if there is a gap, and when it is over.

        Yields:
            (samples,) int16.
        """
        sound = self._samples(say)
        if self.channels == 1 and self.rate == self.settings.rate:
            yield from (one[:, 0] for one in sound)
            return
        heard = (mono(one.astype(np.float32) / FULL_SCALE, self.settings) for one in sound)
        yield from (to_int16(one) for one in resampled(heard, self.rate, self.settings.rate))

    def _samples(self, say: Callable[[str], None]) -> Iterator[np.ndarray]:
        """The samples as they come, (samples, channels) int16."""
        frame, last, stalled = 2 * self.channels, time.monotonic(), False
        while self.bytes_left != 0:
            if not select.select([self.descriptor], [], [], GAP)[0]:
                if not stalled:
                    say(f"no sound for {GAP:g} s, after {clock(self.seconds)} of sound; waiting for more")
                stalled = True
                continue
            data = os.read(self.descriptor, min(AT_ONCE, self.bytes_left or AT_ONCE))
            if not data:
                break
            if stalled:
                length = time.monotonic() - last
                say(f"sound again, after a gap of {length:.1f} s")
                self.gaps.append((self.seconds, length))
            last, stalled = time.monotonic(), False
            if self.bytes_left is not None:
                self.bytes_left -= len(data)
            data = self.rest + data
            whole = len(data) - len(data) % frame
            self.rest = data[whole:]
            self.frames += whole // frame
            if whole:
                yield np.frombuffer(data[:whole], "<i2").reshape(-1, self.channels)

    def end(self) -> str:
        """Return a remark on the end of the input."""
        half = ", within a sample" if self.rest else ""
        return f"the input ended, after {clock(self.seconds)} of sound{half}"

    def gap_in(self, start: float, seconds: float) -> str:
        """Return a remark on the gaps within a stretch of the sound (seconds); "" if there are none."""
        inside = [(at, length) for at, length in self.gaps if start < at < start + seconds]
        self.gaps = [(at, length) for at, length in self.gaps if at > start]  # those before do not matter any more
        return "; ".join(f"a gap of {length:.1f} s after {clock(at)}" for at, length in inside)
