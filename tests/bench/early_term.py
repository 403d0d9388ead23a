#!/usr/bin/python3
"""A TERM that comes early: how often is it lost, under each container init?

Until process 1 has blocked its signals or has handlers for them, the kernel drops what would end it,
and an engine sends its TERM once. Each round starts every init once as process 1 of a new pid namespace,
in an order that moves on by one a round, and sends it a TERM at a random moment of the first two
milliseconds after clone(2). That returns at the exec of the init, as vfork does, so what counts is the
init's own time and not the starter's.

A TERM that was not lost ends the main command. That is not waited for: once the main command runs, a
second signal follows, with a higher number and so never taken before a TERM that is still pending, and
the exit status tells which of the two it was. The share that is lost, times those two milliseconds, is
how long the window is.

Judges nothing; fails where an init is not there or does not end. Needs root.

usage: early_term.py [-n ROUNDS] BUILD
BUILD holds tazpod-init.
"""

import argparse
import ctypes
import fcntl
import math
import os
import pathlib
import random
import select
import signal
import sys
import time

WITHIN_S = 0.002
SECOND = signal.SIGVTALRM  # deadly, forwarded by all, and higher than TERM
STARTED = 3  # a descriptor of the main command, which says on it that it runs
MAIN = ("/bin/sh", "-c", f"echo runs >&{STARTED}; exec sleep infinity")
LIMIT_S = 20  # for an end that always comes

CLONE_NEWPID = 0x20000000
_libc = ctypes.CDLL(None, use_errno=True)


def first_of(*paths):
    return next((path for path in paths if os.access(path, os.X_OK)), paths[0])


def inits(build):
    """{name: words before the main command}"""
    return {
        "tini": ("/usr/bin/tini", "--"),
        "dumb-init": ("/usr/bin/dumb-init", "--"),
        "catatonit": ("/usr/bin/catatonit", "--"),
        "docker-init": (first_of("/usr/bin/docker-init", "/usr/libexec/docker/docker-init", "/usr/bin/tini-static"), "--"),
        "tazpod": (str(build / "tazpod-init"), "--vault", "none", "--"),
    }


def checked(name, *args):
    if getattr(_libc, name)(*args) < 0:
        raise SystemExit(f"early_term.py: {name}: {os.strerror(ctypes.get_errno())} (are you root?)")


def start(words, here):
    """Its pid, once it has begun. here: a descriptor of our own pid namespace, where we stay."""
    checked("unshare", CLONE_NEWPID)  # of the next child
    pid = os.posix_spawn(words[0], words, {"PATH": "/usr/bin:/bin"}, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
    checked("setns", here, CLONE_NEWPID)
    return pid


def is_lost(name, words, delay, null, here):
    """One start, and a TERM that late."""
    reader, writer = os.pipe()
    os.dup2(writer, STARTED, inheritable=True)
    os.close(writer)
    pid = start((*words, *MAIN), here)
    at = time.perf_counter() + delay
    while time.perf_counter() < at:  # a sleep would be longer than all of it
        pass
    os.kill(pid, signal.SIGTERM)
    os.dup2(null, STARTED)  # ours is closed, and the number still taken
    end = os.pidfd_open(pid)
    try:
        if not select.select([reader], [], [], LIMIT_S)[0]:
            raise SystemExit(f"early_term.py: {name}: its main command neither runs nor ends")
        if os.read(reader, 16):
            os.kill(pid, SECOND)
        if not select.select([end], [], [], LIMIT_S)[0]:
            raise SystemExit(f"early_term.py: {name}: no end by {SECOND.name}")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(end)
        os.close(reader)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status not in (128 + signal.SIGTERM, 128 + SECOND):
        raise SystemExit(f"early_term.py: {name}: exit status {status}")
    return status != 128 + signal.SIGTERM


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", type=int, default=600)
    parser.add_argument("build", type=pathlib.Path)
    options = parser.parse_args()
    tools = inits(options.build.resolve())
    for words in tools.values():
        if not os.access(words[0], os.X_OK):
            raise SystemExit(f"early_term.py: {words[0]} is needed")
    null = fcntl.fcntl(os.open("/dev/null", os.O_RDWR), fcntl.F_DUPFD_CLOEXEC, 10)
    for number in (0, STARTED):  # STARTED is taken from now on, so no pipe lands there
        os.dup2(null, number)
    here = os.open("/proc/self/ns/pid", os.O_RDONLY)

    lost = dict.fromkeys(tools, 0)
    for turn in range(options.n):
        for place in range(len(tools)):
            name = list(tools)[(turn + place) % len(tools)]
            lost[name] += is_lost(name, tools[name], random.uniform(0, WITHIN_S), null, here)

    print(f"a TERM at a random moment of the first {WITHIN_S * 1000:.0f} ms after clone: {options.n} rounds, alternated; "
          f"{os.uname().release}, {os.cpu_count()} processors")
    print(f"{'':12} {'lost':>8} {'share':>8} {'window us':>14}")
    for name, count in lost.items():
        share = count / options.n
        spread = 1.96 * math.sqrt(share * (1 - share) / options.n)
        print(f"{name:12} {count:8} {share:8.1%} {share * WITHIN_S * 1e6:8.0f} ±{spread * WITHIN_S * 1e6:4.0f}")


if __name__ == "__main__":
    sys.exit(main())
