"""A terminal that does its worst: the question ends, nobody gets a shell, nothing is left changed.

The outer shell is dash, because it does not touch the terminal's modes: bash would mend what tazpod
broke. What a `docker exec` can't show (a window that closes, every question under every signal) is
tried on bare pseudo-terminals in tests/ns/test_asking.py.
"""

import os
import select
import signal
import time

import pexpect
import pytest

from pods import PASSPHRASE, RUN_DIR, SECRETS, docker, snapshot, until

CONTENT = b"nothing to see"
WRONG = "zebra-not-it"
MEGABYTE = 1 << 20


@pytest.fixture
def locked_pod(new_pod, workspace):
    pod = new_pod(workspace)
    pod.create_whole().ok()
    pod.write(f"{SECRETS}/one", CONTENT)
    pod.tazpod("lock").ok()
    return pod


def processes(pod):
    """Of the pod, as the engine sees them; the first line is a heading."""
    return len(docker("top", pod.name).ok().out.splitlines()) - 1


def in_ram(pod):
    return pod.exec("find", RUN_DIR, "-mindepth", "1", "!", "-name", "control.sock").ok().out.split()


def signal_the_prompt(pod, name):
    # Whole arguments, so neither this shell nor grep is among what it finds.
    pod.sh('kill -"$1" $(grep -lxzE "shell|unlock" /proc/[0-9]*/cmdline | cut -d/ -f3)', name).ok()


def paste(terminal, data, seconds=60):
    """All at once, as a terminal does it. What is not read in time fails instead of blocking."""
    fd = terminal.child.child_fd
    end = time.monotonic() + seconds
    os.set_blocking(fd, False)
    try:
        while data:
            assert select.select([], [fd], [], max(0, end - time.monotonic()))[1], f"{len(data)} bytes are not read"
            data = data[os.write(fd, data[:65536]):]
    finally:
        os.set_blocking(fd, True)


# --- what may happen at a question, once it is there ---


def key(letter):
    def press(terminal, pod):
        terminal.press(letter)

    press.__name__ = f"ctrl-{letter}"
    return press


def signalled(name):
    def send(terminal, pod):
        signal_the_prompt(pod, name)

    send.__name__ = f"SIG{name}"
    return send


def line(text, name):
    def give(terminal, pod):
        terminal.child.send(text + "\r")

    give.__name__ = name
    return give


def ctrl_z_then_ctrl_c(terminal, pod):
    terminal.child.send("yes")
    terminal.press("z")
    terminal.press("c")


def a_megabyte(terminal, pod):
    paste(terminal, b"x" * MEGABYTE + b"\r")


def three_times(question, text, name):
    def give(terminal, pod):
        for i in range(3):
            if i:
                terminal.expect(question)
            terminal.child.send(text + "\r")

    give.__name__ = name
    return give


CANCELS = [key("c"), key("d"), key("\\"), ctrl_z_then_ctrl_c, *map(signalled, ("TERM", "HUP", "TSTP"))]
TOO_LONG = line("x" * 1100, "1100 bytes")

AT_PASSPHRASE = [
    *((way, 130) for way in CANCELS),
    (line("", "nothing"), 77),
    (TOO_LONG, 77),
    (a_megabyte, 77),
    # As a C string the first one is the right passphrase.
    (three_times("Passphrase: ", PASSPHRASE + "\0def", "a NUL byte behind it"), 77),
    (three_times("Passphrase: ", PASSPHRASE + "\0", "a NUL byte at its end"), 77),
    (three_times("Passphrase: ", "\0" + PASSPHRASE, "a NUL byte before it"), 77),
]

AT_CREATE = [
    *((way, 130) for way in CANCELS),
    (line("", "nothing"), 130),
    (line("n", "no"), 130),
    (line("yes" * 100, "a long answer"), 130),
]

AT_NEW = [
    *((way, 130) for way in CANCELS),
    (line("", "nothing"), 77),
    (TOO_LONG, 77),
    (three_times("New passphrase: ", "abc\0def", "a NUL byte"), 77),
]

AT_AGAIN = [
    *((way, 130) for way in CANCELS),
    (TOO_LONG, 77),
]


