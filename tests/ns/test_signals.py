"""Every number there is, sent to process 1: what the manual's table says is what happens.

Sent from outside, as an engine does it, and from inside, where the kernel spares process 1 what it has
no use for.
"""

import os
import pathlib
import re
import signal
import subprocess

import pytest

from nsinit import TOP, is_alive, status_field, until

ALL = range(1, 65)
# How an engine counts from SIGRTMIN: the C library that process 1 is built with has another one.
RTMIN = 34
STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGPWR, RTMIN + 3}
FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}

STOPS, TO_MAIN, DROPPED, CHILDREN, NOT_TAKEN = "stop", "to the main command", "dropped", "children collected", "not taken"


# ---- the table ----


def numbers_of(cell):
    """{number} of the first column, or None: all that have no row of their own."""
    if cell == "all others":
        return None
    found = set()
    for name in re.findall(r"SIG[A-Z]+(?:\+\d+)?", cell):
        found.add(RTMIN + int(name[9:]) if name.startswith("SIGRTMIN+") else int(signal.Signals[name]))
    given = re.search(r"Pq (\d+)", cell)
    assert not given or found == {int(given.group(1))}, cell
    return found


def rows():
    """[numbers, with a vault, without] of the page. A cell that goes on below, or a name, takes more lines."""
    section = re.search(r"^\.Sh SIGNALS\n(.*?)^\.El", (TOP / "docs/man/tazpod-init.8").read_text(), re.M | re.S).group(1)
    found = []
    for line in re.findall(r"^\.It (.*)", section, re.M)[1:]:
        name, *cells = (cell.strip().strip('"') for cell in line.split(" Ta "))
        goes_on = all(cell == "" or cell.startswith("without one") for cell in cells)
        if goes_on:
            cells = [f"{before} {cell}".strip() for before, cell in zip(found[-1][1:], cells)]
            found[-1] = [numbers_of(name) | found[-1][0] if name and found[-1][0] else found[-1][0], *cells]
        else:
            found.append([numbers_of(name), *cells])
    return found


def table():
    """{(number, with a vault, with a main command): what happens}"""
    named = {number for numbers, *_ in rows() if numbers for number in numbers}
    found = {}
    for numbers, *cells in rows():
        for number in set(ALL) - named if numbers is None else numbers:
            for with_vault, cell in zip((True, False), cells):
                with_one, _, without_one = cell.partition("; without one: ")
                assert {with_one, without_one or with_one} <= {STOPS, TO_MAIN, DROPPED, CHILDREN, NOT_TAKEN}, cell
                found[number, with_vault, True] = with_one
                found[number, with_vault, False] = without_one or with_one
    return found


def test_the_manuals_table_has_every_number_in_every_case_and_says_what_it_must():
    found = table()
    assert set(found) == {(number, vault, main) for number in ALL for vault in (True, False) for main in (True, False)}
    for number in STOPPING:
        assert [found[number, *case] for case in ((True, True), (True, False), (False, True), (False, False))] == [
            STOPS, STOPS, TO_MAIN, STOPS]
    assert {number for number in ALL if found[number, True, True] == NOT_TAKEN} == {signal.SIGKILL, signal.SIGSTOP}
    assert {number for number in ALL if found[number, True, True] == CHILDREN} == {signal.SIGCHLD}
    forwarded = set(ALL) - STOPPING - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
    for vault in (True, False):
        assert {found[number, vault, True] for number in forwarded} == {TO_MAIN}
        assert {found[number, vault, False] for number in forwarded} == {DROPPED}


# ---- who takes, and who sends ----

# Takes all 64 by the system calls: a C library keeps some numbers for itself.
TAKES_ALL = """
import ctypes, os
MASK, WAIT = {"x86_64": (14, 128), "aarch64": (135, 137)}[os.uname().machine]
libc, every = ctypes.CDLL(None), ctypes.byref(ctypes.c_uint64(2**64 - 1))
libc.syscall(MASK, 0, every, None, 8)
print("ready", flush=True)
while True:
    number = libc.syscall(WAIT, every, None, None, 8)
    if number > 0:
        print(number, flush=True)
"""
RECORDER = ("/usr/bin/python3", "-c", TAKES_ALL)

SENDS = """
import os, sys
for line in sys.stdin:
    os.kill(1, int(line))
    print(flush=True)
"""


def taken(pod):
    """What the recorder got, in its order."""
    return [int(word) for word in pod.out().split()[1:]]


