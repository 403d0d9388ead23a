#!/usr/bin/python3
"""A vault saved and unlocked beside what else keeps a tree of files encrypted.

    ours       process 1 with its workers, from before the connection is made to the answer; the key is
               held for a save. Of an unlock the key derivation is taken off, alternated and at the
               cheapest cost there is: the others are given a key, not a passphrase.
    command    the same save by `tazpod save`, which is a process to start besides
    age        tar | zstd | age -r, and age -d | zstd -d | tar -x
    gpg        the same with gpg and a key of its own (curve 25519, no passphrase, its agent running);
               gpg's own compression off, since zstd is faster
    gocryptfs  cp -a into a mount that is there already, and cp -a out of it. It keeps each file by
               itself, so a save of few changes costs it less than this.

The tree lies on a tmpfs, the files on disk, all on the same file system. Every save is durable when its
time ends: ours by its two fsyncs, the others' file by sync FILE, gocryptfs' many by one syncfs. Every
unlock ends on a tmpfs. Each once a round, who is first moves on by one. Before every save of ours one
secret changes. Then, untimed, one save and one unlock with every worker traced to its exit, for its peak
of resident memory.

Judges no times: it prints ratios and names the cells that miss their goal. Fails where something was not
saved, or not unlocked as it was.

usage: vaults.py [-n ROUNDS] [BUILD]
The files lie below TAZPOD_BENCH_DIR, default /var/tmp: not on a tmpfs, where an fsync costs nothing. Run as root.
"""

import argparse
import base64
import contextlib
import ctypes
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

from save import ALREADY, IN_RAM, UNCHANGED, NotDone, OnDisk, alternate, milliseconds, nsinit, ticks

CHEAPEST_PASSES, CHEAPEST_KIB = 1, 8192
GOAL, GOAL_SMALLEST = 1.0, 0.5  # ours / tar | zstd | age -r
GOAL_PEAK_KB = 16 * 1024
RAM = "192m"  # for the largest tree, twice
PEERS = ("age", "gpg", "gocryptfs")