class Outer:
    """A shell in the pod, in which a command is given, comes to nothing, and is looked back at."""

    LOOK = f"tazpod status | grep '^state'; find {RUN_DIR} -mindepth 1 ! -name control.sock"

    def __init__(self, pod, workspace):
        self.workspace = workspace
        self.terminal = pod.terminal("dash", "-i")
        self.terminal.take_prompt()
        self.itself, self.modes = self.terminal.command('echo "$$ $(stty -g)"').split()
        assert self.terminal.command("stty -echo; stty -g; stty echo") != self.modes, "the comparison sees a difference"
        self.before = snapshot(workspace)

    def type(self, text):
        self.terminal.type(text)

    def came_to_nothing(self, what, status):
        """The command has ended with that status, and all is as it was."""
        self.terminal.expect(self.terminal.PROMPT)
        ended, itself, modes = self.terminal.command('echo "$? $$ $(stty -g)"').split()
        assert ended == str(status), what
        assert itself == self.itself, f"{what}: another shell answers"
        assert modes == self.modes, f"{what}: the terminal's modes are others"
        assert self.terminal.command("jobs") == "", f"{what}: it is still there"
        assert self.terminal.command(self.LOOK).split() == ["state", "locked"], what
        assert snapshot(self.workspace) == self.before, what
        # Not at once: the pod's health check may be among them, for some milliseconds.
        until(lambda: self.terminal.command("echo /proc/[0-9]*").split() == ["/proc/1", f"/proc/{self.itself}"],
              f"{what}: nobody but process 1 and this shell")

    def nothing_was_shown(self):
        for secret in (PASSPHRASE, WRONG, "x" * 20):
            assert secret not in self.terminal.text

    def exit(self):
        self.terminal.type("exit 0")
        assert self.terminal.ends() == 0


@pytest.mark.parametrize("verb", ["shell", "unlock"])
def test_nothing_that_happens_at_the_prompt_opens_or_breaks_anything(locked_pod, workspace, verb):
    outer = Outer(locked_pod, workspace)
    for way, status in AT_PASSPHRASE:
        if way is a_megabyte and verb == "unlock":
            continue  # the same question, and seconds of it
        outer.type(f"tazpod {verb}")
        outer.terminal.expect("Passphrase: ")
        way(outer.terminal, locked_pod)
        outer.came_to_nothing(way.__name__, status)
    outer.nothing_was_shown()

    outer.type(f"tazpod {verb}")
    outer.terminal.expect("Passphrase: ")
    outer.terminal.press("z")  # no letter of it, and nothing to come back from
    outer.type(PASSPHRASE)
    if verb == "shell":
        outer.terminal.take_prompt()
        outer.type('echo "shell=$$="')
        outer.terminal.child.expect(r"shell=(\d+)=")
        assert outer.terminal.child.match[1] != outer.itself, "the right one gives a shell"
        outer.terminal.expect(outer.terminal.PROMPT)
        outer.type("exit")
    outer.terminal.expect(outer.terminal.PROMPT)
    found = outer.terminal.command(f"{outer.LOOK}; cat ~/secrets/one").splitlines()
    assert f"{SECRETS}/one" in found and found[-1] == CONTENT.decode(), "the same look finds an open vault"
    outer.exit()


def answer(terminal, *dialogue):
    for question, text in zip(dialogue[::2], dialogue[1::2]):
        terminal.expect(question)
        if text is not None:
            terminal.type(text)


TO_CREATE = ("[y/N] ", None)
TO_NEW = ("[y/N] ", "y", "New passphrase: ", None)
TO_AGAIN = ("[y/N] ", "y", "New passphrase: ", PASSPHRASE, "Again: ", None)


@pytest.mark.parametrize("dialogue,ways", [(TO_CREATE, AT_CREATE), (TO_NEW, AT_NEW), (TO_AGAIN, AT_AGAIN)],
                         ids=["create", "define", "confirm"])
def test_a_new_vault_is_made_by_whoever_answers_every_question_and_nobody_else(new_pod, workspace, dialogue, ways):
    pod = new_pod(workspace)
    outer = Outer(pod, workspace)
    assert outer.before == {}, "there is no vault, and no folder for one"
    for way, status in ways:
        outer.type("tazpod shell")
        answer(outer.terminal, *dialogue)
        way(outer.terminal, pod)
        outer.came_to_nothing(way.__name__, status)
    outer.nothing_was_shown()

    outer.type("tazpod unlock")
    answer(outer.terminal, *TO_AGAIN)
    outer.type(PASSPHRASE)
    outer.terminal.expect(outer.terminal.PROMPT)
    assert outer.terminal.command("echo $?") == "0"
    assert (workspace / ".tazpod/vault.tpv").exists() and pod.state() == "open"
    outer.exit()


def test_two_that_differ_are_asked_for_three_times_and_no_more(new_pod, workspace):
    outer = Outer(new_pod(workspace), workspace)
    outer.type("tazpod unlock --create --kdf-memory 8M --kdf-time 1")
    # An empty second line, and one that differs behind a NUL byte only, are others as well.
    for again in (PASSPHRASE + "x", "", PASSPHRASE + "\0"):
        answer(outer.terminal, "New passphrase: ", PASSPHRASE, "Again: ", again)
    outer.came_to_nothing("three that differ", 77)
    outer.exit()


# --- job control ---


