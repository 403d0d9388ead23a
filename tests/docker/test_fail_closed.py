"""Whoever does not give the passphrase gets no shell, and leaves everything as it was."""

import pytest

from pods import PASSPHRASE, RUN_DIR, SECRETS, docker, snapshot, until

CONTENT = b"nothing to see"
WRONG = "zebra-not-it"


@pytest.fixture
def locked_pod(new_pod, workspace):
    pod = new_pod(workspace)
    pod.create_whole().ok()
    pod.write(f"{SECRETS}/one", CONTENT)
    pod.tazpod("lock").ok()
    return pod


def in_ram(pod):
    return pod.exec("find", RUN_DIR, "-mindepth", "1", "!", "-name", "control.sock").ok().out.split()


def test_a_wrong_passphrase_has_its_own_exit_code_and_leaves_ram_empty(locked_pod, workspace):
    before = snapshot(workspace)
    used = locked_pod.ram_used()
    for wrong in (PASSPHRASE + " ", PASSPHRASE.upper(), PASSPHRASE[:-1], "x"):
        refused = locked_pod.unlock(passphrase=wrong)
        assert refused.code == 77, refused
        assert "[wrong-passphrase]" in refused.err, refused
        assert locked_pod.state() == "locked"
        assert in_ram(locked_pod) == []
        assert locked_pod.ram_used() == used
    assert snapshot(workspace) == before

    locked_pod.unlock().ok()
    assert f"{SECRETS}/one" in in_ram(locked_pod), "the same look finds what an unlock puts there"
    assert locked_pod.read(f"{SECRETS}/one") == CONTENT


def processes(pod):
    """Of the pod, as the engine sees them; the first line is a heading."""
    return len(docker("top", pod.name).ok().out.splitlines()) - 1


def press_ctrl_c(terminal):
    terminal.expect("Passphrase: ")
    terminal.press("c")


def press_ctrl_c_after_some_letters(terminal):
    terminal.expect("Passphrase: ")
    terminal.child.send(PASSPHRASE)
    terminal.press("c")


def press_ctrl_d(terminal):
    terminal.expect("Passphrase: ")
    terminal.press("d")


def press_ctrl_backslash(terminal):
    terminal.expect("Passphrase: ")
    terminal.press("\\")


def give_an_empty_passphrase(terminal):
    terminal.expect("Passphrase: ")
    terminal.type("")


def give_three_wrong_ones(terminal):
    for _ in range(3):
        terminal.expect("Passphrase: ")
        terminal.type(WRONG)


WAYS = {
    press_ctrl_c: {130},
    press_ctrl_c_after_some_letters: {130},
    press_ctrl_d: {130},
    press_ctrl_backslash: {130},
    give_an_empty_passphrase: {77},
    give_three_wrong_ones: {77},
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_shell_without_the_passphrase_and_the_exec_ends(locked_pod, workspace, way):
    before = snapshot(workspace)
    terminal = locked_pod.terminal("tazpod", "shell")
    way(terminal)
    assert terminal.ends() in WAYS[way]
    assert WRONG not in terminal.text and PASSPHRASE not in terminal.text, "it was echoed"
    assert locked_pod.state() == "locked"
    assert in_ram(locked_pod) == []
    assert snapshot(workspace) == before
    assert processes(locked_pod) == 1, "something stays behind beside PID 1"


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_terminal_is_left_as_it_was_found(locked_pod, way):
    # dash, because it does not touch the terminal's modes: bash would mend what tazpod broke.
    outer = locked_pod.terminal("dash", "-i")
    outer.take_prompt()
    before = outer.command("stty -g")
    assert outer.command("stty -echo; stty -g; stty echo") != before, "the comparison sees a difference"
    assert outer.command("stty -g") == before

    outer.type("tazpod shell")
    way(outer)
    outer.expect(outer.PROMPT)
    assert int(outer.command("echo $?")) in WAYS[way]
    assert outer.command("stty -g") == before
    assert locked_pod.state() == "locked"


def test_the_terminal_is_restored_when_the_prompt_is_killed_from_outside(locked_pod):
    outer = locked_pod.terminal("dash", "-i")
    outer.take_prompt()
    before = outer.command("stty -g")
    for signal in ("TERM", "HUP"):
        outer.type("tazpod shell")
        outer.expect("Passphrase: ")
        # A pattern that is not among its own arguments.
        locked_pod.sh('kill -"$1" $(grep -lxz "[t]azpod" /proc/[0-9]*/cmdline | cut -d/ -f3)', signal).ok()
        outer.expect(outer.PROMPT)
        assert int(outer.command("echo $?")) >= 128
        assert outer.command("stty -g") == before, signal


def test_ctrl_c_while_the_key_is_derived_gives_no_shell(new_pod, workspace):
    pod = new_pod(workspace)
    # The dearest derivation the format allows: seconds in which a key can be pressed.
    pod.create("--kdf-memory", "256M", "--kdf-time", "16").ok()
    pod.tazpod("lock").ok()
    before = snapshot(workspace)
    terminal = pod.terminal("tazpod", "shell")
    terminal.expect("Passphrase: ")
    terminal.type(PASSPHRASE)
    until(lambda: pod.state() == "opening", "the derivation has begun")
    terminal.press("c")
    assert terminal.ends() == 130
    assert "$ " not in terminal.text
    # An unlock that nobody waits for any more leaves the vault locked.
    assert until(lambda: pod.state() != "opening" and pod.state(), "the end of the derivation") == "locked"
    assert snapshot(workspace) == before
    pod.unlock().ok()


def test_ctrl_z_at_the_prompt_leaves_no_shell_behind_it(locked_pod):
    terminal = locked_pod.terminal("tazpod", "shell")
    terminal.expect("Passphrase: ")
    terminal.press("z")
    terminal.type(PASSPHRASE)
    terminal.take_prompt()
    assert terminal.command("cat ~/secrets/one") == CONTENT.decode(), "it was no letter of the passphrase either"


def test_the_right_passphrase_on_the_third_try_opens(locked_pod):
    terminal = locked_pod.terminal("tazpod", "shell")
    for attempt in (WRONG, WRONG + WRONG, PASSPHRASE):
        terminal.expect("Passphrase: ")
        terminal.type(attempt)
    terminal.take_prompt()
    assert terminal.command("cat ~/secrets/one") == CONTENT.decode()


def test_a_shell_as_main_command_that_gets_no_passphrase_ends_the_pod(new_pod, workspace, locked_pod):
    locked_pod.stop()
    before = snapshot(workspace)
    pod = new_pod(workspace, command=("tazpod", "shell"), run=False)
    terminal = pod.run_terminal()
    press_ctrl_c(terminal)
    assert terminal.ends() == 130
    assert pod.exit_status() == 130
    assert snapshot(workspace) == before


def test_another_user_of_the_pod_gets_no_answer(locked_pod):
    assert locked_pod.tazpod("status", options=("--user", "1001")).code == 69
    refused = locked_pod.tazpod("unlock", "--passphrase-fd", "0", stdin=PASSPHRASE.encode(), options=("--user", "1001"))
    assert refused.code == 69, refused
    assert locked_pod.state() == "locked"
    locked_pod.unlock().ok()
    assert locked_pod.exec("cat", f"{SECRETS}/one", options=("--user", "1001")).code != 0
