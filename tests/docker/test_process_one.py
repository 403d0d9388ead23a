"""The pod's process 1 under a real engine: its terminal, its orphans, its limits, its stop, its faults."""

import pathlib
import platform

import pytest

from pods import SECRETS, UID, docker, until

FAULT_CODE = bytes.fromhex("31c08900")  # x86-64: a store to address 0
SIGTERM = 15


# The processes of a pod by their numbers on the host, as the engine tells them.


def children(pid):
    return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def processes(pod):
    """{pid: (state, is in a terminal's foreground, name)}"""
    lines = docker("top", pod.name, "-eo", "pid,stat,comm").ok().out.splitlines()[1:]
    return {int(pid): (stat[0], "+" in stat, name.strip()) for pid, stat, name in (line.split(None, 2) for line in lines)}


def foreground(pod, name):
    """The pid of the program of that name that has a terminal's foreground."""
    return next((pid for pid, (_, front, found) in processes(pod).items() if front and found == name), None)


def stands_still(pod, pid):
    return processes(pod)[pid][0] == "T"


# ---- job control ----


def use_jobs(pod, terminal):
    """Ctrl-C, Ctrl-Z, bg and fg in the shell at the terminal."""

    # The engine sets the size of a terminal a little late, and the shell then draws its prompt again.
    terminal.type("echo set''tled")
    terminal.expect("settled")
    terminal.expect(terminal.PROMPT)

    def job():
        return until(lambda: foreground(pod, "sleep"), "a job in the foreground")

    terminal.type("sleep 1000")
    job()
    terminal.press("c")
    # Not behind a prompt: it may be drawn once more.
    terminal.type("echo sta''tus=$?")
    terminal.expect("status=130")
    terminal.expect(terminal.PROMPT)

    terminal.type("sleep 1000")
    sleeping = job()
    terminal.press("z")
    terminal.expect("Stopped")
    terminal.expect(terminal.PROMPT)
    assert stands_still(pod, sleeping)
    terminal.command("bg")
    until(lambda: not stands_still(pod, sleeping), "it goes on behind")
    assert foreground(pod, "bash") and not foreground(pod, "sleep")
    terminal.type("fg")
    assert job() == sleeping
    terminal.press("c")
    terminal.expect(terminal.PROMPT)
    until(lambda: sleeping not in processes(pod), "its end")


def test_a_shell_as_main_command_has_job_control_and_what_is_typed_stops_no_pod(new_pod, workspace):
    """docker run -it: the terminal is process 1's, and its foreground the main command's."""
    pod = new_pod(workspace, command=("bash",), run=False)
    terminal = pod.run_terminal()
    terminal.take_prompt()
    pod.create().ok()
    use_jobs(pod, terminal)
    assert pod.state() == "open"
    terminal.command("echo typed > ~/secrets/word")
    terminal.type("exit 7")
    assert terminal.ends() == 7
    assert pod.exit_status() == 7
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/word") == b"typed\n"


def test_a_shell_of_docker_exec_has_job_control_too(new_pod, workspace):
    pod = new_pod(workspace)
    pod.create().ok()
    terminal = pod.terminal("bash")
    terminal.take_prompt()
    use_jobs(pod, terminal)
    assert pod.state() == "open"
    terminal.type("exit 7")
    assert terminal.ends() == 7
    assert pod.is_running


def test_a_job_that_stands_still_does_not_hold_up_docker_stop(new_pod, workspace):
    """Ctrl-Z, and then the engine's TERM: it would stay pending until the KILL."""
    pod = new_pod(workspace)
    pod.create().ok()
    terminal = pod.terminal("bash")
    terminal.take_prompt()
    terminal.command("echo typed > ~/secrets/word")
    terminal.type("sleep 1000")
    sleeping = until(lambda: foreground(pod, "sleep"), "a job in the foreground")
    terminal.press("z")
    until(lambda: stands_still(pod, sleeping), "it stands still")
    status, seconds = pod.stop()
    assert status == 0
    assert seconds < 5
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/word") == b"typed\n"


# ---- orphans ----


def test_a_thousand_orphans_of_docker_exec_leave_no_zombie(new_pod, workspace):
    pod = new_pod(workspace, command=("sleep", "infinity"))
    main = children(pod.pid)
    for _ in range(2):
        # Their mother ends with all of them uncollected: so they are process 1's.
        pod.exec("perl", "-e", "for (1..1000) { exit 3 unless fork }").ok()
    until(lambda: children(pod.pid) == main, "the main command alone")
    assert pod.stop()[0] == 128 + SIGTERM


# ---- the pids limit ----

# USR1: as many children as there may be. They end by TERM or, deaf, by nothing but KILL.
CROWD = """
$SIG{USR1} = sub {
    while (defined(my $pid = fork)) {
        if (!$pid) { $SIG{TERM} = $SIG{HUP} = "IGNORE" if $ARGV[0] eq "deaf"; sleep 1000 while 1 }
    }
    syswrite STDOUT, "full\\n";
};
syswrite STDOUT, "armed\\n";
sleep 1000 while 1;
"""


