"""Every system call of the worker that rewrites a vault goes wrong once, under its real filter, and it,
its partner and process 1 are killed at every one of them. Whatever happens, the vault opens, with the
old content or with the new one.

The short form makes each call of a save and of `key passwd` fail in one way, and kills at those of a save.
With TAZPOD_LONG=1 in every way, with other numbers of earlier generations, and for all operations.
"""

import os

import pytest

import operations
import powercut
from faults import Fault, Watch
from nsinit import tree
from operations import OPERATIONS, PASSWD, SAVE, DoesNotOpen, Subject, earlier, files, opened, pairs

LONG = os.environ.get("TAZPOD_LONG") == "1"
ROWS = OPERATIONS if LONG else [SAVE, PASSWD]
GENERATIONS = [0, 2, 5] if LONG else [2]

# What the pipe between the two holds (init/worker.c), and what the sealer may have read ahead of it.
PIPE, AHEAD = 256 * 1024, 2 * 65536
BEYOND_THE_PIPE = 600_000


class Fails(AssertionError):
    pass


def must(is_true, what):
    if not is_true:
        raise Fails(what)


def ways(call):
    """The errors that a call is made to fail with."""
    errors = ["EIO", "ENOSPC", "EINTR"]
    if call.name == "write":
        return ["ENOSPC", "EIO", "EINTR", "short"]
    if call.is_new:
        return ["ENOSPC", "EIO", "EINTR"]
    return errors


def recorded(operation, generations, large=200_000, anew=False):
    """The calls of the command where nothing goes wrong. anew: behind an unlock, as in a pod that was restarted."""
    subject = Subject(generations, large)
    try:
        if anew:
            subject.open_anew()
        attempt = operation.prepare(subject)
        subject.arrange()
        with Watch(subject.pod.pid, subject.place.vault.parent, operation.worker, Fault(always=operation.always)) as seen:
            done = subject.run(attempt)
        assert done.returncode == 0, done
        assert opened(files(subject.place.vault.parent), (attempt.new.passphrase,)) == attempt.new
        assert [call.at for call in seen.calls] == list(range(1, len(seen.calls) + 1))
        return seen.calls
    finally:
        subject.close()


def check_generations(before, after, attempt, calls, vault_is_new):
    """None is lost but to make room for others, and each is a file that opened before, or one that an
    earlier try had put in place."""
    known = set(earlier(before).values()) | {before["vault.tpv"]}
    for data in set(earlier(after).values()) - known:
        must(opened({"vault.tpv": data}, (attempt.new.passphrase,)) == attempt.new, "an unknown earlier generation")
    tries = [call.attempt for call in calls if call.to.endswith("/vault.tpv") and call.result == 0]
    # Room is made before a file is put in place: a try that came to its end there may have begun to.
    commits = len(tries) + (calls[-1].attempt not in tries)
    room = 5 - len(earlier(before))
    missing = [number for number, data in earlier(before).items() if data not in earlier(after).values()]
    must(missing == list(earlier(before))[len(earlier(before)) - len(missing):], f"not the oldest are lost: {missing}")
    must(len(missing) <= max(0, commits - room), f"{len(tries)} were put in place, and {missing} are lost")
    if vault_is_new and commits <= 5:
        must(before["vault.tpv"] in earlier(after).values(), "what was in place is not kept")


def check_settled(subject, found, operation):
    """A later save works, and a later try too, and nothing is left behind."""
    subject.now = found
    for later in dict.fromkeys((SAVE.name, operation.name)):
        again = SAVE if later == SAVE.name else operation
        attempt = again.prepare(subject)
        done = subject.run(attempt)
        must(done.returncode == 0, f"a later {later} fails: {done.stderr.decode()}")
        after = files(subject.place.vault.parent)
        must(not [name for name in after if ".tmp-" in name], f"a temporary file is left: {sorted(after)}")
        must(not [name for name in after if "conflict" in name], f"what nobody else wrote is a conflict: {sorted(after)}")
        if LONG or later == operation.name:
            must(opened(after, (attempt.new.passphrase,)) == attempt.new, f"a later {later} did not write what it said")
        subject.now = attempt.new


