"""The main job: a pod that keeps a secret across `docker stop`, as its user meets it."""

import os

import pytest

from pods import CHEAP, PASSPHRASE, SECRETS, UID, VAULT

KUBECONFIG = "token: 5f1e0a-not-for-disk"
MAGIC = bytes.fromhex("89564c540d0a1a0a")


def offered_a_new_vault(terminal, answer="y"):
    terminal.expect(f"Create a new vault at {VAULT}? [y/N] ")
    terminal.type(answer)


def makes_a_vault(terminal, passphrase=PASSPHRASE):
    offered_a_new_vault(terminal)
    terminal.expect("New passphrase: ")
    terminal.type(passphrase)
    terminal.expect("Again: ")
    terminal.type(passphrase)
    terminal.take_prompt()


def unlocks(terminal, passphrase=PASSPHRASE):
    terminal.expect("Passphrase: ")
    terminal.type(passphrase)
    terminal.take_prompt()


def host_vault(workspace):
    return workspace / ".tazpod/vault.tpv"


def assert_is_encrypted(workspace):
    vault = host_vault(workspace)
    info = vault.stat()
    assert (info.st_uid, info.st_mode & 0o7777) == (UID, 0o600)
    assert vault.read_bytes()[:8] == MAGIC
    assert KUBECONFIG.encode() not in vault.read_bytes()


@pytest.mark.parametrize("options", [(), ("--read-only",)], ids=["writable-root", "read-only-root"])
def test_what_a_user_types_into_a_pod_is_back_after_stop_and_start(new_pod, workspace, options):
    pod = new_pod(workspace, options=options)

    first = pod.terminal("tazpod", "shell")
    makes_a_vault(first)
    first.command(f"printf '%s' '{KUBECONFIG}' > ~/secrets/kubeconfig")
    first.command("chmod 640 ~/secrets/kubeconfig")
    first.command("TZ=UTC touch -d '2023-11-14 22:13:20.123456789' ~/secrets/kubeconfig")
    first.type("exit")
    assert first.ends() == 0
    assert "tazpod lock" in first.text, "nobody told the user that the vault stays open"
    assert PASSPHRASE not in first.text

    assert pod.stop()[0] == 0
    assert_is_encrypted(workspace)

    pod.start()
    assert pod.state() == "locked"
    assert pod.sh(f"test -e {SECRETS}").code == 1
    second = pod.terminal("tazpod", "shell")
    unlocks(second)
    assert second.command("cat ~/secrets/kubeconfig") == KUBECONFIG
    assert second.command("TZ=UTC stat -c '%a %u %g %y' ~/secrets/kubeconfig") == \
        f"640 {UID} {UID} 2023-11-14 22:13:20.123456789 +0000"
    second.type("exit 7")
    assert second.ends() == 7, "the shell's status is the command's"
    assert PASSPHRASE not in second.text
    assert pod.stop()[0] == 0


def test_the_same_story_is_told_by_passphrase_files(new_pod, workspace):
    passphrase = workspace / "passphrase"
    passphrase.write_text(PASSPHRASE + "\n")
    passphrase.chmod(0o600)
    os.chown(passphrase, UID, UID)
    pod = new_pod(workspace, options=("-v", f"{passphrase}:/run/passphrase:ro"))

    assert pod.tazpod("unlock", "--passphrase-file", "/run/passphrase").code == 66
    pod.tazpod("unlock", "--create", *CHEAP, "--passphrase-file", "/run/passphrase").ok()
    pod.write(f"{SECRETS}/kubeconfig", KUBECONFIG.encode(), mode="0600")
    assert pod.stop()[0] == 0
    assert_is_encrypted(workspace)

    pod.start()
    pod.tazpod("unlock", "--passphrase-file", "/run/passphrase").ok()
    assert pod.read("/home/tazpod/secrets/kubeconfig").decode() == KUBECONFIG
    assert pod.sh("stat -c '%a %u' ~/secrets/kubeconfig").out.split() == ["600", str(UID)]


def test_a_shell_as_main_command_prompts_and_its_end_is_a_clean_stop(new_pod, workspace):
    pod = new_pod(workspace, command=("tazpod", "shell"), run=False)

    first = pod.run_terminal()
    makes_a_vault(first)
    first.command(f"printf '%s' '{KUBECONFIG}' > ~/secrets/kubeconfig")
    first.type("exit")
    assert first.ends() == 0
    assert pod.exit_status() == 0
    assert_is_encrypted(workspace)

    again = pod.start_terminal()
    unlocks(again)
    assert again.command("cat ~/secrets/kubeconfig") == KUBECONFIG
    again.command("echo more > ~/secrets/more")
    again.type("exit 5")
    assert again.ends() == 5
    assert pod.exit_status() == 5, "the pod ends with its main command's status"

    third = pod.start_terminal()
    unlocks(third)
    assert third.command("cat ~/secrets/more") == "more", "the end of the main command saves"
    assert pod.stop()[0] in (0, 128 + 1, 128 + 15), "a shell that is asked to go ends in one of these ways"


def test_a_second_shell_finds_the_vault_open_and_asks_nothing(new_pod, workspace):
    pod = new_pod(workspace)
    pod.create_whole().ok()
    pod.write(f"{SECRETS}/kubeconfig", KUBECONFIG.encode())
    shell = pod.terminal("tazpod", "shell")
    shell.take_prompt()
    assert shell.command("cat ~/secrets/kubeconfig") == KUBECONFIG
    assert "assphrase" not in shell.text


def test_a_user_who_declines_a_new_vault_gets_none(new_pod, workspace):
    pod = new_pod(workspace)
    shell = pod.terminal("tazpod", "shell")
    offered_a_new_vault(shell, answer="")
    assert shell.ends() not in (0, None)
    assert not host_vault(workspace).exists()
    assert pod.state() == "locked"


def test_a_passphrase_that_was_not_typed_twice_alike_is_asked_for_again(new_pod, workspace):
    pod = new_pod(workspace)
    shell = pod.terminal("tazpod", "shell")
    offered_a_new_vault(shell)
    shell.expect("New passphrase: ")
    shell.type(PASSPHRASE)
    shell.expect("Again: ")
    shell.type(PASSPHRASE + "x")
    shell.expect("New passphrase: ")
    shell.press("c")
    assert shell.ends() == 130
    assert not host_vault(workspace).exists()


def test_a_whole_tree_comes_back_with_directories_links_modes_and_times(new_pod, workspace):
    pod = new_pod(workspace)
    pod.create_whole().ok()
    pod.sh("""
        umask 077
        cd ~/secrets
        mkdir -p a/b/empty 'with blank'
        printf x > a/b/one; printf '' > a/nothing; printf y > 'with blank/schlüssel'
        printf '#!/bin/sh\n' > a/run; chmod 755 a/run; chmod 400 a/b/one; chmod 750 a/b
        ln -s ../a/b/one 'with blank/link'; ln -s nowhere a/dangling
        touch -d '2001-02-03 04:05:06.7' a/b/one
        touch -d '1999-12-31 23:59:59' a/b/empty; touch -d '2000-01-01' a/b
    """).ok()
    look = "cd ~/secrets && find . -mindepth 1 -printf '%p %y %m %U %G %T@ %l\\n' | LC_ALL=C sort && sha256sum a/run a/b/one"
    before = pod.sh(look).ok().out
    assert pod.stop()[0] == 0
    pod.start()
    pod.unlock().ok()
    after = pod.sh(look).ok().out
    assert after == before
    assert before.count("\n") == 12, "the listing itself saw everything"
