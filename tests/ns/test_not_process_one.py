"""Where it is not process 1 it looks after its own descendants, and leaves everybody else alone."""

import os
import signal

import pytest

from nsinit import arguments, children, is_alive, status_field, until

BOTH = pytest.mark.parametrize("uid", [0, 1000], ids=["root", "owner"])


@BOTH
def test_it_works_without_a_vault_and_gives_the_main_commands_status(start, uid):
    assert start("sh", "-c", "exit 7", beside=True, uid=uid).wait() == 7


@BOTH
def test_it_is_not_process_1_there_and_says_nothing_about_it(start, uid):
    pod = start("sleep", "infinity", beside=True, uid=uid).ready()
    assert status_field(pod.pid, "NSpid").split()[-1] not in ("1", "")
    assert "pid 1" not in pod.log().lower() and "process 1" not in pod.log().lower()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM


def test_orphans_of_its_descendants_come_to_it(start):
    script = "(sleep 1000 &) ; exec sleep 2000"
    pod = start("sh", "-c", script, beside=True)
    until(lambda: len(children(pod.pid)) == 2, "main command and orphan")
    orphan = until(lambda: next((pid for pid in children(pod.pid) if arguments(pid) == [b"sleep", b"1000"]), None),
                   "the orphan's program")
    os.kill(orphan, signal.SIGKILL)
    until(lambda: len(children(pod.pid)) == 1, "the orphan collected")


@BOTH
@pytest.mark.parametrize("terms", [1, 2])
def test_a_neighbour_survives_start_and_stop_with_an_open_vault(start, place, uid, terms):
    """Same pid namespace, same uid: `kill(-1)` would hit it."""
    daemon = "setsid sh -c 'trap \"\" TERM; echo daemon; while :; do sleep 0.05; done' & "
    ignoring = daemon + 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
    pod = start("sh", "-c", ignoring, beside=True, uid=uid, place=place, options=("--stop-timeout", "2s")).ready()
    pod.create()
    pod.wait_out("ready")
    pod.wait_out("daemon")
    place.write("key", b"a secret")
    mine = _descendants(pod.pid)
    assert len(mine) >= 2
    saved = place.vault.read_bytes()
    pod.signal(signal.SIGTERM)
    if terms == 2:
        until(lambda: place.vault.read_bytes() != saved, "the first save of the stop")
        pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGKILL
    assert is_alive(pod.neighbour), "the neighbour is nobody's business"
    until(lambda: not any(is_alive(pid) for pid in mine), "an end of all that was its own")

    again = start(place=place, beside=True, uid=uid).ready().unlock()
    assert (place.secrets / "key").read_bytes() == b"a secret"
    again.signal(signal.SIGTERM)
    assert again.wait() == 0
    assert is_alive(again.neighbour)


def _descendants(pid):
    found = []
    for child in children(pid):
        found += [child, *_descendants(child)]
    return found


def test_without_a_command_it_stays_up_and_ends_with_0(start, place):
    pod = start(place=place, beside=True).ready().create()
    place.write("key", b"a secret")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0
    assert place.left_in_ram() == []
    assert is_alive(pod.neighbour)
