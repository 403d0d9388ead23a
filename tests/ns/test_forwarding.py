"""Signals for process 1 reach the main command, where no vault is configured."""

import pathlib
import signal

import pytest

from nsinit import until
from recorder import TAKEN

RECORDER = ("/usr/bin/python3", str(pathlib.Path(__file__).with_name("recorder.py")))
# Those that the ordered stop takes for itself where a vault is configured.
STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGPWR, 37}


def recorded(pod):
    return [int(line) for line in pod.out().split()[1:]]


def send_and_record(pod, numbers):
    """One at a time: the kernel hands pending signals out by number, not by age."""
    missing = []
    for number in sorted(numbers):
        before = len(recorded(pod))
        pod.signal(number)
        try:
            until(lambda: len(recorded(pod)) > before, "a signal", 3)
        except AssertionError:
            missing.append(int(number))
    return missing


def test_every_signal_reaches_the_main_command_once_and_in_order(start):
    pod = start(*RECORDER)
    pod.wait_out("ready")
    missing = send_and_record(pod, TAKEN)
    assert not missing, f"not forwarded: {missing}"
    assert recorded(pod) == sorted(int(number) for number in TAKEN)
    assert not pod.has_ended()


def test_where_a_vault_is_configured_all_others_are_still_forwarded(start, place):
    pod = start(*RECORDER, place=place).ready()
    pod.wait_out("ready")
    missing = send_and_record(pod, TAKEN - STOPPING)
    assert not missing, f"not forwarded: {missing}"
    assert not pod.has_ended()


def test_as_many_real_time_signals_arrive_as_were_sent(start):
    pod = start(*RECORDER)
    pod.wait_out("ready")
    for _ in range(20):
        pod.signal(40)
    until(lambda: len(recorded(pod)) >= 20, f"20 signals, not {recorded(pod)}")
    assert recorded(pod) == [40] * 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_main_command_that_dies_of_it_gives_its_status(start, number):
    pod = start("sleep", "infinity").ready()
    pod.main()
    pod.signal(number)
    assert pod.wait() == 128 + number


def test_a_term_right_after_the_signals_are_blocked_is_not_lost(start):
    """The whole way from there to the main command's first instruction: block, fork, exec."""
    for _ in range(200):
        pod = start("sleep", "infinity")
        until(pod.signals_are_blocked, "blocked signals")
        pod.signal(signal.SIGTERM)
        assert pod.wait() == 128 + signal.SIGTERM


def test_a_main_command_that_ignores_term_is_left_alone(start):
    """Without a vault there is no deadline of ours, whatever --stop-timeout says."""
    script = 'trap "" TERM; trap "exit 7" USR1; echo ready; while :; do sleep 0.05; done'
    pod = start("sh", "-c", script, options=("--stop-timeout", "100ms"))
    pod.wait_out("ready")
    main = pod.main()
    pod.signal(signal.SIGTERM)
    pod.signal(signal.SIGTERM)
    # Ten times the deadline that must not exist: nothing happens, so there is no event to wait for.
    with pytest.raises(AssertionError):
        pod.wait(seconds=1)
    assert pod.main() == main
    pod.signal(signal.SIGUSR1)
    assert pod.wait() == 7
