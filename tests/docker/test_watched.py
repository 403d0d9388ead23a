"""What whoever watches a pod gets to see: log lines, notifications, health, exit status, and a refusal in
place of a killed process. And what nobody gets to see."""

import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import tempfile

import pytest

from pods import PASSPHRASE, SECRETS, UID, until

# Of each event: the keys that are always there, those that may be there.
EVENTS = {
    "start": ({"pid", "vault", "run-dir", "state", "ram", "owner", "stale"}, {"why"}),
    "refuse": ({"error", "text"}, set()),
    "create": ({"generation", "files", "bytes", "swap", "ms"}, set()),
    "unlock": ({"generation", "files", "bytes", "swap", "ms"}, set()),
    "save": ({"generation", "files", "bytes", "ms"}, {"error", "unchanged", "skipped", "left-out"}),
    "lock": ({"generation"}, set()),
    "error": ({"in", "error", "ms"}, {"text"}),
    "stop": ({"status", "ms"}, {"error"}),
}
NUMBERS = {"time", "pid", "owner", "stale", "generation", "files", "bytes", "ms", "skipped", "left-out", "status"}

SECRET = "needle-in-a-file"
NAME = "needle-as-a-name"
HIDDEN = "needle-nobody-reads"  # the name of a file that makes a save fail


def as_json(line):
    return json.loads(line)


def as_text(line):
    """The same dict of `tazpod-init: WORD key=value ...`."""
    program, word, *pairs = shlex.split(line)
    assert program == "tazpod-init:", line
    found = {"program": "tazpod-init", "event": word, "time": 0}
    for pair in pairs:
        key, _, value = pair.partition("=")
        found[key] = float(value) if key in NUMBERS else value
    return found


FORMS = {"text": as_text, "json": as_json}


def events(pod, form):
    """Every line of the pod's log, checked against the manual."""
    found = []
    for line in pod.logs().splitlines():
        event = FORMS[form](line)
        assert event["program"] == "tazpod-init", line
        always, sometimes = EVENTS[event["event"]]
        assert always <= event.keys() - {"time", "program", "event"} <= always | sometimes, line
        for key, value in event.items():
            assert isinstance(value, (int, float) if key in NUMBERS else str), f"{key} in {line}"
        found.append(event)
    return found


def brief(event):
    return " ".join(str(event[key]) for key in ("event", "in", "error") if key in event)


@pytest.fixture
def closed(workspace):
    """closed(True) takes the owner's right to write beside the vault, closed(False) gives it back."""
    def close(shut):
        (workspace / ".tazpod").chmod(0o500 if shut else 0o700)

    yield close
    if (workspace / ".tazpod").exists():
        close(False)


def a_life(pod, closed):
    """One of each that a vault meets."""
    pod.create().ok()
    pod.write(f"{SECRETS}/{NAME}", SECRET.encode())
    pod.tazpod("save").ok()
    pod.tazpod("save").ok()
    closed(True)
    pod.write(f"{SECRETS}/more", SECRET.encode())
    assert pod.tazpod("save").code == 74
    closed(False)
    pod.tazpod("lock").ok()
    assert pod.unlock(passphrase=PASSPHRASE + "x").code == 77
    pod.unlock().ok()
    pod.write(f"{SECRETS}/more", SECRET.encode() * 2)


@pytest.mark.parametrize("form", FORMS)
def test_every_line_of_the_log_is_an_event_of_the_manual(new_pod, workspace, closed, form):
    pod = new_pod(workspace, options=("-e", f"TAZPOD_LOG_FORMAT={form}"), run=False)
    pod.run(quiet=True)
    until(lambda: "start" in pod.logs(), "the first line")
    a_life(pod, closed)
    assert pod.stop()[0] == 0
    found = events(pod, form)
    again, *_ = [event for event in found if "unchanged" in event]
    # A stop saves once more if anybody may have changed something since its first save.
    others = [event for event in found if "unchanged" not in event]
    assert [brief(event) for event in others] == [
        "start", "create", "save", "save", "error save io", "save", "lock", "error unlock wrong-passphrase",
        "unlock", "save", "lock", "stop"]
    start, create, first, second, failed, saved, lock, wrong, unlock, *_, stop = others
    assert (start["pid"], start["state"], start["ram"], start["owner"]) == (1, "locked", "given", UID)
    assert (create["generation"], first["generation"], second["generation"]) == (0, 1, 2)
    assert (again["unchanged"], again["generation"]) == ("yes", 2)
    assert found.index(again) == found.index(second) + 1
    assert (saved["generation"], saved["files"], lock["generation"]) == (3, 2, 3)
    assert saved["bytes"] == 2 * len(SECRET)
    assert (unlock["generation"], unlock["files"], unlock["bytes"]) == (3, 2, saved["bytes"])
    assert unlock["swap"] in ("no", "swappable")
    assert failed["text"] and wrong["text"] == "wrong passphrase"
    assert unlock["ms"] > 1, "a derivation takes longer"
    assert stop["status"] == 0 and "error" not in stop
    if form == "json":
        times = [event["time"] for event in found]
        assert times == sorted(times)
        assert abs(times[-1] - (workspace / ".tazpod/vault.tpv").stat().st_mtime) < 60


