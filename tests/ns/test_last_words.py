"""The ordered stop: whoever lives in the pod has a last word, it is saved, and nobody is waited for in vain."""

import contextlib
import os
import signal
import subprocess
import time

import pytest

from nsinit import OWNER, children, is_alive, status_field, tree, until

# Longer than any test waits: who waits for its part of it has failed.
LONG = ("--stop-timeout", "60s")

IGNORES_TERM = ("sh", "-c", "trap '' TERM; echo armed; while :; do sleep 0.05; done")


@pytest.fixture
def place(make_place):
    """Its workspace in memory: times are held to their limits here, and a disk has its own."""
    return make_place(work_size="16m")


@pytest.fixture
def content(start):
    """What is in a vault, through a pod of its own."""

    def look(place):
        start(place=place).ready().unlock()
        return {path.name: path.read_bytes().decode() for path in place.secrets.iterdir()}

    return look


def python(script, *arguments):
    return ("/usr/bin/python3", "-c", script, *map(str, arguments))


def stands_still(pid):
    return status_field(pid, "State")[0] == "T"


def joined(pod, *command, uid=OWNER):
    """A process of the pod whose parent is outside, as one of `docker exec`: its end sends process 1 nothing."""
    return subprocess.Popen(["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid",
                             str(uid), "--regid", str(uid), "--clear-groups", *command],
                            stdout=subprocess.PIPE, text=True)


# Ends some time after it was told to, and writes down when that was.
LEAVES_LATE = """
import os, pathlib, signal, sys, time
word, after = pathlib.Path(sys.argv[1]), float(sys.argv[2])
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("armed", word.name, flush=True)
signal.sigwait([signal.SIGTERM])
time.sleep(after)  # its own pace
word.write_text(f"{time.monotonic():f}")
"""
# In a session of its own, and process 1's.
AS_DAEMON = "import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n"
STANDS_STILL = "os.kill(os.getpid(), signal.SIGSTOP)\n"


# ---- the moment the last one is gone ----


@pytest.mark.parametrize("last", ["main", "daemon", "joined"])
def test_the_stop_ends_the_moment_the_last_process_is_gone(start, place, content, last):
    """One after the other: who ends first does not end it for the others."""
    others = python((AS_DAEMON if last == "daemon" else "") + LEAVES_LATE, place.secrets / "other", 0.6)
    mains = python(LEAVES_LATE, place.secrets / "main", 0.3)
    command = mains
    if last == "daemon":
        command = ("sh", "-c", '"$1" "$2" "$3" "$4" "$5"; shift 5; exec "$@"', "sh", *others, *mains)
    pod = start(*command, place=place, options=LONG).ready().create()
    guest = joined(pod, *others) if last == "joined" else None
    pod.wait_out("armed main")
    if last == "daemon":
        pod.wait_out("armed other")
    if guest:
        assert guest.stdout.readline() == "armed other\n"
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0
    ended = time.monotonic()
    if guest:
        guest.communicate()
    said = float(content(place)["main" if last == "main" else "other"])
    print(f"{last}: process 1 ended {1000 * (ended - said):.0f} ms after the last word")
    # A save is in it, on a machine that may be busy. The wait that it did not wait out is 37 s.
    assert 0 < ended - said < 3


def test_the_end_of_the_main_command_gives_the_others_their_last_word_and_the_status_is_its(start, place, content):
    """Nobody else has told the pod to stop."""
    daemon = python(AS_DAEMON + LEAVES_LATE, place.secrets / "daemon", 0.2)
    pod = start("sh", "-c", '"$@"; trap "exit 5" USR1; echo armed main; while :; do sleep 0.02; done', "sh", *daemon,
                place=place, options=LONG).ready().create()
    pod.wait_out("armed main")
    pod.wait_out("armed daemon")
    pod.signal(signal.SIGUSR1)
    assert pod.wait() == 5
    assert set(content(place)) == {"daemon"}


def test_daemons_that_stand_still_or_obey_have_their_last_word_and_those_that_ignore_are_killed(start, place, content):
    """All in sessions of their own, where no signal for a group gets to."""
    crowd = [python(AS_DAEMON + LEAVES_LATE, place.secrets / f"obeys-{n}", 0.1 * n) for n in range(3)]
    crowd += [python(AS_DAEMON + LEAVES_LATE.replace("signal.sigwait", STANDS_STILL + "signal.sigwait"),
                     place.secrets / f"stands-{n}", 0) for n in range(3)]
    crowd += [python(AS_DAEMON + LEAVES_LATE, place.secrets / f"ignores-{n}", 1000) for n in range(3)]
    lines = '; '.join(f'"$1" "$2" "$3" "$4" "$5"; shift 5' for _ in crowd)
    pod = start("sh", "-c", f"{lines}; exec sleep infinity", "sh", *(word for one in crowd for word in one), place=place,
                options=("--stop-timeout", "4s")).ready().create()
    until(lambda: pod.out().count("armed ") == len(crowd), "all of them")
    until(lambda: sum(map(stands_still, children(pod.pid))) == 3, "three stand still")
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    took = time.monotonic() - began
    assert set(content(place)) == {f"{kind}-{n}" for kind in ("obeys", "stands") for n in range(3)}
    assert 2 < took < 5.5, f"{took:.1f} s: as long as the total has for them, and not longer"


def test_a_process_that_it_may_not_signal_is_waited_for_no_longer_than_the_total_allows(start, place, content):
    """Root's, as of `docker exec -u 0`, beside a process 1 that is not."""
    pod = start("sleep", "infinity", place=place, options=("--stop-timeout", "4s")).ready().create()
    place.write("key", b"a secret")
    guest = joined(pod, "sh", "-c", "echo here; exec sleep infinity", uid=0)
    assert guest.stdout.readline() == "here\n"
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    took = time.monotonic() - began
    guest.communicate()
    assert 2.5 < took < 5.5, took
    assert content(place) == {"key": "a secret"}