class Inside:
    """A process of the pod, as `docker exec` starts one, that sends signals to process 1."""

    def __init__(self, pod, uid):
        self.process = subprocess.Popen(
            ["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid", str(uid), "--regid",
             str(uid), "--clear-groups", "/usr/bin/python3", "-c", SENDS],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, number):
        self.process.stdin.write(f"{int(number)}\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "\n":  # else it was told to end before it could say so
            assert self.process.wait() in (-signal.SIGKILL, -signal.SIGTERM), f"{number} could not be sent"

    def close(self):
        self.process.communicate()  # the end of its input is its end, if it has not ended with the pod


@pytest.fixture
def sender():
    """send(number), from where it says."""
    made = []

    def make(pod, where):
        if where == "outside":
            return lambda number: os.kill(pod.pid, int(number))
        made.append(Inside(pod, pod.uid))
        return made[-1]

    yield make
    for one in made:
        one.close()


WHERE = pytest.mark.parametrize("where", ["outside", "inside"])
VAULTS = pytest.mark.parametrize("with_vault", [False, True], ids=["no-vault", "open-vault"])


# ---- the walk ----


@WHERE
@VAULTS
def test_what_is_the_main_commands_reaches_it_once_each_and_changes_nothing_else(start, make_place, sender, with_vault, where):
    expects = table()
    pod = start(*RECORDER, place=make_place() if with_vault else None).ready()
    pod.wait_out("ready")
    if with_vault:
        pod.create()
    main, send, expected = pod.main(), sender(pod, where), []
    for number in ALL:
        meaning = expects[number, with_vault, True]
        if meaning in (STOPS, NOT_TAKEN):
            continue
        send(number)
        if meaning == TO_MAIN:
            expected.append(number)
            until(lambda: len(taken(pod)) >= len(expected), f"signal {number} at the main command; it has {taken(pod)}")
    assert taken(pod) == expected, "each once, and none beside them"
    assert len(expected) == 61 - (len(STOPPING) if with_vault else 0)
    assert pod.main() == main and not pod.has_ended()
    if with_vault:
        assert pod.status()["state"] == "open"
        pod.ok("lock")


@WHERE
@VAULTS
def test_without_a_main_command_all_but_the_stopping_are_dropped(start, make_place, sender, with_vault, where):
    expects = table()
    pod = start(place=make_place() if with_vault else None, options=("--verbose", "2")).ready()
    if with_vault:
        pod.create()
    send, sent = sender(pod, where), []
    for number in ALL:
        if expects[number, with_vault, False] == DROPPED:
            send(number)
            sent.append(number)
            if number not in FAULTS:  # these do not come through its descriptor
                until(lambda: f" signal signal={number}\n" in pod.log(), f"signal {number} taken; log:\n{pod.log()}")
    assert len(sent) == 57
    until(lambda: status_field(pod.pid, "State")[0] == "S", "it is at rest")
    assert not pod.has_ended() and "fault" not in pod.log()
    if with_vault:
        assert pod.status()["state"] == "open"
    send(signal.SIGTERM)
    assert pod.wait() == 0


@WHERE
@pytest.mark.parametrize("number", sorted(STOPPING), ids=int)
@pytest.mark.parametrize("vault, with_main", [("open", True), ("locked", True), ("absent", True), ("locked", False), ("none", False)])
def test_the_stopping_ones_stop_and_the_main_command_sees_a_term(start, make_place, sender, vault, with_main, number, where):
    assert table()[number, vault != "none", with_main] == STOPS
    # One that can't be used is configured all the same.
    place = None if vault == "none" else make_place(run_owner=0) if vault == "absent" else make_place()
    pod = start(*(("sleep", "infinity") if with_main else ()), place=place).ready()
    if vault == "absent":
        assert "refuse error=bad-run-dir" in pod.log()
    if vault == "open":
        pod.create()
    if with_main:
        pod.main()
    send = sender(pod, where)
    send(number)
    assert pod.wait() == (128 + signal.SIGTERM if with_main else 0)


def test_they_go_on_to_be_forwarded_during_a_stop(start, place):
    pod = start(*RECORDER, place=place, options=("--stop-timeout", "60s")).ready().create()
    pod.wait_out("ready")
    pod.signal(signal.SIGINT)
    until(lambda: signal.SIGTERM in taken(pod), "the stop has reached it")
    for number in (signal.SIGUSR1, signal.SIGABRT, 64):
        pod.signal(number)
        until(lambda: number in taken(pod), f"signal {number}")
    assert signal.SIGINT not in taken(pod), "it was told by TERM"
    pod.signal(signal.SIGTERM)  # and skips the rest of the minute
    assert pod.wait() == 128 + signal.SIGKILL


# ---- order and count ----


def test_order_and_count_are_kept_where_the_kernel_keeps_them(start):
    """Process 1 stands still while they come: of the real-time ones each is there, of the others one,
    and the lower numbers come first. More than it takes from its descriptor at a time."""
    pod = start(*RECORDER)
    pod.wait_out("ready")
    pod.signal(signal.SIGSTOP)
    until(lambda: status_field(pod.pid, "State")[0] == "T", "it stands still")
    queued = {64: 30, 50: 1, 40: 60, 37: 5, 34: 3}
    merged = {signal.SIGUSR2: 3, signal.SIGWINCH: 2, signal.SIGHUP: 7, signal.SIGTERM: 2}
    for number, count in {**queued, **merged}.items():
        for _ in range(count):
            pod.signal(number)
    assert taken(pod) == []
    pod.signal(signal.SIGCONT)  # this one is forwarded too
    expected = sorted([*merged, signal.SIGCONT] + [number for number, count in queued.items() for _ in range(count)])
    until(lambda: len(taken(pod)) >= len(expected), "all of them")
    assert taken(pod) == expected
    # And nothing is still on its way.
    pod.signal(signal.SIGUSR1)
    until(lambda: taken(pod)[-1] == signal.SIGUSR1, "the last one")
    assert len(taken(pod)) == len(expected) + 1


# ---- the two that nobody can take ----


@pytest.mark.parametrize("uid", [0, 1000], ids=["root", "owner"])
@VAULTS
def test_kill_and_stop_from_inside_do_nothing_to_process_1(start, make_place, sender, uid, with_vault):
    pod = start("sleep", "infinity", uid=uid, place=make_place() if with_vault else None).ready()
    if with_vault:
        pod.create()
    main, send = pod.main(), sender(pod, "inside")
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for _ in range(3):
            send(number)
            assert status_field(pod.pid, "State")[0] in "SR" and is_alive(main)
    assert not pod.has_ended()
    if with_vault:
        pod.ok("save")
        assert pod.status()["state"] == "open"
    # From outside they do what they do anywhere: it is the sender's place that makes the difference.
    pod.signal(signal.SIGSTOP)
    until(lambda: status_field(pod.pid, "State")[0] == "T", "a stop from outside")
    pod.signal(signal.SIGKILL)
    assert pod.wait() == -signal.SIGKILL
    assert not is_alive(main), "all go with process 1"