@pytest.mark.parametrize("form", FORMS)
def test_a_pod_without_a_place_for_a_vault_and_a_failed_last_save_are_events_too(new_pod, workspace, closed, form):
    options = ("-e", f"TAZPOD_LOG_FORMAT={form}")
    pod = new_pod(workspace, ram=(), options=options, run=False)
    pod.run(quiet=True)
    until(lambda: "refuse" in pod.logs(), "the first line")
    assert pod.stop()[0] == 0
    found = events(pod, form)
    assert [brief(event) for event in found] == ["refuse not-ram", "start", "stop"]
    assert (found[1]["state"], found[1]["ram"]) == ("absent", "none")

    pod = new_pod(workspace, options=options, run=False)
    pod.run(quiet=True)
    until(lambda: "start" in pod.logs(), "the first line")
    pod.create().ok()
    pod.write(f"{SECRETS}/more", SECRET.encode())
    closed(True)
    assert pod.stop()[0] == 74
    stop = events(pod, form)[-1]
    assert (stop["event"], stop["status"], stop["error"]) == ("stop", 74, "io")


@pytest.mark.parametrize("form", FORMS)
def test_no_log_holds_a_passphrase_a_secret_or_a_name_unless_names_are_asked_for(new_pod, workspace, closed, form):
    # Root's exec has the capabilities to put a file into the vault that its owner may not read.
    pod = new_pod(workspace, options=("-e", f"TAZPOD_LOG_FORMAT={form}"), capabilities=(), run=False)
    pod.run(quiet=True)
    until(lambda: "start" in pod.logs(), "the first line")
    a_life(pod, closed)
    hidden = f"{SECRETS}/{HIDDEN}"

    def save_fails(times):
        pod.sh('umask 077; echo hidden > "$1"', hidden, options=("--user", "0")).ok()
        refused = pod.tazpod("save")
        assert refused.code == 74 and "[unreadable]" in refused.err and HIDDEN in refused.err, refused
        pod.wait_for_log("unreadable", times=times)
        pod.sh('rm "$1"', hidden, options=("--user", "0")).ok()

    save_fails(1)
    # Left out of a save, which is another sentence with a name in it.
    odd = f"{NAME}\n{SECRET}"
    pod.write(f"{SECRETS}/{odd}", b"")
    assert pod.tazpod("save").code == 74
    pod.wait_for_log("left-out")
    pod.exec("rm", f"{SECRETS}/{odd}").ok()
    log = pod.logs()
    for needle in (PASSPHRASE, SECRET, NAME, HIDDEN):
        assert needle not in log
    (unreadable,) = [event for event in events(pod, form) if event.get("error") == "unreadable"]
    assert "text" not in unreadable, "the sentence names the file"

    # Asked for, the name is there, and still nothing else.
    config = workspace / ".tazpod/config.ini"
    config.write_text("[log]\nnames = yes\n")
    config.chmod(0o644)
    pod.tazpod("lock").ok()
    pod.unlock().ok()
    save_fails(2)
    log = pod.logs()
    assert HIDDEN in log
    for needle in (PASSPHRASE, SECRET):
        assert needle not in log
    assert pod.stop()[0] == 0
    assert HIDDEN in [event for event in events(pod, form) if event.get("error") == "unreadable"][1]["text"]


# --- who starts it is told ---


@pytest.fixture
def notified():
    """(options for the pod, a socket that hears what it says)"""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tazpod-notify-"))
    folder.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        listener.settimeout(20)
        yield ("-v", f"{folder}:/run/notify", "-e", "NOTIFY_SOCKET=/run/notify/socket"), listener
    shutil.rmtree(folder)


def test_the_supervisor_hears_of_the_start_and_of_the_stop(new_pod, workspace, notified):
    options, listener = notified
    # The main command goes only when it is allowed to: the stop is announced when it begins.
    script = 'trap "cat /workspace/go; exit 3" TERM; while :; do sleep 1 & wait $!; done'
    go = workspace / "go"
    os.mkfifo(go)
    go.chmod(0o666)
    pod = new_pod(workspace, options=options, command=("sh", "-c", script), run=False)
    pod.run(quiet=True)
    assert listener.recv(100) == b"READY=1"
    assert pod.state() == "locked", "ready means that it answers"
    pod.create().ok()
    pod.kill("TERM")
    assert listener.recv(100) == b"STOPPING=1"
    assert pod.is_running
    go.write_text("now")
    assert pod.wait() == 3
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        listener.recv(100)