# ---- without an open vault there is no deadline ----


@pytest.mark.parametrize("vault", ["locked", "absent"])
def test_beside_a_vault_that_is_not_open_a_main_command_has_all_the_time_it_wants(start, make_place, vault):
    """The engine's rules. A second TERM tells it again."""
    place = make_place(run_owner=0) if vault == "absent" else make_place()
    pod = start("sh", "-c", "trap 'echo told' TERM; trap 'exit 7' USR1; echo armed; while :; do sleep 0.02; done",
                place=place, options=("--stop-timeout", "100ms")).ready()
    pod.wait_out("armed")
    pod.signal(signal.SIGTERM)
    pod.wait_out("told\n")
    pod.signal(signal.SIGTERM)
    pod.wait_out("told\ntold\n")
    # Ten times the total that must not be: nothing happens, so there is no event to wait for.
    with pytest.raises(AssertionError):
        pod.wait(seconds=1)
    pod.signal(signal.SIGUSR1)
    assert pod.wait() == 7


# ---- a second TERM, and many ----


@pytest.fixture
def large_place(make_place):
    """For what takes so long to save that it can be caught at it."""
    return make_place(size="128m")


def fill(place):
    for number in range(16):
        place.write(f"big-{number}", os.urandom(3 << 20))
    return tree(place.secrets)


def test_a_second_term_in_the_first_save_leaves_out_the_wait_behind_it_and_not_the_save(start, large_place):
    pod = start(*IGNORES_TERM, place=large_place, options=LONG).ready().create()
    pod.wait_out("armed")
    everything, whole = fill(large_place), large_place.vault.read_bytes()
    pod.signal(signal.SIGTERM)
    sealer = pod.stop_worker("seal")
    pod.signal(signal.SIGTERM)
    pod.signal(signal.SIGINT)
    main = pod.main()
    assert pod.status()["state"] == "stopping"  # it has heard both
    assert is_alive(main) and is_alive(sealer) and large_place.vault.read_bytes() == whole
    os.kill(sealer, signal.SIGCONT)
    began = time.monotonic()
    assert pod.wait() == 128 + signal.SIGKILL
    assert time.monotonic() - began < 10, "the 37 seconds for those who ignore it were not waited out"
    start(place=large_place).ready().unlock()
    assert tree(large_place.secrets) == everything


def test_more_terms_in_the_last_save_change_nothing(start, large_place):
    place = large_place
    write = f"trap 'head -c 40000000 /dev/urandom > {place.secrets}/last; exit 3' TERM; echo armed; while :; do sleep 0.02; done"
    pod = start("sh", "-c", write, place=place, options=LONG).ready().create()
    pod.wait_out("armed")
    pod.signal(signal.SIGTERM)
    main = pod.main()
    until(lambda: not is_alive(main), "the end of the main command")
    sealer = pod.stop_worker("seal")
    everything = tree(place.secrets)
    for _ in range(5):
        pod.signal(signal.SIGTERM)
        assert pod.status()["state"] == "stopping"
    assert is_alive(sealer)
    os.kill(sealer, signal.SIGCONT)
    assert pod.wait() == 3
    start(place=place).ready().unlock()
    assert tree(place.secrets) == everything


def test_terms_without_end_do_not_keep_it_from_saving(start, place, content):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    while not pod.has_ended():
        for number in (signal.SIGTERM, signal.SIGINT, 37):
            with contextlib.suppress(ProcessLookupError):
                pod.signal(number)
    assert pod.wait() in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert content(place) == {"key": "a secret"}


# ---- at other moments ----


def test_a_stop_during_a_lock_ends_locked_and_saved(start, large_place):
    place = large_place
    pod = start("sleep", "infinity", place=place, options=LONG).ready().create()
    everything = fill(place)
    words, keywords = pod.command("lock", inside=False)
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **keywords) as client:
        sealer = pod.stop_worker("seal")
        pod.signal(signal.SIGTERM)
        until(lambda: pod.status()["state"] == "stopping", "the stop has begun")
        os.kill(sealer, signal.SIGCONT)
        assert pod.wait() == 128 + signal.SIGTERM
        client.wait(timeout=20)
    assert place.left_in_ram() == []
    start(place=place).ready().unlock()
    assert tree(place.secrets) == everything


def test_a_first_save_that_never_ends_costs_the_total_and_no_more_and_nothing_is_deleted(start, place):
    """A disk that hangs: the sealer does not come back from its fsync."""
    pod = start(*IGNORES_TERM, place=place, options=("--stop-timeout", "2s")).ready().create()
    place.write("key", b"a secret")
    everything, whole = tree(place.secrets), place.vault.read_bytes()
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pod.pid), "-o", "/dev/null", "-e", "trace=fsync", "-e",
                               "inject=fsync:delay_enter=60000000"], stderr=subprocess.PIPE, text=True)
    assert "attached" in tracer.stderr.readline()
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    until(lambda: "tazpod-init: stop status=74 error=worker-timeout" in pod.log(), f"the end of the stop; log:\n{pod.log()}")
    took = time.monotonic() - began
    tracer.kill()  # it would hold the dead sealer, and so process 1, to the end of that fsync
    tracer.communicate()
    assert pod.wait() == 74
    assert 1.9 < took < 4, took
    assert place.vault.read_bytes() == whole
    assert tree(place.secrets) == everything, "the RAM is what is left of it"
