"""What rewrites a vault, for the tests of what goes wrong meanwhile: a row for each command.

A row knows how the command is started, which worker does it, and what a vault holds before and after.
The rest is the same for all, so a new command is one row in OPERATIONS: a Subject is a pod with an open
vault, and `opened` is what a new pod makes of a folder that was copied.
"""

import contextlib
import dataclasses
import json
import os
import typing

import nsinit
from nsinit import PASSPHRASE, Place, Pod, tree, write


@dataclasses.dataclass(frozen=True)
class Content:
    """What a vault gives to whom."""

    passphrase: bytes
    tree: dict


@dataclasses.dataclass
class Attempt:
    """A command that is about to be started."""

    words: tuple
    stdin: bytes | None
    old: Content
    new: Content
    key: bytes = b""  # that the vault has afterwards, told by its public one


@dataclasses.dataclass
class Operation:
    """worker: its kind, argv[1]. prepare(subject) sees to it that there is something to do. always: {call:
    error} throughout. reopens: afterwards RAM holds what the file does, else what it held. needs: so many
    earlier generations."""

    name: str
    worker: str
    prepare: typing.Callable
    always: dict = dataclasses.field(default_factory=dict)
    reopens: bool = False
    needs: int = 0

    def __str__(self):
        return self.name


def _save(subject):
    subject.change()
    return Attempt(("save",), None, subject.now, Content(subject.now.passphrase, tree(subject.place.secrets)))


def _with_new_passphrase(*words):
    def prepare(subject):
        fresh = os.urandom(8).hex().encode()
        paper = write(subject.place.run / "new-passphrase", fresh)
        return Attempt((*words, "--new-passphrase-file", str(paper)), subject.now.passphrase, subject.now,
                       Content(fresh, subject.now.tree))

    return prepare


def _key_add(subject):
    """The slot that the case before it added goes first: there is no room for all of them."""
    for slot in set(json.loads(subject.pod.ok("key", "list", "--json", inside=False))) - {"version", "0"}:
        subject.pod.ok("key", "remove", slot, passphrase=PASSPHRASE, inside=False)
    subject.now = Content(PASSPHRASE, subject.now.tree)
    subject.open_anew()  # whether there was one to remove or not
    return _with_new_passphrase("key", "add")(subject)


def _rekey(subject):
    """As _restore: it opens the vault anew."""
    subject.open_anew()
    return Attempt(("key", "rekey"), subject.now.passphrase, subject.now, subject.now)


def _restore(subject):
    """One of those that were there from the beginning, not the newest, of which it would look like a copy; by its number, wherever it stands by now. It opens the
    vault anew, which the calls depend on: so it is new before each."""
    subject.open_anew()
    data = subject.kept["vault.tpv.2"]
    return Attempt(("restore", str(int.from_bytes(data[32:40], "little"))), subject.now.passphrase, subject.now,
                   Content(subject.now.passphrase, subject.kept_trees["vault.tpv.2"]))


SAVE = Operation("save", "seal", _save)
# A file system that has none: earlier generations are kept as copies.
SAVE_WITHOUT_LINKS = Operation("save where links are refused", "seal", _save, {"linkat": "EPERM"})
PASSWD = Operation("key passwd", "rewrite", _with_new_passphrase("key", "passwd"))
OPERATIONS = [SAVE, SAVE_WITHOUT_LINKS, PASSWD, Operation("key add", "rewrite", _key_add),
              Operation("key rekey", "rewrite", _rekey, reopens=True),
              Operation("restore", "rewrite", _restore, reopens=True, needs=2)]


def pairs(operations, numbers):
    """(operation, earlier generations), for parametrize."""
    found = [(row, number) for row in operations for number in numbers if number >= row.needs]
    return {"argvalues": found, "ids": [f"{number}-{row}" for row, number in found]}


def files(folder):
    """{name: content}"""
    found = {}
    for entry in os.scandir(folder):
        with open(entry.path, "rb") as file:
            found[entry.name] = file.read()
    return found


