"""`tazpod health`: does process 1 answer, in time? For HEALTHCHECK and probes, which restart what is ill."""

import contextlib
import os
import signal
import socket
import subprocess
import time

import pytest

from nsinit import (DEADLINE_S, OWNER, UNLOCK, Client, programs, request, status_field, umount, until)

BOTH = pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
# Beside the time that it was given: starting the program, on a busy machine.
SLACK_S = 1.0


def health(pod, *words, **how):
    """(exit code, seconds)"""
    began = time.monotonic()
    done = pod.tazpod("health", *words, **how)
    took = time.monotonic() - began
    assert done.stdout == b""
    assert (done.stderr == b"") == (done.returncode == 0), done.stderr
    return done.returncode, took


def assert_healthy(pod, **how):
    code, took = health(pod, **how)
    assert code == 0, pod.log()
    assert took < SLACK_S


def assert_ill(pod, *words, at_least=0.0, at_most=SLACK_S, **how):
    code, took = health(pod, *words, **how)
    assert code == 69
    assert at_least <= took < at_most + SLACK_S, took


@contextlib.contextmanager
def stopped(pod):
    """Process 1 that does nothing any more. It is process 1 of its namespace: only from outside."""
    pod.signal(signal.SIGSTOP)
    until(lambda: status_field(pod.pid, "State")[0] == "T", "a stopped process 1")
    try:
        yield
    finally:
        pod.signal(signal.SIGCONT)


# ---- healthy ----


@BOTH
def test_locked_and_open_are_healthy(start, place, uid):
    pod = start("sleep", "infinity", place=place, uid=uid).ready()
    assert_healthy(pod)
    pod.create()
    assert_healthy(pod)
    pod.ok("lock")
    assert_healthy(pod)


@BOTH
def test_an_open_vault_that_could_not_be_saved_is_healthy(start, make_place, uid):
    """A restart would destroy the only copy of what is not on disk."""
    place = make_place(work_size="1m")
    pod = start("sleep", "infinity", place=place, uid=uid).ready().create()
    place.write("large", os.urandom(2 << 20))
    assert pod.tazpod("save").returncode == 74
    assert "problem" in pod.status()
    assert_healthy(pod)


def test_a_pod_without_a_place_for_a_vault_is_healthy(start, place):
    """It is a good init, and no restart would make it more."""
    umount(place.run)
    place.run.chmod(0o700)
    os.chown(place.run, OWNER, OWNER)
    pod = start("sleep", "infinity", place=place).ready()
    assert pod.status()["state"] == "absent"
    assert_healthy(pod)


def test_it_answers_while_a_vault_is_being_opened_and_saved(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("large", os.urandom(24 << 20))
    words, keywords = pod.command("save")
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, **keywords) as saving:
        sealer = until(lambda: pod.workers().get("seal"), "a sealer")
        os.kill(sealer, signal.SIGSTOP)
        assert pod.status()["state"] == "saving"
        assert_healthy(pod)
        os.kill(sealer, signal.SIGCONT)
        assert saving.wait(DEADLINE_S) == 0
    pod.ok("lock")
    reader, writer = os.pipe()
    with Client(place.socket) as client:
        client.send(request(UNLOCK), [reader])
        os.close(reader)
        until(lambda: pod.status()["state"] == "opening", "an unlock that waits for its passphrase")
        assert_healthy(pod)
        os.close(writer)


def test_a_pod_that_stops_is_healthy_to_its_end(start, place):
    script = 'trap "" TERM; echo ready; while :; do sleep 0.05; done'
    pod = start("sh", "-c", script, place=place).ready().create()
    pod.wait_out("ready")
    pod.signal(signal.SIGTERM)
    # From outside the pid namespace, where the TERM of the stop does not reach.
    until(lambda: pod.status(inside=False)["state"] == "stopping", "the stop")
    assert_healthy(pod, inside=False)


def test_more_clients_than_process_1_has_room_for_do_not_make_it_ill(start, place):
    pod = start("sleep", "infinity", place=place).ready()
    with contextlib.ExitStack() as stack:
        for _ in range(40):
            stack.enter_context(Client(place.socket))
        assert_healthy(pod)


# ---- not healthy ----


@BOTH
@pytest.mark.parametrize("state", ["locked", "open"])
def test_a_process_1_that_does_not_answer_is_noticed_within_the_default_of_2_seconds(start, place, uid, state):
    pod = start("sleep", "infinity", place=place, uid=uid).ready()
    if state == "open":
        pod.create()
    with stopped(pod):
        assert_ill(pod, at_least=2.0, at_most=2.0)
    assert_healthy(pod)


TIMES = {"--timeout 300ms": 0.3, "--timeout=300ms": 0.3, "--timeout 1": 1, "--timeout 3s": 3}


