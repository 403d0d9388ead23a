"""Process 1 starts: what it finds is put right, it holds nothing of the place, and loses no TERM."""

import contextlib
import ctypes
import itertools
import json
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

from nsinit import Pod, children, libc, until

# How many starts, a third of them on a busy machine; the long form takes thousands.
ROUNDS = int(os.environ.get("TAZPOD_ROUNDS", 300))

SYS_RT_SIGACTION, SYS_RT_SIGPROCMASK = {"x86_64": (13, 14), "aarch64": (134, 135)}[os.uname().machine]
SIG_IGN = 1
ALL = 2**64 - 1

PLACES = pytest.mark.parametrize("with_vault", [False, True], ids=["no-vault", "vault-place"])


def bits(*numbers):
    return sum(1 << (number - 1) for number in numbers)


# ---- dispositions and mask, by number ----


def ignore_and_block_all():
    """By the system calls: a C library keeps some of the numbers (32 to 34) for itself."""
    action = (ctypes.c_ulong * 8)(SIG_IGN)
    for number in set(range(1, 65)) - {signal.SIGKILL, signal.SIGSTOP}:
        libc("syscall", SYS_RT_SIGACTION, number, action, None, 8)
    libc("syscall", SYS_RT_SIGPROCMASK, signal.SIG_SETMASK, ctypes.byref(ctypes.c_uint64(ALL)), None, 8)


def masks(text):
    """{name: bits} of /proc/PID/status."""
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: int(value, 16) for name, _, value in pairs if name in ("SigBlk", "SigIgn", "SigCgt")}


def test_what_is_planted_here_reaches_a_program_that_does_nothing_about_it():
    """The control of the next one."""
    planted = subprocess.run(["cat", "/proc/self/status"], preexec_fn=ignore_and_block_all, restore_signals=False,
                             capture_output=True, text=True, check=True).stdout
    possible = ALL & ~bits(signal.SIGKILL, signal.SIGSTOP)
    assert masks(planted) == {"SigBlk": possible, "SigIgn": possible, "SigCgt": 0}


@PLACES
def test_all_64_numbers_ignored_and_blocked_are_put_right_for_itself_and_for_the_main_command(start, make_place,
                                                                                             with_vault):
    pod = start("sh", "-c", "cat /proc/self/status; echo ready; exec sleep infinity",
                before_exec=ignore_and_block_all, place=make_place() if with_vault else None).ready()
    pod.wait_out("ready")
    assert masks(pod.out()) == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}
    own = masks(pathlib.Path(f"/proc/{pod.pid}/status").read_text())
    faults = bits(signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE)
    assert (own["SigIgn"], own["SigCgt"]) == (0, faults)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM


# ---- descriptors ----

# What it was given, and what it holds itself, to descriptor 9.
TELL_DESCRIPTORS = """
import json, os, signal
links = {}
for number in os.listdir("/proc/self/fd"):
    try:
        links[number] = os.readlink(f"/proc/self/fd/{number}")
    except FileNotFoundError:  # the listing's own
        pass
os.write(9, json.dumps(links).encode())
os.close(9)
signal.pause()
"""


@PLACES
@pytest.mark.parametrize("closed", [some for n in (1, 2, 3) for some in itertools.combinations(range(3), n)], ids=str)
def test_nothing_takes_the_place_of_standard_descriptors_that_are_closed(start, make_place, closed, with_vault):
    """Else a log line, or what the main command prints, would go into a socket or into the vault."""

    def close():
        for number in closed:
            os.close(number)

    reader, writer = os.pipe()
    place = make_place() if with_vault else None
    pod = start("/usr/bin/python3", "-c", TELL_DESCRIPTORS, before_exec=close, descriptors={9: writer}, place=place)
    os.close(writer)
    mains = {int(number): link for number, link in json.loads(os.read(reader, 4096)).items()}
    os.close(reader)
    given = {0: "null", 1: "out", 2: "log"}
    expected = {number: "null" if number in closed else name for number, name in given.items()}
    assert set(mains) == {0, 1, 2, 9}
    assert {number: os.path.basename(mains[number]) for number in given} == expected

    if with_vault:
        until(place.socket.exists, "its socket")  # its log may be closed
        pod.create()
        place.write("key", b"a secret")
        pod.ok("save")
    else:
        pod.ready()
    # Its own standard error alone is as it came.
    own = {number: os.path.basename(os.readlink(f"/proc/{pod.pid}/fd/{number}")) for number in given}
    assert own == {0: "null", 1: "null", 2: expected[2]}
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    if with_vault:
        again = start(place=place).ready().unlock()
        assert (again.secrets / "key").read_bytes() == b"a secret"


