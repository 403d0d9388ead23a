"""Who is asked for a passphrase: the program that TAZPOD_ASKPASS names, the terminal, or nobody.

As a user meets it in a pod. Every way a program can answer, and every standard input, is tried on the
bare programs in tests/ns/test_asking.py.
"""

import subprocess
import time

import pytest

from pods import PASSPHRASE, RUN_DIR, SECRETS, VAULT, docker, snapshot, until

CONTENT = b"nothing to see"
FOLDER = "/tmp/programs"
# Longer than any of these commands takes, and much shorter than for ever.
AT_ONCE_S = 60

# Name -> what it prints and how it ends; it has noted the question before.
PROGRAMS = {
    "right": f"echo '{PASSPHRASE}'",
    "wrong": "echo zebra-not-it",
    "nothing": ":",
    "declines": f"echo '{PASSPHRASE}'; exit 1",
    "nul": f"printf '%s\\0def' '{PASSPHRASE}'",
    "megabyte": "head -c 1048576 /dev/zero | tr '\\0' x",
    "without-end": "exec yes zebra-not-it",
    "never-ends": "exec sleep infinity",
    "second-try": '[ "$(wc -l < "$0.asked")" -lt 2 ] && echo zebra-not-it || ' + f"echo '{PASSPHRASE}'",
    "differs": 'case $1 in Again*) echo one ;; *) echo other ;; esac',
}


def install(pod):
    """The programs, and one that nobody may execute."""
    lines = [f"mkdir -p {FOLDER}"]
    for name, body in {**PROGRAMS, "not-executable": PROGRAMS["right"]}.items():
        note = 'printf "%s|%s\\n" "$#" "$1" >> "$0.asked"'
        lines += [f"cat > {FOLDER}/{name} <<'END'", "#!/bin/sh", note, body, "END"]
    lines += [f"chmod 755 {FOLDER}/*", f"chmod 644 {FOLDER}/not-executable"]
    pod.sh("\n".join(lines)).ok()


@pytest.fixture
def new_vault_pod(new_pod, workspace):
    pod = new_pod(workspace)
    install(pod)
    return pod


@pytest.fixture
def locked_pod(new_vault_pod):
    new_vault_pod.create_whole().ok()
    new_vault_pod.write(f"{SECRETS}/one", CONTENT)
    new_vault_pod.tazpod("lock").ok()
    return new_vault_pod


def environment(program=None, require=None):
    words = []
    if program is not None:
        words += ["-e", f"TAZPOD_ASKPASS={FOLDER}/{program}"]
    if require is not None:
        words += ["-e", f"TAZPOD_ASKPASS_REQUIRE={require}"]
    return words


def asked(pod, program):
    """The questions put to a program since the last look; each was its one argument."""
    lines = pod.sh(f'cat {FOLDER}/"$1".asked && rm {FOLDER}/"$1".asked || :', program).ok().out.splitlines()
    assert all(line.startswith("1|") for line in lines), lines
    return [line[2:] for line in lines]


def unlock(pod, program, require=None, words=("unlock",)):
    """Without a terminal, and in time."""
    return pod.tazpod(*words, options=environment(program, require), timeout=AT_ONCE_S)


def alone(pod):
    """No process beside process 1; the first line is a heading."""
    until(lambda: len(docker("top", pod.name).ok().out.splitlines()) == 2, "process 1 is alone")


def is_locked(pod, workspace, before):
    assert pod.state() == "locked"
    assert pod.exec("find", RUN_DIR, "-mindepth", "1", "!", "-name", "control.sock").ok().out == ""
    assert snapshot(workspace) == before


ONE = ["Passphrase: "]


def test_a_program_opens_the_vault_without_a_terminal_and_what_it_says_is_in_no_log(locked_pod):
    opened = unlock(locked_pod, "right").ok()
    assert asked(locked_pod, "right") == ONE
    assert locked_pod.read(f"{SECRETS}/one") == CONTENT
    locked_pod.tazpod("lock").ok()

    again = unlock(locked_pod, "second-try").ok()
    assert asked(locked_pod, "second-try") == ONE * 2
    assert "try again" in again.err
    locked_pod.tazpod("lock").ok()
    assert locked_pod.logs().count("tazpod-init: unlock ") == 2, "the log is the one to look at"
    for text in (opened.out + opened.err, again.out + again.err, locked_pod.logs()):
        assert PASSPHRASE not in text and "zebra" not in text


@pytest.mark.parametrize("verb", ["unlock", "shell"])
def test_whatever_else_a_program_does_opens_nothing(locked_pod, workspace, verb):
    before = snapshot(workspace)
    for program, codes, word, times in [
        ("wrong", {77}, "wrong-passphrase", 3),
        ("nul", {77}, "wrong-passphrase", 3),
        ("nothing", {77}, "empty-passphrase", 1),
        ("declines", {130}, "cancelled", 1),
        # Cut off when it has said too much, it fails or not, as it likes.
        ("megabyte", {77, 130}, "", 1),
        ("without-end", {77, 130}, "", 1),
        ("not-executable", {4}, "needs-terminal", 0),
        ("absent", {4}, "needs-terminal", 0),
    ]:
        refused = unlock(locked_pod, program, words=[verb])
        assert refused.code in codes, (program, refused)
        assert f"{word}]" in refused.err and refused.out == "", (program, refused)
        assert len(refused.err) < 500 and PASSPHRASE not in refused.err and "zebra" not in refused.err
        assert asked(locked_pod, program) == ONE * times, program
    is_locked(locked_pod, workspace, before)
    assert PASSPHRASE not in locked_pod.logs() and "zebra" not in locked_pod.logs()
    alone(locked_pod)
    unlock(locked_pod, "right").ok()