def text(size):
    """As keys, tokens and certificates are: base64, which zstd makes a quarter smaller."""
    return base64.b64encode(os.urandom(size * 3 // 4 + 3))[:size]


TREES = {
    "40 files, 200 kB": {f"secret-{n}": (text, 5000) for n in range(40)},
    "2,000 files, 16 MB": {f"folder-{n // 50}/secret-{n}": (text, 8000) for n in range(2000)},
    "60 MB incompressible": {f"large-{n}": (os.urandom, 5_000_000) for n in range(12)},
}


def fill(pod, tree):
    for name, (content, size) in tree.items():
        folder = (pod.secrets / name).parent
        if not folder.exists():
            folder.mkdir(mode=0o700)
            os.chown(folder, nsinit.OWNER, nsinit.OWNER)
        pod.write(name, content(size))


def empty(folder):
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


class Ours:
    """The vault of one tree, open in a pod."""

    def __init__(self, pod, tree):
        self.pod, self.place, self.tree, self.turn = pod, pod.place, tree, 0
        self.generation = self._with_passphrase(
            nsinit.CREATE, ops=CHEAPEST_PASSES, memory=CHEAPEST_KIB)["generation"]
        fill(pod, tree)
        self._has_saved(self.ask(nsinit.SAVE))

    def ask(self, kind, descriptors=(), **fields):
        with nsinit.Client(self.place.socket) as client:
            return client.ask(kind, descriptors, **fields)

    def _with_passphrase(self, kind, into=None, **fields):
        reader, writer = os.pipe()
        try:
            os.write(writer, nsinit.PASSPHRASE)
            os.close(writer)
            with milliseconds([] if into is None else into):
                reply = self.ask(kind, [reader], **fields)
        finally:
            os.close(reader)
        if not reply or reply["code"] or reply["state"] != "open" or reply["flags"] & ALREADY:
            raise NotDone(f"the vault was not opened: {reply}\n{self.pod.log()}")
        return reply

    def _has_saved(self, reply):
        if not reply or reply["code"] or reply["flags"] & UNCHANGED or reply["generation"] != self.generation + 1:
            raise NotDone(f"the vault was not saved: {reply}\n{self.pod.log()}")
        self.generation = reply["generation"]

    def change_one(self):
        names = list(self.tree)
        name = names[self.turn % len(names)]
        content, size = self.tree[name]
        self.pod.write(name, content(size))
        self.turn += 1

    def save(self, into):
        self.change_one()
        with milliseconds(into):
            reply = self.ask(nsinit.SAVE)
        self._has_saved(reply)

    def command(self, into):
        self.change_one()
        words, keywords = self.pod.command("save", inside=False)
        with milliseconds(into):
            done = subprocess.run(words, capture_output=True, timeout=nsinit.DEADLINE_S, **keywords)
        if done.returncode:
            raise NotDone(f"tazpod save: {done.stderr.decode()}\n{self.pod.log()}")
        self._has_saved(self.ask(nsinit.STATUS))

    def kdf(self, into):
        program = nsinit.BUILD / "tests" / "bench-kdf"
        done = subprocess.run([program, str(CHEAPEST_PASSES), str(CHEAPEST_KIB)],
                              stdout=subprocess.PIPE, check=True)
        into.append(int(done.stdout) / 1e6)

    def lock(self):
        reply = self.ask(nsinit.LOCK)
        if not reply or reply["code"] or reply["state"] != "locked":
            raise NotDone(f"the vault was not locked: {reply}\n{self.pod.log()}")
        self.generation = reply["generation"]

    def unlock(self, into):
        before = nsinit.tree(self.pod.secrets)
        self.lock()
        self._with_passphrase(nsinit.UNLOCK, into)
        if nsinit.tree(self.pod.secrets) != before:
            raise NotDone("what was unlocked is not what was locked")


class Peer:
    """Another program that keeps the tree in `source`; what it takes out goes to `out`, a tmpfs."""

    def __init__(self, disk, source, out):
        self.disk, self.source, self.out = disk, source, out
        disk.mkdir()

    def close(self):
        pass

    def before_save(self):
        """So that it writes anew. Not timed."""

    def _run(self, line, into):
        environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(self.disk), "LC_ALL": "C.UTF-8"}
        with milliseconds(into):
            done = subprocess.run(["sh", "-euc", line, "sh", self.source, self.disk, self.out], env=environ,
                                  stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise NotDone(f"{line}: {done.stderr.decode()}")

    def save(self, into):
        self.before_save()
        self.saved = nsinit.tree(self.source)
        self._run(self.SAVE, into)

    def unlock(self, into):
        empty(self.out)
        self._run(self.UNLOCK, into)
        # A shell's pipeline hides who failed in it; the tree does not.
        if nsinit.tree(self.out) != self.saved:
            raise NotDone(f"{self.UNLOCK}: another tree came out")


class Age(Peer):
    SAVE = 'tar -C "$1" -cf - . | zstd -q | age -r "$(cat "$2/recipient")" -o "$2/tree.age"; sync "$2/tree.age"'
    UNLOCK = 'age -d -i "$2/key" "$2/tree.age" | zstd -dq | tar -C "$3" -xpf -'

    def __init__(self, *where):
        super().__init__(*where)
        subprocess.run(["age-keygen", "-o", self.disk / "key"], check=True, stderr=subprocess.DEVNULL)
        public = subprocess.run(["age-keygen", "-y", self.disk / "key"], check=True, stdout=subprocess.PIPE)
        (self.disk / "recipient").write_bytes(public.stdout)
        # The recipient is an argument, not a file to be read with another process.
        self.SAVE = self.SAVE.replace('"$(cat "$2/recipient")"', public.stdout.decode().strip())

    def before_save(self):
        (self.disk / "tree.age").unlink(missing_ok=True)


class Gpg(Peer):
    GPG = 'gpg --homedir "$2/gnupg" --batch --quiet --no-tty'
    SAVE = ('tar -C "$1" -cf - . | zstd -q | ' + GPG + ' --trust-model always -z 0 -r bench -o "$2/tree.gpg" -e;'
            ' sync "$2/tree.gpg"')
    UNLOCK = GPG + ' -d "$2/tree.gpg" | zstd -dq | tar -C "$3" -xpf -'

    def __init__(self, *where):
        super().__init__(*where)
        (self.disk / "gnupg").mkdir(mode=0o700)
        try:
            self._run(self.GPG + " --passphrase '' --quick-generate-key bench future-default default never", [])
        except BaseException:
            self.close()
            raise

    def close(self):
        subprocess.run(["gpgconf", "--homedir", self.disk / "gnupg", "--kill", "all"], check=True)

    def before_save(self):
        (self.disk / "tree.gpg").unlink(missing_ok=True)


class Gocryptfs(Peer):
    SAVE = 'cp -a "$1/." "$2/open/"; sync -f "$2/closed"'
    UNLOCK = 'cp -a "$2/open/." "$3/"'

    def __init__(self, *where):
        super().__init__(*where)
        self.mount()

    def mount(self):
        for name in ("open", "closed"):
            (self.disk / name).mkdir()
        (self.disk / "passphrase").write_bytes(b"a passphrase")
        gocryptfs = ["gocryptfs", "-q", "-nosyslog", "-passfile", self.disk / "passphrase"]
        for more in (["-init", "-scryptn", "10", self.disk / "closed"], [self.disk / "closed", self.disk / "open"]):
            # Not a pipe for its errors: the one that stays would hold it open.
            with tempfile.TemporaryFile() as errors:
                done = subprocess.run([*gocryptfs, *more], stderr=errors, stdout=errors)
                errors.seek(0)
                if done.returncode:
                    raise subprocess.CalledProcessError(done.returncode, "gocryptfs", stderr=errors.read())

    def close(self):
        if os.path.ismount(self.disk / "open"):
            nsinit.umount(self.disk / "open")

    def before_save(self):
        empty(self.disk / "open")


def peers_that_work():
    """(classes, why one was left out)"""
    classes = {"age": Age, "gpg": Gpg, "gocryptfs": Gocryptfs}
    with tempfile.TemporaryDirectory() as folder:
        trial = Gocryptfs.__new__(Gocryptfs)
        trial.disk = pathlib.Path(folder)
        try:
            trial.mount()
        except subprocess.CalledProcessError as error:
            del classes["gocryptfs"]
            return classes, f"gocryptfs was left out, it can't mount here: {error.stderr.decode().strip()}"
        trial.close()
    return classes, None


# ---- peak memory ----

PTRACE_CONT, PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 7, 17, 0x4206, 0x4207
FORK, VFORK, CLONE, EXIT = 0x02, 0x04, 0x08, 0x40  # PTRACE_O_TRACE...
EVENT_EXIT = 6
WALL = 0x40000000


def ptrace(request, pid, data=0):
    nsinit.libc("ptrace", ctypes.c_long(request), ctypes.c_long(pid), ctypes.c_void_p(0), ctypes.c_void_p(data))


def peaks_during(pod, doing):
    """{worker: kB}: VmHWM of each worker that process 1 starts and sees end during doing().

    Every one is stopped by the kernel on its way out, when its memory is still there: looking now and
    then would miss what lives for two milliseconds."""
    failed, found, alive = [], {}, {pod.pid}

    def run():
        try:
            doing()
        except BaseException as error:
            failed.append(error)

    ptrace(PTRACE_SEIZE, pod.pid, FORK | VFORK | CLONE | EXIT)
    asker = threading.Thread(target=run)
    asker.start()
    end = time.monotonic() + 10 * nsinit.DEADLINE_S
    interrupted = False
    while True:
        if not asker.is_alive() and alive == {pod.pid} and not interrupted:
            ptrace(PTRACE_INTERRUPT, pod.pid)
            interrupted = True
        pid, status = os.waitpid(-1, WALL | os.WNOHANG)
        if pid == 0:
            if time.monotonic() > end:
                raise NotDone("the traced workers did not end")
            time.sleep(0.0002)  # the wait has no descriptor
            continue
        if not os.WIFSTOPPED(status):
            alive.discard(pid)
            continue
        alive.add(pid)
        event, number = status >> 16, os.WSTOPSIG(status)
        if event == EVENT_EXIT:
            words = nsinit.arguments(pid)
            if words and words[0] == b"tazpod-worker":
                peak = int(nsinit.status_field(pid, "VmHWM").split()[0])
                found[words[1].decode()] = max(peak, found.get(words[1].decode(), 0))
        if interrupted and pid == pod.pid:
            ptrace(PTRACE_DETACH, pid, 0 if event else number)
            break
        ptrace(PTRACE_CONT, pid, 0 if event else number)
    asker.join()
    if failed:
        raise failed[0]
    return found


# ---- all of it ----


def median(values):
    return statistics.median(values)


class Tree:
    """All figures of one tree."""

    def __init__(self, name, tree, rounds, classes):
        self.name, self.peers = name, {}
        with contextlib.ExitStack() as stack:
            place = OnDisk(size=RAM)
            stack.callback(place.close)
            self.kind = place.kind()
            if self.kind in IN_RAM:
                raise NotDone(f"{place.disk} is on {self.kind}: name a folder on disk in TAZPOD_BENCH_DIR")
            out = place.top / "out"
            out.mkdir()
            nsinit.mount("tmpfs", out, "tmpfs", nsinit.MS_NOSUID | nsinit.MS_NODEV, f"size={RAM}")
            stack.callback(nsinit.umount, out)
            pod = nsinit.Pod("sleep", "infinity", place=place)
            stack.callback(pod.close)
            ours = Ours(pod.ready(), tree)
            for peer, make in classes.items():
                self.peers[peer] = make(place.disk / peer, place.secrets, out)
                stack.callback(self.peers[peer].close)
            self._time(ours, rounds)
            self.sizes = {"ours": place.vault.stat().st_size}
            self.sizes |= {peer: os.stat(place.disk / peer / f"tree.{peer}").st_size for peer in ("age", "gpg")}
            self.peaks = peaks_during(pod, lambda: (ours.save([]), ours.unlock([])))
            for worker in ("pack", "seal", "open", "unpack"):
                if worker not in self.peaks:
                    raise NotDone(f"no {worker} worker was seen: {self.peaks}")

    def _time(self, ours, rounds):
        start, (all_before, ours_before) = time.monotonic(), ticks(ours.pod.pid)
        saves = alternate(rounds, ours.save, ours.command, *(peer.save for peer in self.peers.values()))
        unlocks = alternate(rounds, ours.unlock, ours.kdf, *(peer.unlock for peer in self.peers.values()))
        all_after, ours_after = ticks(ours.pod.pid)
        busy = (all_after - all_before - ours_after + ours_before) / os.sysconf("SC_CLK_TCK")
        self.others = busy / (time.monotonic() - start)
        self.save = dict(zip(("ours", "command", *self.peers), map(median, saves)))
        self.unlock = dict(zip(("ours", "kdf", *self.peers), map(median, unlocks)))
        self.derivation = self.unlock.pop("kdf")
        self.unlock["ours"] -= self.derivation

    def print(self):
        columns = ("ours", "command", *PEERS)
        print(f"\n{self.name}: {self.sizes['ours']} bytes as a vault, {self.sizes['age']} by age, {self.sizes['gpg']} "
              f"by gpg, on {self.kind}")
        print(f"{'ms, median':<26}" + "".join(f"{name:>11}" for name in columns))
        for name, cells in (("save", self.save), ("unlock", self.unlock)):
            print(f"{name:<26}" + "".join(f"{cells[c]:11.2f}" if c in cells else f"{'-':>11}" for c in columns))
        for name, cells in (("save", self.save), ("unlock", self.unlock)):
            print(f"{name + ', ours / theirs':<26}" + f"{'':22}"
                  + "".join(f"{cells['ours'] / cells[c]:11.2f}" if c in cells else f"{'-':>11}" for c in PEERS))
        print(f"taken off the unlock: {self.derivation:.2f} ms of derivation, {CHEAPEST_PASSES} pass over "
              f"{CHEAPEST_KIB // 1024} MiB; others kept {self.others:.2f} of {os.cpu_count()} processors busy")
        # The opener derives in its own memory, which the goal leaves out.
        self.peaks["open"] = max(0, self.peaks["open"] - CHEAPEST_KIB)
        print("peak kB of workers: " + ", ".join(f"{name} {kb}" for name, kb in sorted(self.peaks.items()))
              + " (open: without the derivation's)")

    def missed(self, goal):
        for name, cells in (("save", self.save), ("unlock", self.unlock)):
            ratio = cells["ours"] / cells["age"]
            if ratio > goal:
                yield f"{self.name}, {name}: {ratio:.2f} of tar | zstd | age -r, goal {goal}"
        for name, kb in self.peaks.items():
            if kb >= GOAL_PEAK_KB:
                yield f"{self.name}, memory of {name}: {kb} kB, goal below {GOAL_PEAK_KB}"


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", type=int, default=15)
    parser.add_argument("build", type=pathlib.Path, nargs="?", default=nsinit.BUILD)
    options = parser.parse_args()
    nsinit.BUILD = options.build
    nsinit.private_mounts()  # before any program is asked what it can mount
    classes, left_out = peers_that_work()
    missed = []
    try:
        print(f"save and unlock of whole trees, {options.n} rounds, alternated; goal: ours / age at most "
              f"{GOAL}, at most {GOAL_SMALLEST} on the smallest")
        if left_out:
            print(left_out)
        for number, (name, tree) in enumerate(TREES.items()):
            figures = Tree(name, tree, options.n, classes)
            figures.print()
            missed += figures.missed(GOAL if number else GOAL_SMALLEST)
        print("\ncells that miss their goal: " + ("none" if not missed else ""))
        for cell in missed:
            print(f"  {cell}")
    finally:
        nsinit.forget_programs()


if __name__ == "__main__":
    try:
        main()
    except NotDone as problem:
        raise SystemExit(f"vaults.py: {problem}")
