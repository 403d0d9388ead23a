"""Process 1 with nothing to do does nothing: no timer, no polling."""

import pytest

from nsinit import wakeups

REST_S = 3


def test_a_plain_init_never_wakes(start):
    assert wakeups(start("sleep", "infinity").ready().pid, REST_S) == 0


def test_without_a_command_it_never_wakes(start):
    assert wakeups(start().ready().pid, REST_S) == 0


@pytest.mark.parametrize("state", ["absent", "open", "locked"])
def test_a_vault_at_rest_never_wakes_it(start, place, state):
    pod = start("sleep", "infinity", place=place).ready()
    if state != "absent":
        pod.create()
    if state == "locked":
        pod.ok("lock")
    assert wakeups(pod.pid, REST_S) == 0
