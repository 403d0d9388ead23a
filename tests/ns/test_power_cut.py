"""The power goes in the middle of a command that rewrites the vault, or right after it.

The calls of its worker are recorded as they are made, and from them come all the folders that a disk
may hold then (powercut.py). Each has to open in a new pod, with the old content or with the new one,
and once the command has said that it is done, with the new one.

The short form has one earlier generation beside the vault, the long one, TAZPOD_LONG=1, up to as many as
there can be, and all operations.
"""

import os
import select

import pytest

import powercut
from faults import Fault, Watch
from operations import OPERATIONS, PASSWD, SAVE, DoesNotOpen, Subject, files, lay_out, new_pod, pairs
from nsinit import DEADLINE_S, Place, tree

LONG = os.environ.get("TAZPOD_LONG") == "1"
ROWS = OPERATIONS if LONG else [SAVE, PASSWD]
GENERATIONS = [0, 2, 5] if LONG else [1]


def record(subject, operation):
    """A command that nothing goes wrong with: (attempt, the disk before it, its calls)."""
    attempt = operation.prepare(subject)
    subject.arrange()
    disk = powercut.Disk(subject.place.vault.parent)
    with Watch(subject.pod.pid, subject.place.vault.parent, operation.worker, Fault(always=operation.always)) as seen:
        done = subject.run(attempt)
    assert done.returncode == 0, done
    return attempt, disk, seen.calls


def rescue_key(state):
    """docs/vault-format.md, "Header"."""
    return dict(state)["vault.tpv"][80:112]


def what_opens(state, attempt):
    """"old", "new", or what else is the matter. A save in the pod leaves no temporary file behind."""
    try:
        with new_pod(dict(state), dict.fromkeys((attempt.new.passphrase, attempt.old.passphrase)), "16m") as (pod, passphrase):
            found = (passphrase, tree(pod.place.secrets))
            pod.place.write("more", b"more")
            done = pod.tazpod("save", inside=False)
            if done.returncode != 0:
                return f"a later save fails: {done.stderr.decode()}"
            left = [name for name in files(pod.place.vault.parent) if ".tmp-" in name or "conflict" in name]
            if left:
                return f"left behind: {left}"
    except DoesNotOpen as error:
        return f"does not open: {error}"
    if attempt.old == attempt.new:  # a new data key: the public one that comes from it tells
        return "new" if found == (attempt.new.passphrase, attempt.new.tree) and rescue_key(state) == attempt.key else "old"
    for name in ("old", "new"):
        content = getattr(attempt, name)
        if found == (content.passphrase, content.tree):
            return name
    return "opens with something else"


def losses(disk, calls, attempt):
    """What is lost, a line for each state of the disk in which something is; and how many states there are."""
    while_it_runs = powercut.states(disk, calls)
    at_its_end = set(disk.states())
    lost, seen = [], set()
    for state, when in while_it_runs.items():
        verdict = what_opens(state, attempt)
        seen.add(verdict)
        names = sorted(name.partition("tmp-")[0] + ("tmp-" if "tmp-" in name else "") for name, _ in state)
        if verdict not in ("old", "new"):
            lost.append(f"after {when}, {names}: {verdict}")
        elif state in at_its_end and verdict != "new":
            lost.append(f"it has said that it is done, and after a power cut the vault is old: {names}")
    return lost, len(while_it_runs), seen


@pytest.mark.parametrize("operation, generations", **pairs(ROWS, GENERATIONS))
def test_a_power_cut_leaves_the_old_vault_or_the_new_one(operation, generations):
    subject = Subject(generations)
    try:
        attempt, disk, calls = record(subject, operation)
        attempt.key = rescue_key(files(subject.place.vault.parent))
        lost, count, seen = losses(disk, calls, attempt)
    finally:
        subject.close()
    print(f"{operation}, {generations} earlier generations: {count} states after {len(calls)} calls")
    assert not lost, "\n".join(lost)
    assert seen == {"old", "new"}, "both were seen"


# ---- that the harness would notice ----


def in_place(vault, data):
    fd = os.open(vault, os.O_WRONLY | os.O_TRUNC)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)


def beside(vault, data, is_synced=True):
    fd = os.open(f"{vault}.tmp-0", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    half = len(data) // 2
    os.write(fd, data[:half])
    os.write(fd, data[half:])
    if is_synced:
        os.fsync(fd)
    os.close(fd)


def sync_folder(vault):
    fd = os.open(os.path.dirname(vault), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def rename_without_the_data(vault, data):
    beside(vault, data, is_synced=False)
    os.rename(f"{vault}.tmp-0", vault)
    sync_folder(vault)


def rename_and_no_more(vault, data):
    beside(vault, data)
    os.rename(f"{vault}.tmp-0", vault)


def old_one_away_first(vault, data):
    beside(vault, data)
    os.rename(vault, f"{vault}.1")
    os.rename(f"{vault}.tmp-0", vault)
    sync_folder(vault)


def as_it_should_be(vault, data):
    beside(vault, data)
    os.link(vault, f"{vault}.1")
    os.rename(f"{vault}.tmp-0", vault)
    sync_folder(vault)


def watched(saver, vault, data):
    """The calls of a saver, which is a process of its own and ends well."""
    wait, go = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.read(wait, 1)
            saver(str(vault), data)
            os._exit(0)
        finally:
            os._exit(1)
    os.close(wait)
    handle = os.pidfd_open(pid)
    try:
        with Watch(pid, vault.parent, None) as seen:
            os.write(go, b"x")
            assert select.select([handle], [], [], DEADLINE_S)[0], "it does not end"
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        os.close(handle)
        os.close(go)
    return seen.calls


SAVERS = [(in_place, "does not open"), (rename_without_the_data, "does not open"),
          (rename_and_no_more, "said that it is done"), (old_one_away_first, "does not open"), (as_it_should_be, None)]


@pytest.fixture(scope="module")
def two_vaults():
    """An attempt, and a vault's bytes before and after it."""
    subject = Subject(0)
    try:
        before = subject.place.vault.read_bytes()
        attempt, _, _ = record(subject, SAVE)
        yield attempt, before, subject.place.vault.read_bytes()
    finally:
        subject.close()


@pytest.mark.parametrize("saver, word", SAVERS, ids=[saver.__name__ for saver, _ in SAVERS])
def test_a_naive_saver_is_caught_and_a_careful_one_is_not(two_vaults, saver, word):
    attempt, before, after = two_vaults
    place = Place(size="1m")
    try:
        lay_out(place, {"vault.tpv": before})
        disk = powercut.Disk(place.vault.parent)
        calls = watched(saver, place.vault, after)
        assert place.vault.read_bytes() == after, "it saves, where the power stays"
        lost, count, _ = losses(disk, calls, attempt)
    finally:
        place.close()
    print(f"{saver.__name__}: {len(lost)} of {count} states are lost")
    assert count > 1
    if word:
        assert any(word in line for line in lost), lost
    else:
        assert lost == []
