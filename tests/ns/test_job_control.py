"""A shell as the main command on the pod's own terminal, as `docker run -it` gives it.

As an engine does it, process 1 leads the session of a pseudo-terminal. The foreground is the main
command's from its first instruction on, and what is typed is nobody else's.
"""

import fcntl
import os
import signal
import struct
import subprocess
import termios

import pexpect.fdpexpect
import pytest

from nsinit import OWNER, arguments, is_alive, status_field, until

# An interactive shell talks on its standard error, and process 1's is the log.
SHELL = ("sh", "-c", "exec bash --norc --noprofile -i 2>&1")
GATE = 50  # a descriptor of nobody's

PLACES = pytest.mark.parametrize("with_vault", [False, True], ids=["no-vault", "open-vault"])


class Terminal:
    """A person at a pseudo-terminal: types, and waits for what appears."""

    PROMPT = "ready> "

    def __init__(self):
        self.master, self.slave = os.openpty()
        self.resize(40)
        os.fchown(self.slave, OWNER, OWNER)
        self.screen = pexpect.fdpexpect.fdspawn(self.master, timeout=20, encoding="utf-8")

    def resize(self, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, 200, 0, 0))

    @property
    def descriptors(self):
        return {0: self.slave, 1: self.slave}

    def take(self):
        """For before_exec: process 1 leads a session already, and this becomes its terminal."""
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def foreground(self):
        """The process group by its outer number."""
        return os.tcgetpgrp(self.master)

    def type(self, text):
        os.write(self.master, text.encode() + b"\r")

    def press(self, letter):
        """Together with Ctrl."""
        os.write(self.master, bytes([ord(letter) & 0x1F]))

    def expect(self, text):
        self.screen.expect_exact(text)
        return self.screen.before

    def take_prompt(self):
        """One that no echo of what is typed can be mistaken for."""
        self.type("PS1='r''eady> '")
        self.expect(self.PROMPT)

    def command(self, text):
        """Types a line; what it printed."""
        self.type(text)
        return self.expect(self.PROMPT).replace("\r", "").partition("\n")[2].rstrip("\n")

    def hang_up(self):
        for fd in {self.master, self.slave} - {None}:
            os.close(fd)
        self.master = self.slave = None


@pytest.fixture
def terminal():
    terminal = Terminal()
    yield terminal
    terminal.hang_up()


@pytest.fixture
def on_terminal(start, make_place, terminal):
    """A pod whose main command has the terminal."""

    def make(*command, with_vault, **how):
        pod = start(*command, descriptors=terminal.descriptors, before_exec=terminal.take,
                    place=make_place() if with_vault else None, env={"TERM": "dumb"}, **how).ready()
        if with_vault:
            pod.create()
        return pod

    return make


@pytest.fixture
def shell(on_terminal, terminal):
    def make(with_vault, **how):
        pod = on_terminal(*SHELL, with_vault=with_vault, **how)
        terminal.take_prompt()
        return pod

    return make


def state(pid):
    return status_field(pid, "State")[0]


def job(terminal, line, name=b"sleep"):
    """Types a line whose command goes on; its pid once it is that command and has the foreground."""
    terminal.type(line)
    return until(lambda: (pid := terminal.foreground()) and arguments(pid)[:1] == [name] and pid, "a job in the foreground")


def assert_goes_on(pod, with_vault):
    """What was typed was not for process 1."""
    assert is_alive(pod.pid)
    assert "tazpod-init: stop" not in pod.log()
    if with_vault:
        assert pod.status()["state"] == "open"


# ---- the hand-over ----


@PLACES
def test_the_foreground_is_the_main_commands_and_process_1_leads_the_session(shell, terminal, with_vault):
    pod = shell(with_vault)
    main = pod.main()
    assert terminal.foreground() == os.getpgid(main) == main
    assert os.getsid(main) == os.getsid(pod.pid) == pod.pid != os.getpgid(main)


@PLACES
@pytest.mark.parametrize("turn", range(3))
def test_the_terminal_is_handed_over_without_a_stray_signal(start, make_place, terminal, tmp_path, with_vault, turn):
    """Neither a stop for who touches it, nor a hang-up and CONT for who lets go. A tracer sees every
    signal that is delivered; what process 1 takes from its descriptor instead, it logs."""
    waiting, gate = os.pipe()

    def take_and_wait():
        terminal.take()
        os.read(GATE, 1)
        os.close(GATE)

    pod = start("sh", "-c", "echo up; exec sleep infinity", descriptors={**terminal.descriptors, GATE: waiting},
                before_exec=take_and_wait, options=("--verbose", "2"), place=make_place() if with_vault else None)
    delivered = tmp_path / "delivered"
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pod.pid), "-e", "trace=none", "-o", delivered],
                              stderr=subprocess.PIPE, text=True)
    assert "attached" in tracer.stderr.readline()
    os.write(gate, b"x")
    terminal.expect("up")
    main = pod.ready().main()

    def signals():
        return [line.split(None, 1) for line in delivered.read_text().splitlines() if "--- SIG" in line]

    # A change of the window is a signal for the foreground: that the tracer tells of it is the control.
    terminal.resize(50)
    until(signals, "the signal of a window that changed")
    pod.signal(signal.SIGUSR2)  # and this one is what process 1 tells of
    assert pod.wait() == 128 + signal.SIGUSR2
    tracer.communicate(timeout=20)
    of_main = [(int(pid), what.split()[1]) for pid, what in signals() if int(pid) != pod.pid]
    assert of_main == [(main, "SIGWINCH"), (main, "SIGUSR2")]
    of_process_1 = [what.split()[1] for pid, what in signals() if int(pid) == pod.pid]
    assert of_process_1 == []
    assert [line for line in pod.log().splitlines() if " signal " in line] == [
        f"tazpod-init: signal signal={int(signal.SIGUSR2)}"]
    os.close(waiting)
    os.close(gate)


