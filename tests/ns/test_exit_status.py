"""The exit status of process 1 is the main command's, as under sh and `docker run`."""

import pytest

PLACES = pytest.mark.parametrize("with_vault", [False, True], ids=["no-vault", "vault-place"])


def run(start, make_place, with_vault, *command):
    return start(*command, place=make_place() if with_vault else None).wait()


@PLACES
@pytest.mark.parametrize("status", [0, 1, 3, 126, 255])
def test_the_main_commands_exit_status_is_ours(start, make_place, with_vault, status):
    assert run(start, make_place, with_vault, "sh", "-c", f"exit {status}") == status


@PLACES
@pytest.mark.parametrize("number", [1, 6, 9, 11, 15, 64])
def test_a_main_command_killed_by_signal_n_gives_128_and_n(start, make_place, with_vault, number):
    script = f"import os, resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.kill(os.getpid(), {number})"
    assert run(start, make_place, with_vault, "/usr/bin/python3", "-c", script) == 128 + number


@PLACES
@pytest.mark.parametrize("command", ["/etc/passwd", "/etc"])
def test_a_main_command_that_cannot_be_executed_gives_126(start, make_place, with_vault, command):
    assert run(start, make_place, with_vault, command) == 126


@PLACES
@pytest.mark.parametrize("command", ["/no/such/file", "no-such-command"])
def test_a_main_command_that_is_not_there_gives_127(start, make_place, with_vault, command):
    pod = start(command, place=make_place() if with_vault else None)
    assert pod.wait() == 127
    assert command in pod.log(), "the log names what was not found"


def test_the_main_command_is_looked_up_in_the_path(start):
    assert start("true").wait() == 0
    assert start("true", env={"PATH": "/nowhere"}).wait() == 127


def test_an_orphans_status_does_not_become_ours(start):
    # The orphan ends with 9, and is gone before the main command ends with 4.
    script = """
import os
reader, writer = os.pipe()
if os.fork() == 0:
    orphan = os.fork()
    if orphan == 0:
        os._exit(9)
    os.waitid(os.P_PID, orphan, os.WEXITED | os.WNOWAIT)
    os.write(writer, b"%d" % orphan)
    os._exit(0)
os.wait()
orphan = int(os.read(reader, 16))
while os.path.exists(f"/proc/{orphan}"):
    pass
os._exit(4)
"""
    assert start("/usr/bin/python3", "-c", script).wait() == 4


def test_a_wrong_option_is_a_usage_error(start):
    assert start("true", options=("--no-such-option",)).wait() == 64
