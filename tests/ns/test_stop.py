"""The ordered stop of a pod whose vault is open: save, tell, wait, kill, save again, leave."""

import contextlib
import os
import shutil
import pathlib
import signal
import subprocess
import time

import pytest

from nsinit import children, UNLOCK, Client, is_alive, request, until

IGNORES_TERM = 'trap "" TERM; echo ready; while :; do sleep 0.05; done'


@pytest.fixture
def reopen(start):
    """The content of a vault, through a pod of its own."""

    def content(place, *flags):
        pod = start(place=place).ready().unlock(*flags)
        found = {path.name: path.read_bytes() for path in place.secrets.iterdir()}
        pod.signal(signal.SIGTERM)
        assert pod.wait() == 0
        return found

    return content


def test_an_open_vault_is_saved_and_the_ram_emptied(start, place, reopen):
    pod = start(place=place).ready().create()
    place.write("key", b"a secret")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0
    assert place.left_in_ram() == []
    assert not place.temporaries()
    assert reopen(place) == {"key": b"a secret"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGPWR, 37])
def test_the_other_stop_signals_save_as_well(start, place, reopen, number):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    pod.signal(number)
    assert pod.wait() == 128 + signal.SIGTERM, "the main command is told by SIGTERM"
    assert reopen(place) == {"key": b"a secret"}


def test_the_vault_is_saved_before_anybody_is_told_and_again_after_the_last_word(start, place, reopen):
    """What the main command finds on disk when TERM comes, and what it still writes after that."""
    script = f"""
import os, shutil, signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
shutil.copyfile({str(place.vault)!r}, {str(place.work / "at-term")!r})
open({str(place.secrets / "last-word")!r}, "w").write("said")
"""
    pod = start("/usr/bin/python3", "-c", script, place=place).ready().create()
    pod.wait_out("ready")
    place.write("key", b"a secret")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0
    assert reopen(place) == {"key": b"a secret", "last-word": b"said"}
    os.replace(place.work / "at-term", place.vault)
    assert reopen(place, "--accept-older") == {"key": b"a secret"}


def test_a_main_command_that_ends_by_itself_saves_and_keeps_its_status(start, place, reopen):
    script = f"until [ -e {place.secrets}/go ]; do sleep 0.02; done; echo more > {place.secrets}/more; exit 5"
    pod = start("sh", "-c", script, place=place).ready().create()
    place.write("go", b"")
    assert pod.wait() == 5
    assert reopen(place) == {"go": b"", "more": b"more\n"}


@pytest.mark.parametrize("timeout", ["1s", "1000ms", "1"])
def test_a_main_command_that_ignores_term_is_killed_within_the_stop_timeout(start, place, reopen, timeout):
    pod = start("sh", "-c", IGNORES_TERM, place=place, options=("--stop-timeout", timeout)).ready().create()
    pod.wait_out("ready")
    place.write("key", b"a secret")
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGKILL
    took = time.monotonic() - began
    # Inside the total, saves included; and the main command had the better part of it.
    assert 0.3 < took < 1.5, took
    assert reopen(place) == {"key": b"a secret"}


def test_the_stop_timeout_comes_from_the_environment_too(start, place):
    pod = start("sh", "-c", IGNORES_TERM, place=place, env={"TAZPOD_STOP_TIMEOUT": "2s"}).ready().create()
    pod.wait_out("ready")
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGKILL
    assert time.monotonic() - began < 4, "half of what it is where nobody says"


def test_the_stop_ends_with_the_last_process_not_with_the_clock(start, place, reopen):
    pod = start("sleep", "infinity", place=place, options=("--stop-timeout", "60s")).ready().create()
    place.write("key", b"a secret")
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5
    assert reopen(place) == {"key": b"a secret"}


def test_a_daemon_in_its_own_session_is_told_waited_for_and_saved(start, place, reopen):
    daemon = f"""
import os, signal
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("daemon", flush=True)
signal.sigwait([signal.SIGTERM])
open({str(place.secrets / "daemon")!r}, "w").write("done")
"""
    pod = start("sh", "-c", '/usr/bin/python3 -c "$1"; exec sleep infinity', "sh", daemon, place=place).ready().create()
    pod.wait_out("daemon")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert reopen(place) == {"daemon": b"done"}