def lay_out(place, content):
    """The vault's folder, with these files and no others."""
    folder = place.vault.parent
    if not folder.exists():
        folder.mkdir()
        os.chown(folder, nsinit.OWNER, nsinit.OWNER)
    for entry in list(os.scandir(folder)):
        os.unlink(entry.path)
    for name, data in content.items():
        write(folder / name, data)


class DoesNotOpen(AssertionError):
    pass


@contextlib.contextmanager
def new_pod(content, passphrases=(PASSPHRASE,), size="8m"):
    """A pod that has never seen the vault, which lies in a folder with these files, and opens it.
    Yields the pod and the passphrase that it took."""
    place = Place(size=size)
    try:
        lay_out(place, content)
        pod = Pod("sleep", "infinity", place=place)
        try:
            pod.ready()
            for passphrase in passphrases:
                done = pod.tazpod("unlock", passphrase=passphrase, inside=False)
                if done.returncode == 0:
                    break
            else:
                raise DoesNotOpen(done.stderr.decode())
            yield pod, passphrase
        finally:
            pod.close()
    finally:
        place.close()


def opened(content, passphrases=(PASSPHRASE,)):
    """The Content of a vault's folder."""
    with new_pod(content, passphrases) as (pod, passphrase):
        return Content(passphrase, tree(pod.place.secrets))


def earlier(content, name="vault.tpv"):
    """The earlier generations, the newest first: {number: content}"""
    found = {}
    for beside, data in content.items():
        number = beside.removeprefix(name + ".")
        if number.isdigit():
            found[int(number)] = data
    return dict(sorted(found.items()))


class Subject:
    """A pod with an open vault, as many earlier generations beside it, and what it holds."""

    def __init__(self, generations=2, large=200_000):
        self.large = large
        self.now = Content(PASSPHRASE, {})
        self.place = Place(size="16m")
        try:
            self.pod = Pod("sleep", "infinity", place=self.place)
            self.pod.ready().create()
            self.kept, self.kept_trees = {}, {}
            for number in range(generations, 0, -1):
                self._save(20_000 + 1_000 * number)  # no two are of a size: none looks like a copy of another
                self.kept[f"vault.tpv.{number}"] = self.place.vault.read_bytes()
                self.kept_trees[f"vault.tpv.{number}"] = tree(self.place.secrets)
                assert opened({"vault.tpv": self.kept[f"vault.tpv.{number}"]}).tree == tree(self.place.secrets)
            self._save(0)
            self.now = Content(PASSPHRASE, tree(self.place.secrets))
        except BaseException:
            self.close()
            raise

    def _save(self, more):
        self.change(more)
        self.pod.ok("save", inside=False)

    def change(self, more=0):
        """Several chunks that do not compress. The same size each time, so that the calls are the same."""
        self.place.write("key", os.urandom(64))
        self.place.write("large", os.urandom(self.large + more))

    def arrange(self):
        """The folder is as it was at first, but for the vault itself, which the pod knows."""
        content = files(self.place.vault.parent)
        for name in content:
            if name != "vault.tpv":
                os.unlink(self.place.vault.parent / name)
        for name, data in {"vault.tpv.lock": b"", **self.kept}.items():
            write(self.place.vault.parent / name, data)

    def open_anew(self):
        """So that nothing here was written since the unlock."""
        self.pod.ok("lock", inside=False)
        self.pod.ok("unlock", passphrase=self.now.passphrase, inside=False)

    def restart(self):
        """After the end of process 1: as an engine would start the pod again."""
        self.pod.close()
        self.pod = Pod("sleep", "infinity", place=self.place)
        self.pod.ready()

    def run(self, attempt):
        return self.pod.tazpod(*attempt.words, passphrase=attempt.stdin, inside=False)

    def close(self):
        if hasattr(self, "pod"):
            self.pod.close()
        self.place.close()