# ---- the place it was started in ----

HOLDS_BOTH = "trap 'cd /; exec 7<&-; echo left' USR1; pwd; cat <&7; echo ready; while :; do sleep 0.02; done"


def unmount(pod, path):
    """In its mount namespace, and not lazily: refused while anybody there holds it."""
    return subprocess.run(["nsenter", "--target", str(pod.pid), "--mount", "umount", str(path)],
                          capture_output=True, text=True)


@pytest.mark.parametrize("vault", ["none", "locked", "open"])
def test_the_main_command_gets_directory_and_descriptor_of_a_mount_and_process_1_holds_neither(start, make_place, vault):
    """The workspace, as a container has it: a mount that has to go when its user lets go."""
    place = make_place(work_size="16m")
    given = place.work / "given"
    given.write_text("given\n")

    def hold():
        # Opened here: the mounts of the pod are copies, and a descriptor of the test's would be of another.
        os.dup2(os.open(given, os.O_RDONLY), 7)

    pod = start("sh", "-c", HOLDS_BOTH, cwd=place.work, before_exec=hold, place=place if vault != "none" else None).ready()
    pod.wait_out("ready")
    assert pod.out().splitlines()[:2] == [str(place.work), "given"]
    if vault == "open":
        pod.create()
        pod.ok("save")
        until(lambda: children(pod.pid) == [pod.main()], "the end of its workers")
    kept = unmount(pod, place.work)
    assert kept.returncode != 0 and "busy" in kept.stderr, "the main command still holds it"
    pod.signal(signal.SIGUSR1)
    pod.wait_out("left")
    gone = unmount(pod, place.work)
    assert gone.returncode == 0, gone.stderr


# ---- a TERM, from its first system call on ----


@contextlib.contextmanager
def busy():
    """As many spinning processes as there are processors."""
    spinning = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(os.cpu_count())]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()


def spin_until(is_true, seconds=20):
    """No pause between two looks: what happens next is over within a millisecond."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, f"not within {seconds} s"


TERMED = 128 + signal.SIGTERM
STARTS = {
    "plain": (("sleep", "infinity"), {}, TERMED),
    "group": (("sleep", "infinity"), {"options": ("-g",)}, TERMED),  # the group must be there when it is signalled
    "vault": (("sleep", "infinity"), {"place": True}, TERMED),
    "alone": ((), {}, 0),
    "vault-alone": ((), {"place": True}, 0),
}


@pytest.mark.parametrize("load, rounds", [(contextlib.nullcontext, 2 * ROUNDS // 3 + 1), (busy, ROUNDS // 3 + 1)],
                         ids=["quiet", "busy"])
def test_a_term_after_its_first_system_call_is_never_lost(place, load, rounds):
    """The first one blocks the signals. From there it comes at any moment of the way to the main
    command's first instructions: preparations, fork, the child's exec, the loop."""
    seed = int(os.environ.get("TAZPOD_SEED", time.time_ns() % 1_000_000))
    print(f"TAZPOD_SEED={seed}")
    chance = random.Random(seed)
    with load():
        for turn in range(rounds):
            name = list(STARTS)[turn % len(STARTS)]
            command, how, expected = STARTS[name]
            delay = chance.choice([0, chance.uniform(0, 0.0005), chance.uniform(0, 0.004)])
            pod = Pod(*command, **{**how, "place": place if how.get("place") else None})
            try:
                spin_until(pod.signals_are_blocked)
                at = time.monotonic() + delay
                spin_until(lambda: time.monotonic() >= at)
                pod.signal(signal.SIGTERM)
                assert pod.wait() == expected, f"turn {turn}, {name}, {delay * 1e6:.0f} us"
            finally:
                pod.close()
