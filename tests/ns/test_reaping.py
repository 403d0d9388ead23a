"""Whatever is orphaned in the pod is collected, and nothing of it is left."""

import os
import signal

import pytest

from nsinit import children, status_field, until

# Each orphan's parent has gone before it ends itself.
DOUBLE_FORKS = """
import os, signal
for _ in range(1000):
    if os.fork() == 0:
        if os.fork() == 0:
            os._exit(3)
        os._exit(0)
    os.wait()
print("done", flush=True)
signal.pause()
"""

# Their parent ends while all are zombies: they come at once, and SIGCHLD merges.
AT_ONCE = """
import os, signal
if os.fork() == 0:
    pids = [os.fork() or os._exit(3) for _ in range(1000)]
    for pid in pids:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    os._exit(0)
os.wait()
print("done", flush=True)
signal.pause()
"""


@pytest.mark.parametrize("script", [DOUBLE_FORKS, AT_ONCE], ids=["one-by-one", "all-at-once"])
@pytest.mark.parametrize("with_vault", [False, True], ids=["no-vault", "vault-place"])
def test_a_thousand_orphans_leave_no_zombie(start, make_place, with_vault, script):
    pod = start("/usr/bin/python3", "-c", script, place=make_place() if with_vault else None)
    main = pod.main()
    pod.wait_out("done", 60)
    until(lambda: children(pod.pid) == [main], f"only the main command, not {children(pod.pid)}")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM


def test_the_main_commands_end_is_seen_among_a_thousand_others(start):
    script = AT_ONCE.replace("signal.pause()", "os._exit(6)")
    for _ in range(3):
        assert start("/usr/bin/python3", "-c", script).wait() == 6


def test_a_stopped_orphan_costs_nothing_and_is_collected_when_it_ends(start):
    script = "(sh -c 'kill -STOP $$; exit 0' &); exec sleep infinity"
    pod = start("sh", "-c", script)

    def orphan():
        return next((pid for pid in children(pod.pid) if status_field(pid, "State")[0] == "T"), None)

    stopped = until(orphan, "a stopped orphan")
    os.kill(stopped, signal.SIGCONT)
    until(lambda: stopped not in children(pod.pid), "its end")
    assert len(children(pod.pid)) == 1