def test_on_a_terminal_require_says_who_is_asked(locked_pod):
    def terminal(program, require=None):
        return locked_pod.terminal("tazpod", "unlock", options=("-it", *environment(program, require)))

    def is_asked(screen):
        screen.expect("Passphrase: ")
        screen.press("c")
        return screen.ends()

    assert is_asked(terminal("right", "never")) == 130
    assert is_asked(terminal("absent")) == 130
    assert is_asked(terminal("not-executable")) == 130
    assert is_asked(terminal(None)) == 130
    for program, require, code in [("absent", "force", 4), ("not-executable", "force", 4), ("declines", None, 130)]:
        screen = terminal(program, require)
        assert screen.ends() == code
        assert "Passphrase: " not in screen.text, "it went behind the program's back"
    assert asked(locked_pod, "right") == []
    for require in (None, "force"):
        screen = terminal("right", require)
        assert screen.ends() == 0
        assert "Passphrase: " not in screen.text
        assert asked(locked_pod, "right") == ONE
        assert locked_pod.state() == "open"
        locked_pod.tazpod("lock").ok()


def test_a_shell_opened_by_a_program_is_a_shell(locked_pod):
    shell = locked_pod.terminal("tazpod", "shell", options=("-it", *environment("right")))
    shell.take_prompt()
    shell.type("cat ~/secrets/one; echo =$?=")
    assert CONTENT.decode() in shell.expect("=0=")
    shell.type("exit 5")
    assert shell.ends() == 5


def test_a_new_vault_takes_two_answers_that_are_alike(new_vault_pod, workspace):
    pod = new_vault_pod
    make = ("unlock", "--create", "--kdf-memory", "8M", "--kdf-time", "1")
    refused = unlock(pod, "differs", words=make)
    assert refused.code == 77 and "[wrong-passphrase]" in refused.err, refused
    assert asked(pod, "differs") == ["New passphrase: ", "Again: "] * 3
    assert unlock(pod, "declines", words=make).code == 130
    # Nobody said that a vault is to be made.
    assert unlock(pod, "right").code == 66
    is_locked(pod, workspace, {})
    asked(pod, "right")
    unlock(pod, "right", words=make).ok()
    assert asked(pod, "right") == ["New passphrase: ", "Again: "]
    pod.tazpod("lock").ok()
    pod.unlock().ok()


def test_a_program_that_never_ends_is_interrupted_with_ctrl_c_and_stands_in_nobodys_way(locked_pod, workspace):
    before = snapshot(workspace)

    def waits():
        screen = locked_pod.terminal("tazpod", "shell", options=("-it", *environment("never-ends")))
        until(lambda: "sleep infinity" in docker("top", locked_pod.name).out, "the program waits")
        return screen

    screen = waits()
    screen.press("c")
    assert screen.ends() == 130
    alone(locked_pod)
    is_locked(locked_pod, workspace, before)

    waits()
    locked_pod.unlock().ok()
    assert locked_pod.read(f"{SECRETS}/one") == CONTENT
    status, seconds = locked_pod.stop()
    assert status == 0 and seconds < 5


# --- nobody to ask ---


def test_no_input_asks_nobody_and_a_file_still_opens(locked_pod, workspace):
    before = snapshot(workspace)
    for words in (["unlock"], ["shell"], ["unlock", "--create"], ["verify", VAULT]):
        for program, require in ((None, None), ("right", None), ("right", "force")):
            options = environment(program, require)
            silent = locked_pod.tazpod(*words, "--no-input", options=options, timeout=AT_ONCE_S)
            assert silent.code == 4 and "[needs-terminal]" in silent.err, silent
        screen = locked_pod.terminal("tazpod", *words, "--no-input", options=("-it", *options))
        assert screen.ends() == 4
        assert "assphrase: " not in screen.text and "[needs-terminal]" in screen.text
    assert asked(locked_pod, "right") == []
    is_locked(locked_pod, workspace, before)
    assert unlock(locked_pod, "right", words=["verify", VAULT]).code == 0, "it is the flag that kept it from asking"
    opened = locked_pod.tazpod("unlock", "--no-input", "--passphrase-fd", "0", stdin=PASSPHRASE.encode())
    assert opened.code == 0, opened


def test_without_a_terminal_every_command_ends_at_once_with_the_next_step(locked_pod, workspace):
    before = snapshot(workspace)
    for words in ("unlock", "shell", "unlock --create", f"verify {VAULT}"):
        for stdin in ("</dev/null", "<&-", ""):
            done = locked_pod.sh(f"exec tazpod {words} {stdin}", timeout=AT_ONCE_S)
            assert done.code == 4, done
            assert "[needs-terminal]" in done.err and "docker exec -it" in done.err, done
    is_locked(locked_pod, workspace, before)
    # With a terminal in place of standard input it asks.
    screen = locked_pod.terminal("sh", "-c", "exec tazpod unlock </dev/null")
    screen.expect("Passphrase: ")
    screen.type(PASSPHRASE)
    assert screen.ends() == 0


def test_a_pipe_that_nobody_writes_to_keeps_nothing_waiting(locked_pod):
    argv = ["docker", "exec", "-i", locked_pod.name, "tazpod", "unlock"]
    began = time.monotonic()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as client:
        try:
            assert client.wait(AT_ONCE_S) == 4, "standard input is still open here"
        finally:
            client.kill()
    assert time.monotonic() - began < AT_ONCE_S
    assert locked_pod.state() == "locked"
    alone(locked_pod)
