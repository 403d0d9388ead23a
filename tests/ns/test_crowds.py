"""More processes than anybody has: orphans by the ten thousand, floods of them, and many that stand still."""

import os
import pathlib
import signal
import time

import pytest

from nsinit import children, cpu_seconds, is_alive, status_field, until, wakeups

VAULTS = pytest.mark.parametrize("with_vault", [False, True], ids=["no-vault", "open-vault"])


def started(start, make_place, with_vault, script, *arguments, **how):
    """Root's: an ordinary user's number of processes is limited all over the machine."""
    pod = start("/usr/bin/python3", "-I", "-S", "-c", script, *map(str, arguments), uid=0,
                place=make_place(size="128m") if with_vault else None, **how).ready()
    return pod.create() if with_vault else pod


def state(pid):
    return status_field(pid, "State")[0]


def assert_at_rest(pod):
    """No wakeup, and not a tick of the processor."""
    before = cpu_seconds(pod.pid)
    assert wakeups(pod.pid, 1) == 0
    assert cpu_seconds(pod.pid) - before <= 0.01  # what it had to do before it came to rest


# ---- at once ----

# Each mother makes her share and dies when all of all are dead and nobody's: they come to process 1 together.
AT_ONCE = """
import os, signal, sys
mothers, share = int(sys.argv[1]), int(sys.argv[2])
done_out, done = os.pipe()
go, go_in = os.pipe()
for _ in range(mothers):
    if os.fork() == 0:
        os.close(go_in)
        pids = [os.fork() or os._exit(3) for _ in range(share)]
        for pid in pids:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        os.write(done, b"d")
        os.read(go, 1)
        os._exit(0)
for _ in range(mothers):
    os.read(done_out, 1)
print("made", flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
signal.sigwait([signal.SIGUSR1])
os.close(go_in)
for _ in range(mothers):
    os.wait()
print("handed over", flush=True)
signal.sigwait([signal.SIGUSR1])
os._exit(6)
"""


def room():
    """For how many processes there is room on this machine, others spared."""
    limits = [int(pathlib.Path(f"/proc/sys/kernel/{name}").read_text()) for name in ("pid_max", "threads-max")]
    running = int(pathlib.Path("/proc/loadavg").read_text().split()[3].split("/")[1])
    return min(limits) - running - 2000


def test_twenty_thousand_orphans_at_once_are_collected_and_leave_nothing(start, make_place):
    mothers, share = 4, min(20_000, room()) // 4
    assert share >= 1000, "this machine has no room for a crowd"
    pod = started(start, make_place, True, AT_ONCE, mothers, share)
    main = pod.main()
    pod.wait_out("made", 120)
    assert [len(children(mother)) for mother in children(main)] == [share] * mothers
    began = time.monotonic()
    pod.signal(signal.SIGUSR1)
    pod.wait_out("handed over", 60)
    until(lambda: children(pod.pid) == [main], "only the main command", 60)
    print(f"{mothers * share} orphans in {time.monotonic() - began:.2f} s")
    assert_at_rest(pod)
    assert pod.status()["state"] == "open"
    pod.write("key", b"a secret")
    pod.ok("save")
    pod.signal(signal.SIGUSR1)
    assert pod.wait() == 6, "none of theirs is taken for the main command's"


# ---- a flood, while the main command runs ----

# Orphans as fast as they can be made, each with an end of its own, until the pipe is closed.
FLOOD = """
import os, select, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [40, signal.SIGUSR1, signal.SIGUSR2])
dry, dry_in = os.pipe()
for _ in range(int(sys.argv[1])):
    if os.fork() == 0:
        os.close(dry_in)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [40, signal.SIGUSR1, signal.SIGUSR2])
        while not select.select([dry], [], [], 0)[0]:
            if os.fork() == 0:
                if os.fork() == 0:
                    os._exit(3)
                os._exit(0)
            os.wait()
        os._exit(0)
print("ready", flush=True)
while True:
    number = signal.sigwait([40, signal.SIGUSR1, signal.SIGUSR2])
    print(int(number), flush=True)
    if number == signal.SIGUSR1:
        os._exit(9)
    if number == signal.SIGUSR2:
        os.close(dry_in)
"""