# ---- job control ----


@PLACES
def test_programs_in_the_shell_have_no_mask_and_default_dispositions(shell, terminal, with_vault):
    """A TSTP that stays blocked from the hand-over on would be a dead Ctrl-Z."""
    shell(with_vault)
    lines = terminal.command("cat /proc/self/status").splitlines()
    found = dict(line.split(":\t") for line in lines if line.startswith("Sig") and "/" not in line)
    assert {name: int(found[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")} == {
        "SigBlk": 0, "SigIgn": 0, "SigCgt": 0}


@PLACES
def test_ctrl_c_ends_the_job_and_nothing_else(shell, terminal, with_vault):
    pod = shell(with_vault)
    main = pod.main()
    sleeping = job(terminal, "sleep 1000")
    terminal.press("c")
    terminal.expect(terminal.PROMPT)
    assert terminal.command("echo $?") == "130"
    assert not is_alive(sleeping) and terminal.foreground() == main
    terminal.press("c")  # nothing to end: a fresh prompt
    terminal.expect(terminal.PROMPT)
    assert pod.main() == main
    assert_goes_on(pod, with_vault)
    terminal.type("exit 7")
    assert pod.wait() == 7


@PLACES
def test_ctrl_z_stops_a_job_that_bg_and_fg_take_up_again(shell, terminal, with_vault):
    pod = shell(with_vault)
    main = pod.main()
    sleeping = job(terminal, "sleep 1000")
    terminal.press("z")
    terminal.expect("Stopped")
    terminal.expect(terminal.PROMPT)
    assert state(sleeping) == "T" and terminal.foreground() == main
    terminal.command("bg")
    until(lambda: state(sleeping) == "S", "it goes on behind")
    assert terminal.foreground() == main
    assert "Running" in terminal.command("jobs")
    assert job(terminal, "fg") == sleeping
    terminal.press("c")
    terminal.expect(terminal.PROMPT)
    assert not is_alive(sleeping)
    assert_goes_on(pod, with_vault)
    terminal.type("exit 0")
    assert pod.wait() == 0


@PLACES
def test_a_main_command_without_job_control_stops_by_ctrl_z_and_goes_on_when_told(on_terminal, terminal, with_vault):
    """Nobody in the pod would take it up again; `docker kill -s CONT` does."""
    pod = on_terminal("sleep", "infinity", with_vault=with_vault)
    main = pod.main()
    terminal.press("z")
    until(lambda: state(main) == "T", "it stops")
    pod.signal(signal.SIGCONT)
    until(lambda: state(main) == "S", "it goes on")
    assert_goes_on(pod, with_vault)
    terminal.press("c")
    assert pod.wait() == 128 + signal.SIGINT


# ---- the end, with a vault open ----


@pytest.fixture
def content(start):
    """What is in a vault, through a pod of its own."""

    def look(place):
        pod = start(place=place).ready().unlock()
        return {path.name: path.read_bytes() for path in place.secrets.iterdir()}

    return look


LAST_WORD = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the shell hangs up its jobs when it is hung up itself
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print("armed", flush=True)
signal.sigwait([signal.SIGTERM])
open(sys.argv[1], "w").write("last")
"""


def test_a_job_stopped_by_ctrl_z_has_its_last_word_at_a_stop(shell, terminal, content):
    """The shell itself ignores TERM, and a TERM alone would stay pending at the job."""
    pod = shell(True, options=("--stop-timeout", "60s"))
    script = pod.place.work / "script"
    script.write_text(LAST_WORD)
    writing = job(terminal, f"/usr/bin/python3 {script} {pod.place.secrets}/word", b"/usr/bin/python3")
    terminal.expect("armed")
    terminal.press("z")
    terminal.expect("Stopped")
    assert state(writing) == "T"
    pod.signal(signal.SIGTERM)
    assert pod.wait(10) == 128 + signal.SIGHUP, pod.log()
    assert content(pod.place) == {"word": b"last"}


def test_a_terminal_that_is_gone_ends_the_shell_and_saves(shell, terminal, content):
    pod = shell(True)
    assert terminal.command(f"echo typed > {pod.place.secrets}/word; echo $?") == "0"
    terminal.hang_up()
    # Of the shell's own choice: by the signal, or at the end of its input.
    assert pod.wait() in (0, 128 + signal.SIGHUP), pod.log()
    assert content(pod.place) == {"word": b"typed\n"}


def test_a_terminal_that_is_gone_does_not_end_process_1_alone(on_terminal, terminal, content):
    """It leads the session, so the kernel tells it first: for it that is a signal as any other."""
    pod = on_terminal("sh", "-c", "trap '' HUP; echo up; exec sleep infinity", with_vault=True)
    terminal.expect("up")
    pod.place.write("word", b"kept")
    terminal.hang_up()
    main = pod.main()
    until(lambda: os.readlink(f"/proc/{main}/fd/0").endswith("(deleted)") or not os.path.exists(
        os.readlink(f"/proc/{main}/fd/0")), "the end of the terminal")
    assert pod.status()["state"] == "open"
    assert pod.main() == main
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert content(pod.place) == {"word": b"kept"}