def test_a_socket_that_nobody_made_costs_nothing(new_pod, workspace):
    pod = new_pod(workspace, options=("-e", "NOTIFY_SOCKET=/run/notify/socket"))
    pod.create().ok()
    assert pod.stop()[0] == 0


# --- health ---


def health(pod):
    state = json.loads(pod.inspect("{{json .State.Health}}"))
    return state["Status"], [probe["Start"] for probe in state["Log"] or []]


def test_the_images_health_check_finds_it_healthy_locked_and_open_and_ill_if_it_hangs(new_pod, workspace):
    # The image's own command, asked more often.
    pod = new_pod(workspace, options=("--health-interval", "200ms", "--health-retries", "1"))
    assert pod.inspect("{{json .Config.Healthcheck.Test}}") == '["CMD","tazpod","health"]'

    def becomes(wanted, what):
        """By a probe that began after those there are by now."""
        known = set(health(pod)[1])

        def is_so():
            status, probes = health(pod)
            return status == wanted and len(set(probes) - known) >= 2

        until(is_so, what, pause=0.1)

    becomes("healthy", "healthy while locked")
    pod.create().ok()
    becomes("healthy", "healthy while open")
    pod.kill("STOP")
    try:
        until(lambda: health(pod)[0] == "unhealthy", "a process 1 that hangs is noticed", pause=0.1)
    finally:
        pod.kill("CONT")
    becomes("healthy", "healthy again")
    assert pod.stop()[0] == 0


# --- exit status ---


def main_that_ends_with(status):
    """When it is told to, or when there is a file."""
    return ("sh", "-c", f"trap 'exit {status}' TERM; echo running; "
                        f"while [ ! -e /workspace/end ]; do sleep 0.1 & wait $!; done; exit {status}")


@pytest.mark.parametrize("how", ["told", "by-itself"])
@pytest.mark.parametrize("status", [0, 5])
@pytest.mark.parametrize("saved", [True, False], ids=["saved", "not-saved"])
def test_a_pod_ends_with_its_main_commands_status_or_74_if_the_last_save_failed(
        new_pod, workspace, closed, how, status, saved):
    pod = new_pod(workspace, command=main_that_ends_with(status))
    pod.wait_for_log("running")
    pod.create().ok()
    pod.write(f"{SECRETS}/one", b"1")
    closed(not saved)
    if how == "told":
        pod.kill("TERM")
    else:
        (workspace / "end").touch()
    assert pod.wait() == (status if saved else 74)
    assert ("error=io" in pod.logs()) == (not saved)


@pytest.mark.parametrize("saved", [True, False], ids=["saved", "not-saved"])
def test_without_a_main_command_it_ends_with_0_or_74(new_pod, workspace, closed, saved):
    pod = new_pod(workspace)
    pod.create().ok()
    pod.write(f"{SECRETS}/one", b"1")
    closed(not saved)
    assert pod.stop()[0] == (0 if saved else 74)


# --- a derivation that does not fit ---


def kills(pod):
    """How often the container's memory group had a process killed (cgroup 2, or 1)."""
    script = "cat /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control 2>/dev/null; :"
    return int(re.search(r"^oom_kill (\d+)$", pod.sh(script).ok().out, re.M).group(1))


def test_a_slot_dearer_than_the_containers_memory_is_refused_and_nobody_is_killed(new_pod, workspace):
    pod = new_pod(workspace)
    pod.create("--kdf-memory", "256M", "--kdf-time", "1").ok()
    pod.write(f"{SECRETS}/one", b"1")
    assert pod.stop()[0] == 0

    small = new_pod(workspace, options=("-m", "128m"), command=main_that_ends_with(5))
    small.wait_for_log("running")
    before = kills(small)
    refused = small.unlock()
    assert refused.code == 71 and "[kdf-memory]" in refused.err, refused
    assert {"256", "128"} <= set(re.findall(r"\b(\d+) MiB\b", refused.err)), "what it takes, and what there is"
    assert small.state() == "locked"
    assert small.unlock(passphrase="x").code == 71, "refused before any work, whatever the passphrase"
    assert kills(small) == before == 0
    assert small.inspect("{{.State.OOMKilled}}") == "false"
    small.wait_for_log("error=kdf-memory", times=2)
    assert small.stop()[0] == 5, "the main command was there all the time"

    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/one") == b"1"


def test_what_the_kernel_caches_does_not_count_as_used(new_pod, workspace):
    pod = new_pod(workspace, options=("-m", "128m"))
    pod.sh("head -c 100000000 /dev/zero > /workspace/filler && sync /workspace/filler").ok()
    usage = "cat /sys/fs/cgroup/memory.current /sys/fs/cgroup/memory/memory.usage_in_bytes 2>/dev/null; :"
    assert (128 << 20) - int(pod.sh(usage).ok().out) < 64 << 20, "what is not used at all would not do"
    pod.unlock("--create", "--kdf-memory", "64M", "--kdf-time", "1").ok()
    assert pod.inspect("{{.State.OOMKilled}}") == "false"