def test_in_the_background_it_waits_to_be_fetched_and_leaves_the_terminal_alone(locked_pod, workspace):
    outer = Outer(locked_pod, workspace)

    def fetch():
        outer.type("tazpod unlock &")
        outer.terminal.expect(outer.terminal.PROMPT)
        until(lambda: "Stopped" in outer.terminal.command("jobs"), "the question waits in the background")
        assert outer.terminal.command("stty -g") == outer.modes, "it took the terminal from who is using it"
        assert locked_pod.state() == "locked"
        outer.type("fg")
        outer.terminal.expect("Passphrase: ")

    fetch()
    outer.terminal.press("c")
    outer.came_to_nothing("a question that was fetched", 130)
    fetch()
    outer.type(PASSPHRASE)
    outer.terminal.expect(outer.terminal.PROMPT)
    assert outer.terminal.command("cat ~/secrets/one") == CONTENT.decode()
    outer.exit()


def test_one_that_is_stopped_from_outside_gives_the_terminal_back_when_it_goes_on(locked_pod, workspace):
    """SIGSTOP can't be noticed, so the modes are the prompt's until it goes on."""
    outer = Outer(locked_pod, workspace)
    outer.type("tazpod shell")
    outer.terminal.expect("Passphrase: ")
    signal_the_prompt(locked_pod, "STOP")
    outer.terminal.expect(outer.terminal.PROMPT)
    outer.type("echo \"shell $$\"")
    outer.terminal.expect(f"shell {outer.itself}")
    outer.terminal.expect(outer.terminal.PROMPT)
    assert locked_pod.state() == "locked"
    outer.type("fg")
    outer.terminal.expect("tazpod shell")
    outer.terminal.press("c")
    outer.came_to_nothing("a question that was stopped", 130)
    outer.exit()
    locked_pod.unlock().ok()


# --- what nobody can put right, and what the engine does not tell ---


def test_one_that_is_killed_gives_no_shell_and_the_exec_ends(locked_pod, workspace):
    before = snapshot(workspace)
    for verb in ("shell", "unlock"):
        terminal = locked_pod.terminal("tazpod", verb)
        terminal.expect("Passphrase: ")
        terminal.child.send(PASSPHRASE)
        signal_the_prompt(locked_pod, "KILL")
        assert terminal.ends() == 128 + signal.SIGKILL
        assert PASSPHRASE not in terminal.text
        assert locked_pod.state() == "locked" and in_ram(locked_pod) == []
        assert snapshot(workspace) == before
        until(lambda: processes(locked_pod) == 1, "process 1 is alone")
    # The terminal is nobody's any more: a shell that mends it finds itself, and nothing else.
    outer = locked_pod.terminal("bash", "--norc", "-i")

    def look():
        # bash draws its prompt anew when the engine tells it the window's size, whenever that is.
        outer.type('echo "status=$? $$ $(stty -g)="')
        outer.child.expect(r"status=(\d+) (\d+) ([0-9a-f:]+)=")
        return outer.child.match.groups()

    _, itself, modes = look()
    outer.type("tazpod shell")
    outer.expect("Passphrase: ")
    signal_the_prompt(locked_pod, "KILL")
    assert look() == (str(128 + signal.SIGKILL), itself, modes)
    locked_pod.unlock().ok()


def client_is_killed(terminal):
    os.kill(terminal.child.pid, signal.SIGKILL)


def window_is_closed(terminal):
    # The terminal of the docker command ends, and the command is sent HUP.
    terminal.child.close()


@pytest.mark.parametrize("way", [client_is_killed, window_is_closed])
def test_a_lost_client_leaves_a_question_that_stands_in_nobodys_way(locked_pod, workspace, way):
    """The engine tells nothing inside the pod of the end of its client."""
    before = snapshot(workspace)
    terminal = locked_pod.terminal("tazpod", "shell")
    terminal.expect("Passphrase: ")
    way(terminal)
    until(lambda: not terminal.child.isalive(), "the docker command ends")
    assert locked_pod.state() == "locked" and in_ram(locked_pod) == []
    assert snapshot(workspace) == before
    until(lambda: processes(locked_pod) <= 2, "it is no more than the question")

    locked_pod.unlock().ok()
    assert locked_pod.read(f"{SECRETS}/one") == CONTENT
    locked_pod.tazpod("lock").ok()
    status, seconds = locked_pod.stop()
    assert status == 0
    assert seconds < 5, "the stop waited for it"
    locked_pod.start()
    until(lambda: processes(locked_pod) == 1, "process 1 is alone")


def test_lines_that_are_pasted_behind_one_another_give_no_more_than_three_tries(locked_pod, workspace):
    before = snapshot(workspace)
    terminal = locked_pod.terminal("tazpod", "shell")
    terminal.expect("Passphrase: ")
    paste(terminal, f"{WRONG}\r".encode() * 200)
    # What came while a key was derived is not an answer to the next question. So there may be one
    # that waits for a person, who gives up.
    while terminal.child.expect_exact(["Passphrase: ", pexpect.EOF]) == 0:
        terminal.press("c")
    assert terminal.ends() in (77, 130)
    assert terminal.text.count("Passphrase: ") <= 3
    assert locked_pod.state() == "locked" and in_ram(locked_pod) == []
    assert snapshot(workspace) == before
    until(lambda: processes(locked_pod) == 1, "process 1 is alone")
    locked_pod.unlock().ok()