def test_a_stopped_main_command_gets_to_see_the_term(start, place):
    """Ctrl-Z, then docker stop: TERM alone would stay pending until the engine's KILL."""
    pod = start("sleep", "infinity", place=place, options=("--stop-timeout", "60s")).ready().create()
    main = pod.main()
    os.kill(main, signal.SIGSTOP)
    until(lambda: (pathlib.Path(f"/proc/{main}/stat").read_text().rsplit(")", 1)[1].split()[0]) == "T", "a stop")
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5


def test_a_second_term_skips_the_waiting_but_not_the_save(start, place, reopen):
    script = f"""
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("ready", flush=True)
signal.sigwait([signal.SIGTERM])
open({str(place.secrets / "last-word")!r}, "w").write("said")
print("told", flush=True)
while True: signal.pause()
"""
    pod = start("/usr/bin/python3", "-c", script, place=place, options=("--stop-timeout", "60s")).ready().create()
    pod.wait_out("ready")
    pod.signal(signal.SIGTERM)
    pod.wait_out("told")
    assert not pod.has_ended()
    began = time.monotonic()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGKILL
    assert time.monotonic() - began < 5
    assert reopen(place) == {"last-word": b"said"}


def test_two_terms_at_once_still_save(start, place, reopen):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    for _ in range(5):
        pod.signal(signal.SIGTERM)
    assert pod.wait() in (128 + signal.SIGTERM, 128 + signal.SIGKILL)
    assert reopen(place) == {"key": b"a secret"}


def test_a_locked_vault_stops_at_once_and_stays_as_it_was(start, place):
    pod = start(place=place).ready().create()
    pod.ok("lock")
    before = place.vault.read_bytes()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0
    assert place.vault.read_bytes() == before


def test_an_unlock_under_way_is_dropped_and_the_vault_stays_as_it_was(start, place):
    pod = start(place=place).ready().create()
    pod.ok("lock")
    before = place.vault.read_bytes()
    reader, writer = os.pipe()  # a passphrase that never comes
    with Client(place.socket) as client:
        client.send(request(UNLOCK), [reader])
        os.close(reader)
        until(lambda: pod.status()["state"] == "opening", "an unlock under way")
        pod.signal(signal.SIGTERM)
        assert pod.wait(10) == 0
    os.close(writer)
    assert place.vault.read_bytes() == before
    assert place.left_in_ram() == []


def test_a_stop_that_could_not_save_says_so_and_destroys_nothing(start, place):
    pod = start("sleep", "infinity", place=place, options=("--stop-timeout", "3s")).ready().create()
    before = place.vault.read_bytes()
    place.write("key", b"a secret")
    # The owner can read there, and write no more.
    os.chown(place.vault.parent, 0, 0)
    place.vault.parent.chmod(0o755)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 74, "whatever the main command returned"
    assert place.vault.read_bytes() == before
    kept = [path for path in place.run.rglob("key")]
    assert len(kept) == 1 and kept[0].read_bytes() == b"a secret", "the RAM is what is left of it"


def test_a_stop_in_the_middle_of_a_save_keeps_everything(start, make_place, reopen):
    place = make_place(size="128m")
    pod = start("sleep", "infinity", place=place).ready().create()
    data = os.urandom(24 << 20)
    place.write("big", data)
    words, keywords = pod.command("save")
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **keywords):
        until(pod.workers, "a save under way")
        place.write("late", b"after the save began")
        pod.signal(signal.SIGTERM)
        assert pod.wait() == 128 + signal.SIGTERM
    assert not place.temporaries()
    assert reopen(place) == {"big": data, "late": b"after the save began"}


