"""What process 1 was started with: repaired for itself, and handed on as the main command needs it."""

import json
import os
import signal

import pytest

from nsinit import status_field, until

ALL_BUT_TWO = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def ignore(*numbers):
    def act():
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    return act


def block(*numbers):
    return lambda: signal.pthread_sigmask(signal.SIG_SETMASK, numbers)


def signals_of_main(start, before_exec, make_place=None):
    pod = start("cat", "/proc/self/status", before_exec=before_exec, place=make_place() if make_place else None)
    assert pod.wait() == 0
    return {key: int(value, 16) for key, value in
            (line.split(":") for line in pod.out().splitlines() if line.startswith("Sig") and "/" not in line)}


def test_an_ignored_sigchld_does_not_hide_the_main_commands_end(start):
    assert start("sh", "-c", "exit 5", before_exec=ignore(signal.SIGCHLD)).wait() == 5


def test_a_blocked_term_still_stops_the_main_command(start):
    pod = start("sleep", "infinity", before_exec=block(signal.SIGTERM)).ready()
    pod.main()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM


def test_an_ignored_term_still_stops_the_main_command(start):
    pod = start("sleep", "infinity", before_exec=ignore(signal.SIGTERM)).ready()
    pod.main()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("vault", [False, True], ids=["no-vault", "vault-place"])
@pytest.mark.parametrize(
    "before", [lambda: None, ignore(*ALL_BUT_TWO), block(*ALL_BUT_TWO)], ids=["clean", "all-ignored", "all-blocked"]
)
def test_the_main_command_has_no_mask_and_default_dispositions(start, make_place, vault, before):
    got = signals_of_main(start, before, make_place if vault else None)
    # 32 and 33 are glibc's own, so Python could not set them either.
    assert {key: got[key] for key in ("SigBlk", "SigIgn", "SigCgt")} == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_closed_standard_descriptors_become_dev_null(start, closed):
    """Else the first file that is opened would be somebody's standard error."""

    def close():
        for number in closed:
            os.close(number)

    reader, writer = os.pipe()
    script = "import os, json; os.write(9, json.dumps([os.readlink(f'/proc/self/fd/{n}') for n in range(3)]).encode())"
    pod = start("/usr/bin/python3", "-c", script, before_exec=close, descriptors={9: writer})
    os.close(writer)
    assert pod.wait() == 0
    links = json.loads(os.read(reader, 4096))
    os.close(reader)
    assert {links[number] for number in closed} == {"/dev/null"}
    assert all(links[number] != "/dev/null" for number in (1, 2) if number not in closed)


def test_the_main_command_gets_directory_environment_and_descriptors(start):
    reader, writer = os.pipe()
    script = "import os, json; os.write(7, json.dumps([os.getcwd(), os.environ['COLOUR'], sorted(map(int, os.listdir('/proc/self/fd')))]).encode())"
    pod = start("/usr/bin/python3", "-c", script, cwd="/usr/share", env={"COLOUR": "blue"}, descriptors={7: writer})
    os.close(writer)
    assert pod.wait() == 0
    cwd, colour, descriptors = json.loads(os.read(reader, 4096))
    os.close(reader)
    assert (cwd, colour) == ("/usr/share", "blue")
    # 3 is the listing's own: nothing of process 1 leaks into its main command.
    assert descriptors == [0, 1, 2, 3, 7]


@pytest.mark.parametrize("vault", [False, True], ids=["no-vault", "vault-place"])
def test_process_1_keeps_neither_the_directory_nor_a_descriptor(start, make_place, vault):
    reader, writer = os.pipe()
    pod = start("sh", "-c", "exec 7>&-; echo closed; exec sleep infinity", cwd="/usr/share",
                descriptors={7: writer}, place=make_place() if vault else None).ready()
    os.close(writer)
    pod.wait_out("closed")
    os.set_blocking(reader, False)
    until(lambda: _at_end(reader), "the end of the pipe: somebody still holds descriptor 7", 3)
    os.close(reader)
    assert os.readlink(f"/proc/{pod.pid}/cwd") == "/"


def _at_end(reader):
    try:
        return os.read(reader, 1) == b""
    except BlockingIOError:
        return False


def test_the_main_command_leads_a_process_group_of_its_own(start):
    pod = start("sleep", "infinity").ready()
    main = pod.main()
    assert os.getpgid(main) == main
    assert os.getpgid(pod.pid) != main


def test_process_1_blocks_all_but_the_five_faults(start, place):
    # A plain init waits for what it has blocked, and the kernel shows nothing blocked meanwhile.
    pod = start("sleep", "infinity", place=place).ready()
    blocked = int(status_field(pod.pid, "SigBlk"), 16)
    faults = {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}
    unblocked = {number for number in range(1, 65) if not blocked >> (number - 1) & 1}
    assert unblocked == {int(number) for number in faults} | {signal.SIGKILL, signal.SIGSTOP}
