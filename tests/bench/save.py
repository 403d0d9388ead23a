#!/usr/bin/python3
"""A save and an unlock, each beside what the machine itself needs for it; and process 1's memory.

The vault has 40 files, 200 kB, lies on disk and is open in the real tazpod-init as process 1. Alternated,
in an order that changes every round:
  write    the bytes of the vault as it is: write, fsync, rename over an older one, fsync of the directory
  save     one secret changed, then a save
  command  the same, by `tazpod save`, which is a process to start besides
and then, the vault locked in between:
  kdf      one key derivation of the vault's cost and nothing else, in a process that does only that
  unlock   of the vault
A save and an unlock are timed from before the connection is made to the answer, on the control socket.
Judges no times; fails where a save did not save or an unlock did not open.

usage: save.py [-n ROUNDS] [BUILD]
BUILD holds tazpod-init, tazpod and tests/bench-kdf. The vault lies below TAZPOD_BENCH_DIR, default
/var/tmp: not on a tmpfs, where an fsync costs nothing. Run as root.
"""

import argparse
import contextlib
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "ns"))
import nsinit  # noqa: E402 - it lies beside the tests of its tier

FILES, FILE_SIZE = 40, 5000
PASSES, MEMORY_KIB = 3, 65536  # the default cost of a vault
GOAL_SAVE_MS, GOAL_UNLOCK_MS, GOAL_RSS_KB = 5, 10, 128
UNCHANGED, ALREADY = 1, 2  # flags of a reply
IN_RAM = ("tmpfs", "ramfs")


class NotDone(Exception):
    """A figure of something else than what it is called would be worse than none."""


class OnDisk(nsinit.Place):
    """A place whose vault is on a real file system, wherever the machine has its temporary files."""

    def __init__(self, **how):
        super().__init__(**how)
        folder = os.environ.get("TAZPOD_BENCH_DIR") or "/var/tmp"
        self.disk = pathlib.Path(tempfile.mkdtemp(prefix="tazpod-bench-", dir=folder))
        self.disk.chmod(0o755)
        (self.disk / "work").mkdir()
        os.chown(self.disk / "work", nsinit.OWNER, nsinit.OWNER)
        self.vault = self.disk / "work" / ".tazpod" / "vault.tpv"

    def kind(self):
        """The type of the file system."""
        return nsinit.mounts(os.getpid())[nsinit.mount_id(self.disk)][2]

    def close(self):
        shutil.rmtree(self.disk)
        super().close()


@contextlib.contextmanager
def milliseconds(series):
    start = time.perf_counter()
    yield
    series.append((time.perf_counter() - start) * 1000)


