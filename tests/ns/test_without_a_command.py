"""tazpod-init without a main command stays up alone, and a stop signal ends it with 0."""

import signal
import subprocess

import pytest

from nsinit import status_field, until

STOPPING = [signal.SIGTERM, signal.SIGINT, signal.SIGPWR, 37]


def nothing_is_pending(pod):
    return all(int(status_field(pod.pid, key), 16) == 0 for key in ("SigPnd", "ShdPnd"))


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.parametrize("with_vault", [False, True], ids=["no-vault", "vault-place"])
def test_it_stays_up_until_a_stop_signal_and_ends_with_0(start, make_place, with_vault, number):
    pod = start(place=make_place() if with_vault else None).ready()
    for other in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGALRM, 50):
        pod.signal(other)
    until(lambda: nothing_is_pending(pod), "signals taken")
    assert not pod.has_ended(), "a signal with nobody to take it is dropped"
    pod.signal(number)
    assert pod.wait() == 0


def test_a_process_that_joined_the_namespace_is_told_and_waited_for(start, place):
    """As `docker exec` starts one: a child of nobody inside."""
    pod = start(place=place).ready()
    pod.create()
    script = f'trap "echo bye > {place.secrets}/bye; exit 0" TERM; echo ready; while :; do sleep 0.05; done'
    with subprocess.Popen(
        ["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid", "1000",
         "--regid", "1000", "--clear-groups", "sh", "-c", script],
        stdout=subprocess.PIPE,
    ) as joined:
        assert joined.stdout.readline() == b"ready\n"
        pod.signal(signal.SIGTERM)
        assert pod.wait() == 0
    again = start(place=place).ready().unlock()
    assert (place.secrets / "bye").read_bytes() == b"bye\n"
    again.signal(signal.SIGTERM)
    assert again.wait() == 0