@pytest.mark.parametrize("words, seconds", TIMES.items(), ids=TIMES)
def test_it_waits_as_long_as_it_was_told(start, place, words, seconds):
    pod = start("sleep", "infinity", place=place).ready()
    with stopped(pod):
        assert_ill(pod, *words.split(), at_least=seconds, at_most=seconds)


def test_a_full_queue_at_a_process_1_that_hangs_takes_no_longer(start, place):
    """connect(2) itself waits there: for a place in the queue."""
    pod = start("sleep", "infinity", place=place).ready()
    with stopped(pod), contextlib.ExitStack() as stack:
        with pytest.raises(BlockingIOError):
            while True:
                one = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                one.setblocking(False)
                one.connect(str(place.socket))
        assert_ill(pod, "--timeout", "500ms", at_least=0.5, at_most=0.5)
    assert_healthy(pod)


def test_a_killed_process_1_is_noticed_at_once(start, place):
    pod = start("sleep", "infinity", place=place).ready()
    pod.signal(signal.SIGKILL)
    pod.wait()
    assert place.socket.exists(), "what it bound is still there"
    assert_ill(pod, inside=False)


@pytest.mark.parametrize("there", ["no-directory", "no-socket", "a-file", "a-folder", "a-link-to-nothing"])
def test_where_no_process_1_ever_was_it_says_so_at_once(place, there):
    run = place.run / "run"
    if there != "no-directory":
        run.mkdir()
    if there == "a-file":
        (run / "control.sock").touch()
    elif there == "a-folder":
        (run / "control.sock").mkdir()
    elif there == "a-link-to-nothing":
        (run / "control.sock").symlink_to("nowhere")
    began = time.monotonic()
    done = subprocess.run([programs() / "tazpod", "health"], capture_output=True, timeout=DEADLINE_S,
                          env={"TAZPOD_RUN_DIR": str(run)})
    assert (done.returncode, done.stdout) == (69, b"") and b"[no-init]" in done.stderr, done
    assert time.monotonic() - began < SLACK_S


@contextlib.contextmanager
def a_server(place, behave):
    """Somebody in process 1's place, of a uid that health trusts. behave(connection) after accept."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place.socket))
        place.socket.chmod(0o666)
        listener.listen()
        server = os.fork()
        if server == 0:
            try:
                connection, _ = listener.accept()
                behave(connection)
                signal.pause()
            finally:
                os._exit(0)
        try:
            yield
        finally:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)


ANSWERS = {
    "nothing": (lambda connection: None, 0.5),
    "nothing-after-reading": (lambda connection: connection.recv(100), 0.5),
    "an-end": (lambda connection: connection.close(), 0.0),
    "a-word": (lambda connection: connection.send(b"yes"), 0.0),
    "zeros-of-the-right-size": (lambda connection: connection.send(bytes(1408)), 0.0),
    "too-much": (lambda connection: connection.send(bytes(60000)), 0.0),
}


@pytest.mark.parametrize("behave, seconds", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_none_is_not_taken_for_one(place, behave, seconds):
    with a_server(place, behave):
        began = time.monotonic()
        done = subprocess.run([programs() / "tazpod", "health", "--timeout", "500ms"], capture_output=True,
                              timeout=DEADLINE_S, env={"TAZPOD_RUN_DIR": str(place.run)})
        took = time.monotonic() - began
    assert (done.returncode, done.stdout) == (69, b"") and b"[no-init]" in done.stderr, done
    assert seconds <= took < seconds + SLACK_S


def test_a_server_of_somebody_elses_is_not_process_1(start, place):
    """In a directory that others can write somebody might have bound the name first."""
    place.run.chmod(0o777)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(place.socket))
        place.socket.chmod(0o666)
        os.setegid(OWNER + 1)
        os.seteuid(OWNER + 1)
        try:
            listener.listen()  # whose credentials count
        finally:
            os.seteuid(0)
            os.setegid(0)
        done = subprocess.run([programs() / "tazpod", "health"], capture_output=True, timeout=DEADLINE_S, user=OWNER,
                              group=OWNER, extra_groups=(), env={"TAZPOD_RUN_DIR": str(place.run)})
    assert done.returncode == 69 and b"somebody else's" in done.stderr, done


@pytest.mark.parametrize("value", ["0", "0s", "0ms", "-1", "2h", "3601", "3601s", "3600001ms", "1.5", "", "s",
                                   "99999999999999999999"])
def test_a_time_that_is_none_is_a_usage_error(start, place, value):
    pod = start("sleep", "infinity", place=place).ready()
    assert pod.tazpod("health", "--timeout", value).returncode == 64
    assert pod.tazpod("health", "--timeout", "3600s").returncode == 0