class Vault:
    """An open vault of FILES files, in a pod that runs."""

    def __init__(self, pod):
        self.pod = pod
        self.place = pod.place
        self.turn = 0
        self.generation = self._with_passphrase(nsinit.CREATE, ops=PASSES, memory=MEMORY_KIB)["generation"]
        for number in range(FILES):
            pod.write(f"secret-{number}", os.urandom(FILE_SIZE))
        self._has_saved(self._ask(nsinit.SAVE))
        self.bare = self.place.disk / "bare"
        self.bare.mkdir()
        self.bare_folder = os.open(self.bare, os.O_RDONLY | os.O_DIRECTORY)
        (self.bare / "vault").write_bytes(b"")

    def close(self):
        os.close(self.bare_folder)

    def _ask(self, kind, descriptors=(), **fields):
        with nsinit.Client(self.place.socket) as client:
            return client.ask(kind, descriptors, **fields)

    def _with_passphrase(self, kind, into=None, **fields):
        reader, writer = os.pipe()
        try:
            os.write(writer, nsinit.PASSPHRASE)
            os.close(writer)
            with milliseconds([] if into is None else into):
                reply = self._ask(kind, [reader], **fields)
        finally:
            os.close(reader)
        if not reply or reply["code"] or reply["state"] != "open" or reply["flags"] & ALREADY:
            raise NotDone(f"the vault was not opened: {reply}\n{self.pod.log()}")
        return reply

    def _has_saved(self, reply):
        if not reply or reply["code"] or reply["flags"] & UNCHANGED or reply["generation"] != self.generation + 1:
            raise NotDone(f"the vault was not saved: {reply}\n{self.pod.log()}")
        self.generation = reply["generation"]

    def _change_one(self):
        self.turn += 1
        self.pod.write(f"secret-{self.turn % FILES}", os.urandom(FILE_SIZE))

    def write(self, into):
        data = self.place.vault.read_bytes()
        assert len(data) > FILES * FILE_SIZE, "random bytes do not get smaller"
        new = os.open("new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self.bare_folder)
        with milliseconds(into):
            assert os.write(new, data) == len(data)
            os.fsync(new)
            os.rename("new", "vault", src_dir_fd=self.bare_folder, dst_dir_fd=self.bare_folder)
            os.fsync(self.bare_folder)
        os.close(new)

    def save(self, into):
        self._change_one()
        with milliseconds(into):
            reply = self._ask(nsinit.SAVE)
        self._has_saved(reply)

    def command(self, into):
        self._change_one()
        words, keywords = self.pod.command("save", inside=False)
        with milliseconds(into):
            done = subprocess.run(words, capture_output=True, timeout=nsinit.DEADLINE_S, **keywords)
        if done.returncode:
            raise NotDone(f"tazpod save: {done.stderr.decode()}\n{self.pod.log()}")
        self._has_saved(self._ask(nsinit.STATUS))

    def kdf(self, into):
        program = nsinit.BUILD / "tests" / "bench-kdf"
        done = subprocess.run([program, str(PASSES), str(MEMORY_KIB)], stdout=subprocess.PIPE, check=True)
        into.append(int(done.stdout) / 1e6)

    def lock(self):
        reply = self._ask(nsinit.LOCK)
        if not reply or reply["code"] or reply["state"] != "locked":
            raise NotDone(f"the vault was not locked: {reply}\n{self.pod.log()}")

    def unlock(self, into):
        self.lock()
        self._with_passphrase(nsinit.UNLOCK, into)
        assert len(os.listdir(self.pod.secrets)) == FILES


def rss_kb(pid):
    """From smaps_rollup: the one in status is a sum that the kernel brings up to date now and then."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Rss:\s+(\d+) kB$", rollup, re.M).group(1))


def ticks(pid):
    """(the machine's busy time, ours), ours being this process, that one and what both have waited for."""
    machine = [int(word) for word in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    pod = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:15]
    here = sum(os.times()[:4]) * os.sysconf("SC_CLK_TCK")
    return sum(machine) - machine[3] - machine[4], here + sum(map(int, pod))


def alternate(rounds, *doings):
    """Each once a round, who is first moves on by one. A series of milliseconds each."""
    series = [[] for _ in doings]
    for turn in range(rounds):
        for at in range(len(doings)):
            at = (at + turn) % len(doings)
            doings[at](series[at])
    return series


def rank(values, share):
    """Nearest rank: 0.95 of 100 is the 95th."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


class Pair:
    """What was measured, and what there is no doing without."""

    def __init__(self, ours, floor):
        self.ours, self.floor = ours, floor

    def above_ms(self, share):
        return rank(self.ours, share) - rank(self.floor, share)

    def ratio(self, share):
        return rank(self.ours, share) / rank(self.floor, share)


class Figures:
    """All of them, of one pod on place. They stay when the pod has gone."""

    def __init__(self, pod, rounds):
        self.rounds = rounds
        self.kind = pod.place.kind()
        self.rss = {"locked": rss_kb(pod.pid)}
        vault = Vault(pod)
        try:
            self.rss["open"] = rss_kb(pod.pid)
            start, (all_before, ours_before) = time.monotonic(), ticks(pod.pid)
            write, save, self.command = alternate(rounds, vault.write, vault.save, vault.command)
            kdf, unlock = alternate(rounds, vault.kdf, vault.unlock)
            all_after, ours_after = ticks(pod.pid)
            busy = (all_after - all_before - ours_after + ours_before) / os.sysconf("SC_CLK_TCK")
            self.others = busy / (time.monotonic() - start)
            self.bytes = pod.place.vault.stat().st_size
            self.rss["open, after all that"] = rss_kb(pod.pid)
            vault.lock()
            self.rss["locked, after all that"] = rss_kb(pod.pid)
        finally:
            vault.close()
        self.save, self.unlock = Pair(save, write), Pair(unlock, kdf)

    def print(self):
        print(f"a vault of {FILES} files and {FILES * FILE_SIZE} bytes, {self.bytes} as a file, on {self.kind}; "
              f"{self.rounds} rounds, alternated")
        print(f"{'ms':<44} {'p50':>9} {'p95':>9} {'min':>9} {'max':>9}")
        self._line("write, fsync, rename, fsync the directory", self.save.floor)
        self._line("save, one secret changed", self.save.ours)
        self._line("the same by tazpod save", self.command)
        self._above("save above the write", self.save, GOAL_SAVE_MS)
        self._line(f"key derivation alone, {PASSES} passes, {MEMORY_KIB // 1024} MiB", self.unlock.floor)
        self._line("unlock", self.unlock.ours)
        self._above("unlock above the derivation", self.unlock, GOAL_UNLOCK_MS)
        print(f"{'ratio':<44} {'p50':>9} {'p95':>9}")
        for name, pair in (("save / write", self.save), ("unlock / derivation", self.unlock)):
            print(f"{name:<44} {pair.ratio(0.5):9.3f} {pair.ratio(0.95):9.3f}")
        print(f"others kept {self.others:.2f} of {os.cpu_count()} processors busy meanwhile")
        print(f"{'kB of process 1':<44} {'rss':>9} {'':29}  goal: at most {GOAL_RSS_KB}")
        for name, kb in self.rss.items():
            print(f"{name:<44} {kb:9d}")

    @staticmethod
    def _line(name, values):
        print(f"{name:<44} {rank(values, 0.5):9.2f} {rank(values, 0.95):9.2f} {min(values):9.2f} {max(values):9.2f}")

    @staticmethod
    def _above(name, pair, goal):
        print(f"{name:<44} {pair.above_ms(0.5):9.2f} {pair.above_ms(0.95):9.2f} {'':19}  goal: at most {goal}")


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", type=int, default=100)
    parser.add_argument("build", type=pathlib.Path, nargs="?", default=nsinit.BUILD)
    options = parser.parse_args()

    nsinit.BUILD = options.build
    place = OnDisk()
    try:
        if place.kind() in IN_RAM:
            raise NotDone(f"{place.disk} is on {place.kind()}: name a folder on disk in TAZPOD_BENCH_DIR")
        pod = nsinit.Pod("sleep", "infinity", place=place)
        try:
            Figures(pod.ready(), options.n).print()
        finally:
            pod.close()
    finally:
        place.close()
        nsinit.forget_programs()


if __name__ == "__main__":
    try:
        main()
    except NotDone as problem:
        raise SystemExit(f"save.py: {problem}")