def wait_for_a_flood(pod):
    """Orphans do come, and many."""
    pod.wait_out("ready")
    seen = set()

    def many():
        seen.update(set(children(pod.pid)) - {pod.main()})
        return len(seen) > 50

    until(many, "orphans")


@VAULTS
def test_in_a_flood_of_orphans_signals_and_clients_have_their_turn_and_the_main_commands_end_is_seen(start, make_place,
                                                                                                   with_vault):
    pod = started(start, make_place, with_vault, FLOOD, 2)
    wait_for_a_flood(pod)
    for _ in range(100):
        pod.signal(40)
    until(lambda: pod.out().split().count("40") == 100, "a hundred signals")
    if with_vault:
        pod.write("key", b"a secret")
        pod.ok("save")
        assert pod.status()["state"] == "open"
    began = time.monotonic()
    pod.signal(signal.SIGUSR1)
    # Those who flood it are told and end; it does not wait for those who are only made then.
    assert pod.wait() == 9
    print(f"the end took {time.monotonic() - began:.2f} s")
    if with_vault:
        again = start(place=pod.place).ready().unlock()
        assert (again.secrets / "key").read_bytes() == b"a secret"


@VAULTS
def test_after_a_flood_nothing_is_left_and_it_is_at_rest(start, make_place, with_vault):
    pod = started(start, make_place, with_vault, FLOOD, 2)
    wait_for_a_flood(pod)
    pod.signal(signal.SIGUSR2)
    main = pod.main()
    # The flooders are the main command's, and it does not collect them.
    until(lambda: children(pod.pid) == [main] and not any(map(is_alive, children(main))), "the main command alone")
    assert len(children(main)) == 2
    assert_at_rest(pod)
    pod.signal(signal.SIGUSR1)
    assert pod.wait() == 9


# ---- many that stand still ----

STOPPED = """
import os, signal, sys
count = int(sys.argv[1])
if os.fork() == 0:
    for _ in range(count):
        if os.fork() == 0:
            os.setsid()
            os.kill(os.getpid(), signal.SIGSTOP)
            while True: signal.pause()
    os._exit(0)
os.wait()
print("made", flush=True)
while True: signal.pause()
"""
STANDING = 200


def stopped(pod):
    return [pid for pid in children(pod.pid) if state(pid) == "T"]


@VAULTS
def test_stopped_orphans_cost_nothing_and_are_collected_however_they_end(start, make_place, with_vault):
    pod = started(start, make_place, with_vault, STOPPED, STANDING)
    pod.wait_out("made")
    until(lambda: len(stopped(pod)) == STANDING, "all of them stand still")
    assert_at_rest(pod)
    some = stopped(pod)
    for pid in some[:50]:
        os.kill(pid, signal.SIGKILL)
    for pid in some[50:100]:  # stopped, taken up again, stopped again: news that nobody waits for
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGSTOP)
    for pid in some[100:150]:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGTERM)
    until(lambda: len(children(pod.pid)) == STANDING - 100 + 1, "those that have ended are gone")
    assert_at_rest(pod)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM


def test_a_stop_takes_up_all_that_stand_still_in_sessions_of_their_own_and_does_not_wait_for_its_total(start, make_place):
    pod = started(start, make_place, True, STOPPED, STANDING, options=("--stop-timeout", "60s"))
    pod.wait_out("made")
    until(lambda: len(stopped(pod)) == STANDING, "all of them stand still")
    pod.write("key", b"a secret")
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 10
    again = start(place=pod.place, uid=0).ready().unlock()
    assert (again.secrets / "key").read_bytes() == b"a secret"