def one(subject, operation, fault, expected):
    """A case. The subject is as before it, but for the content."""
    folder = subject.place.vault.parent
    if fault.whom == "init":
        subject.open_anew()
    attempt = operation.prepare(subject)
    subject.arrange()
    before, in_ram = files(folder), tree(subject.place.secrets)
    disk = powercut.Disk(folder)
    fault.always = operation.always
    with Watch(subject.pod.pid, folder, operation.worker, fault) as seen:
        done = subject.run(attempt)
    hit = [call for call in seen.calls if call.at == fault.at and call.hit]
    must(hit and hit[0].name == expected.name,
         f"not hit, but {hit[0] if hit else seen.calls[-1] if seen.calls else None}")
    must(hit[0].hit == (f"kill {fault.whom}" if fault.how == "kill" else fault.how), f"hit otherwise: {hit[0]}")
    if not fault.every:
        must(sum(call.hit.startswith("kill") for call in hit) == 1, f"hit more than once: {hit}")

    after = files(folder)
    must("vault.tpv" in after, f"there is no vault: {sorted(after)}")
    is_new = after["vault.tpv"] != before["vault.tpv"]
    try:
        found = opened(after, dict.fromkeys((attempt.new.passphrase, attempt.old.passphrase)))
    except DoesNotOpen as error:
        raise Fails(f"the vault does not open: {error}") from error
    must(found == (attempt.new if is_new else attempt.old), "the vault holds neither the old nor the new content")
    check_generations(before, after, attempt, seen.calls, is_new)
    if done.returncode == 0:
        must(is_new, "reported as done, and the old content is in place")
        ends = {dict(state).get("vault.tpv") for state in powercut.end_states(disk, seen.calls)}
        must(ends == {after["vault.tpv"]}, "reported as done, and a power cut would undo it")

    if fault.how == "kill" and fault.whom == "init":
        must(subject.pod.wait() == -9, "process 1 is still there")
        subject.restart()
        done = subject.pod.tazpod("unlock", passphrase=found.passphrase, inside=False)
        must(done.returncode == 0, f"the restarted pod does not open it: {done.stderr.decode()}")
        must(tree(subject.place.secrets) == found.tree, "the restarted pod opens something else")
    else:
        must(subject.pod.status(inside=False)["state"] == "open", "it is not open any more")
        must(tree(subject.place.secrets) == (found.tree if operation.reopens else in_ram), "the RAM was not kept")
    check_settled(subject, found, operation)


def every(operation, generations, faults, large=200_000):
    """Each (call, fault). All that fail are told, not the first alone."""
    wrong, count = [], 0
    subject = Subject(generations, large)
    try:
        for call, fault in faults:
            count += 1
            try:
                one(subject, operation, fault, call)
            except Fails as error:
                wrong.append(f"{call} {fault}: {error}")
                subject.close()
                subject = Subject(generations, large)
    finally:
        subject.close()
    print(f"{operation}, {generations} earlier generations: {count} cases")
    assert count > 0
    assert not wrong, "\n".join(wrong)


killed_rows = pytest.mark.parametrize("operation, generations", **pairs(OPERATIONS if LONG else [SAVE], GENERATIONS))
each_row = pytest.mark.parametrize("operation, generations", **pairs(ROWS, GENERATIONS))


@each_row
def test_a_call_that_fails_costs_neither_the_old_content_nor_the_new(operation, generations):
    calls = recorded(operation, generations)
    names = {call.name for call in calls}
    # That nothing is missed: what a vault is rewritten with, by whatever worker.
    assert names >= {"openat", "flock", "pread64", "write", "fsync", "renameat", "getdents64"}, names
    assert sum(call.name == "fsync" for call in calls) >= 2
    cases = []
    for call in calls:
        each = ways(call)
        chosen = each if LONG else [each[call.at % len(each)]]
        cases += [(call, Fault(call.at, error)) for error in chosen]
    every(operation, generations, cases)


@killed_rows
@pytest.mark.parametrize("often", [True, False] if LONG else [True], ids=lambda often: "each try" if often else "once")
def test_a_worker_killed_at_a_call(operation, generations, often):
    """Each try of it, so that the command fails; or the first, whose debris the next one finds."""
    calls = recorded(operation, generations)
    every(operation, generations, [(call, Fault(call.at, "kill", "self", often)) for call in calls])


@killed_rows
def test_process_one_killed_at_a_call_of_its_worker(operation, generations):
    calls = recorded(operation, generations, anew=True)
    every(operation, generations, [(call, Fault(call.at, "kill", "init")) for call in calls])


def before_the_packer_has_ended(calls):
    """Those at which it can't have: what is left to write is more than what the pipe holds."""
    first = next(call for call in calls if call.name == "write").path
    total = sum(len(call.data) for call in calls if call.path == first)
    written, chosen = 0, []
    for call in calls:
        if total - written > PIPE + AHEAD:
            chosen.append(call)
        written += len(call.data)
    return chosen


@pytest.mark.parametrize("operation, generations", **pairs([row for row in ROWS if row.worker == "seal"], GENERATIONS))
def test_a_packer_killed_at_a_call_of_the_sealer(operation, generations):
    calls = before_the_packer_has_ended(recorded(operation, generations, BEYOND_THE_PIPE))
    assert sum(call.name == "write" for call in calls) >= 3, "also in the middle of the file"
    every(operation, generations, [(call, Fault(call.at, "kill", "packer")) for call in calls], BEYOND_THE_PIPE)