def test_a_first_save_that_outlives_its_time_is_not_signalled_away(start, make_place, reopen):
    """When its time is over the others are told; the save itself goes on, for what it has written so
    far can't be bought back. Here its packer stands still for so long, and then goes on."""
    place = make_place(size="128m")
    pod = start("sh", "-c", IGNORES_TERM, place=place, options=("--stop-timeout", "8s")).ready().create()
    main = pod.main()
    data = os.urandom(24 << 20)
    place.write("big", data)
    pod.signal(signal.SIGTERM)
    packer = until(lambda: pod.workers().get("pack"), "the first save")
    os.kill(packer, signal.SIGSTOP)
    try:
        # Who is told, is told within the total: main dies by KILL at the latest. It ignores TERM.
        until(lambda: not is_alive(main), "the end of the main command")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(packer, signal.SIGCONT)
    assert pod.wait() == 128 + signal.SIGKILL, pod.log()
    assert "worker-died" not in pod.log()
    assert reopen(place) == {"big": data}


def test_a_tree_that_was_taken_away_is_never_saved_over_the_vault(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    pod.ok("save")
    before = place.vault.read_bytes()
    place.secrets.rename(place.run / "elsewhere")
    place.secrets.mkdir(mode=0o700)
    os.chown(place.secrets, 1000, 1000)
    done = pod.tazpod("save")
    assert done.returncode == 74, done.stderr
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 74
    assert place.vault.read_bytes() == before
    assert (place.run / "elsewhere" / "key").read_bytes() == b"a secret"


def saves(pod):
    return [line for line in pod.log().splitlines() if " save " in line]


def test_a_stop_of_a_pod_where_nobody_lives_saves_once(start, place, reopen):
    pod = start(place=place).ready().create()
    place.write("key", b"a secret")
    before = len(saves(pod))
    until(lambda: not children(pod.pid), "the end of the workers of the creation")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0
    assert len(saves(pod)) - before == 1
    assert reopen(place) == {"key": b"a secret"}


def test_a_stop_of_a_pod_where_somebody_lives_saves_again_when_he_is_gone(start, place, reopen):
    """The control of the one above: here the second save is the one that finds the last words."""
    last_words = f"trap 'echo gone > {place.secrets}/last; exit' TERM; while :; do sleep 0.05; done"
    pod = start("sh", "-c", last_words, place=place).ready().create()
    place.write("key", b"a secret")
    before = len(saves(pod))
    pod.signal(signal.SIGTERM)
    pod.wait()
    assert len(saves(pod)) - before == 2
    assert reopen(place) == {"key": b"a secret", "last": b"gone\n"}


def test_what_root_left_unreadable_does_not_keep_the_rest_from_the_last_save(start, place, reopen):
    """`docker exec -u 0` and a umask: a save says so and fails, a stop saves all else and leaves 74."""
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    (place.secrets / "roots").write_bytes(b"x")
    (place.secrets / "roots").chmod(0o600)
    assert pod.tazpod("save").returncode == 74
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 74
    shutil.rmtree(place.secrets)  # kept, since something was left out
    assert reopen(place) == {"key": b"a secret"}


def test_a_log_that_nobody_reads_does_not_stop_process_1(start, place, reopen):
    reader, writer = os.pipe()
    pod = start("sleep", "infinity", place=place, descriptors={2: writer})
    until(lambda: place.socket.exists(), "the socket")
    pod.create()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    place.write("key", b"a secret")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    os.close(reader)
    os.close(writer)
    assert reopen(place) == {"key": b"a secret"}


def test_others_are_killed_within_the_total_also_where_the_first_save_waits_for_their_end(start, make_place, reopen):
    """As one does whose workers thrash at the memory limit, until those who hold the memory are gone."""
    place = make_place(work_size="16m")
    pod = start("sh", "-c", IGNORES_TERM, place=place, options=("--stop-timeout", "4s")).ready().create()
    pod.wait_out("ready")
    place.write("key", b"a secret")
    main = pod.main()
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pod.pid), "-o", "/dev/null", "-e", "trace=fsync", "-e",
                               "inject=fsync:delay_enter=60000000"], stderr=subprocess.PIPE, text=True)
    assert "attached" in tracer.stderr.readline()
    pod.signal(signal.SIGTERM)
    until(lambda: not is_alive(main) or "tazpod-init: stop" in pod.log(), "the end of the main command")
    tracer.kill()  # from here on the save goes on
    tracer.communicate()
    assert pod.wait() == 128 + signal.SIGKILL, pod.log()
    assert reopen(place) == {"key": b"a secret"}