@pytest.mark.parametrize("ears", ["good", "deaf"])
def test_a_pod_at_its_pids_limit_is_saved_by_stop_when_the_others_are_gone(new_pod, workspace, ears):
    pod = new_pod(workspace, command=("perl", "-e", CROWD, ears), options=("--pids-limit", "40", "-e", "TAZPOD_STOP_TIMEOUT=4s"))
    pod.wait_for_log("armed")
    pod.create().ok()
    pod.write(f"{SECRETS}/word", b"unsaved")
    whole = (workspace / ".tazpod/vault.tpv").read_bytes()
    pod.kill("USR1")
    pod.wait_for_log("full")
    assert pod.tazpod("save").code != 0, "the engine has no process for it either"
    assert (workspace / ".tazpod/vault.tpv").read_bytes() == whole
    status, seconds = pod.stop()
    assert status == 128 + SIGTERM
    assert seconds < 6
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/word") == b"unsaved"


# ---- the stop ----

# Each in a session of its own, and no child of process 1: docker exec starts them.
SAYS = f'trap "echo $0 > {SECRETS}/$0; exit" TERM; echo > {SECRETS}/$0-armed; while :; do sleep 0.05; done'
STANDS = f"trap 'echo $0 > {SECRETS}/$0; exit' TERM; echo > {SECRETS}/$0-armed; kill -STOP $$; while :; do sleep 0.05; done"
DEAF = f"trap '' TERM HUP; echo > {SECRETS}/$0-armed; while :; do sleep 0.05; done"


def test_docker_stop_hears_all_last_words_and_kills_who_has_none(new_pod, workspace):
    pod = new_pod(workspace, command=("sleep", "infinity"), options=("-e", "TAZPOD_STOP_TIMEOUT=4s"))
    pod.create().ok()
    crowd = {"says": SAYS, "stands": STANDS, "deaf": DEAF}
    for name, script in crowd.items():
        pod.exec("sh", "-c", script, name, options=("-d",)).ok()
        until(lambda: pod.sh(f"test -e {SECRETS}/{name}-armed").code == 0, f"{name} is there")
    until(lambda: any(found[0] == "T" for found in processes(pod).values()), "one stands still")
    status, seconds = pod.stop()
    assert status == 128 + SIGTERM
    assert 2 < seconds < 6, "as long as those who ignore it have, and no longer"
    pod.start()
    pod.unlock().ok()
    names = pod.sh(f"ls {SECRETS}").ok().out.split()
    assert set(names) == {"says", "stands", "says-armed", "stands-armed", "deaf-armed"}


def test_under_the_engines_own_init_it_saves_and_passes_the_status_on(new_pod, workspace):
    """docker run --init: it is not process 1 there."""
    pod = new_pod(workspace, command=("sh", "-c", "trap 'exit 5' TERM; while :; do sleep 0.05; done"), options=("--init",))
    assert "pid=1 " not in pod.logs()
    pod.create().ok()
    pod.write(f"{SECRETS}/word", b"unsaved")
    status, seconds = pod.stop()
    assert status == 5
    assert seconds < 5
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/word") == b"unsaved"


# ---- faults ----


def fault(pod, comes_back=True):
    """A real one: what process 1 would run next is overwritten with what faults, and something wakes it."""
    assert platform.machine() == "x86_64", "the machine code is x86-64's"
    pid, before = pod.pid, pod.logs().count("tazpod-init: fault")
    call = until(lambda: (words := pathlib.Path(f"/proc/{pid}/syscall").read_text().split())[0] != "running" and words,
                 "process 1 sleeps")
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(int(call[-1], 16))
        memory.write(FAULT_CODE)
    pod.kill("WINCH")
    if comes_back:
        pod.wait_for_log("tazpod-init: fault", times=before + 1)
        assert pod.pid == pid and pod.is_running


AS_ROOT = ["-u", "0", *(word for name in "CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID".split() for word in ("--cap-add", name))]


@pytest.mark.parametrize("user", [(), AS_ROOT], ids=["user", "root"])
def test_a_process_1_that_faults_comes_back_with_the_vault_as_it_was(new_pod, workspace, user):
    pod = new_pod(workspace, command=("sleep", "infinity"), options=user)
    main = children(pod.pid)
    pod.create().ok()

    def write(name):
        """The owner's, whoever process 1 is."""
        pod.sh(f"echo {name} > {SECRETS}/{name}", options=("-u", str(UID))).ok()

    write("word")
    fault(pod)
    assert children(pod.pid) == main
    assert pod.state() == "open" and pod.read(f"{SECRETS}/word") == b"word\n"
    pod.tazpod("lock").ok()
    fault(pod)
    assert children(pod.pid) == main
    assert pod.state() == "locked"
    pod.unlock().ok()
    write("more")
    assert pod.stop()[0] == 128 + SIGTERM
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/word") == b"word\n" and pod.read(f"{SECRETS}/more") == b"more\n"


def test_the_third_fault_saves_and_ends_the_pod(new_pod, workspace):
    pod = new_pod(workspace)
    pod.create().ok()
    pod.write(f"{SECRETS}/word", b"unsaved")
    fault(pod)
    fault(pod)
    fault(pod, comes_back=False)
    assert pod.wait() == 70
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/word") == b"unsaved"
