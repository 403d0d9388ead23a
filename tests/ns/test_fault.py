"""Process 1 faults: it comes back in place, and nothing is lost.

The fault is a real one, in the real program: the machine code at which process 1 will go on is
overwritten with what faults, and something wakes it.
"""

import contextlib
import os
import pathlib
import platform
import signal
import subprocess
import time

import pytest

from nsinit import (DEADLINE_S, OWNER, PASSPHRASE, UNLOCK, Client, children, is_alive, request, status_field, tree,
                    until)

# What to run in place of the next instruction. x86-64; the last raises a signal of its own.
CODE = {
    "SEGV": "31c08900",                                  # a store to address 0
    "ILL": "0f0b",
    "FPE": "31c9f7f1",                                   # a division by 0
    # A map of the descriptor %02x, which is shorter, and a load from behind its end.
    "BUS": "b809000000" "31ff" "be00001000" "ba01000000" "41ba01000000" "41b8%02x000000" "4531c9" "0f05" "8b8000000800",
    "ABRT": "b8270000000f05" "89c7" "be06000000" "b83e000000" "0f05" "ebfe",  # kill(getpid(), SIGABRT)
    "stack": "48c7c400100000" "50",                      # a push where there is no stack
}
NUMBERS = {"SEGV": 11, "ILL": 4, "FPE": 8, "BUS": 7, "ABRT": 6, "stack": 11}


def counter(pid):
    """The next instruction of a process that sleeps in a system call."""
    fields = until(lambda: (words := pathlib.Path(f"/proc/{pid}/syscall").read_text().split())[0] != "running" and words,
                   "process 1 sleeps")
    return int(fields[-1], 16)


def faults(pod):
    return pod.log().count("tazpod-init: fault ")


def fault(pod, kind="SEGV", comes_back=True):
    """Makes process 1 fault now."""
    assert platform.machine() == "x86_64", "the machine code above is x86-64's"
    before = faults(pod)
    code = CODE[kind]
    if "%" in code:
        links = {int(name): os.readlink(f"/proc/{pod.pid}/fd/{name}") for name in os.listdir(f"/proc/{pod.pid}/fd")}
        code %= next(fd for fd, link in links.items() if "tazpod-state" in link)
    at = counter(pod.pid)
    with open(f"/proc/{pod.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(at)
        memory.write(bytes.fromhex(code))
    pod.signal(signal.SIGWINCH)
    if comes_back:
        until(lambda: faults(pod) == before + 1 or pod.has_ended(), f"process 1 is back; log:\n{pod.log()}")
        assert not pod.has_ended(), f"it ended with {pod.wait()}:\n{pod.log()}"


HOW = pytest.mark.parametrize("how", [{"uid": 0}, {"uid": OWNER}, {"uid": OWNER, "may_mount": True}],
                              ids=["root", "owner", "own-mount"])


@HOW
@pytest.mark.parametrize("kind", CODE)
def test_it_comes_back_as_the_same_process_with_its_child_and_the_open_vault(start, place, how, kind):
    pod = start("sleep", "infinity", place=place, **how).ready().create()
    pod.write("key", b"a secret")
    main, began = pod.main(), status_field(pod.pid, "NSpid")
    fault(pod, kind)
    assert f"fault signal={NUMBERS[kind]} faults=1 state=open" in pod.log(), pod.log()
    assert status_field(pod.pid, "NSpid") == began
    assert pathlib.Path(f"/proc/{pod.pid}/comm").read_text() == "tazpod-init\n"
    assert is_alive(main) and pod.main() == main
    assert pod.status()["state"] == "open"
    pod.write("more", b"another")
    content = tree(pod.secrets)
    pod.ok("save")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    again = start("sleep", "infinity", place=place, **how).ready().unlock()
    assert tree(again.secrets) == content
