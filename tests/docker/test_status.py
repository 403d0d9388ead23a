"""States, words and exit codes, through the engine."""

import re
import subprocess

import pytest

from pods import CHEAP, SECRETS, VAULT, docker, until


def test_status_follows_the_vault_through_its_life(new_pod, workspace):
    pod = new_pod(workspace)
    fresh = pod.status()
    assert fresh["state"] == "locked"
    assert fresh["vault"] == VAULT
    assert fresh["secrets"] == SECRETS
    assert "stale" not in fresh and "problem" not in fresh

    pod.create().ok()
    opened = pod.status()
    assert opened["state"] == "open"
    assert opened["ram"].startswith("given")
    assert opened["generation"] == "1"

    pod.write(f"{SECRETS}/one", b"1")
    pod.write(f"{SECRETS}/two", b"22")
    pod.tazpod("save").ok()
    saved = pod.status()
    assert saved["generation"] == "2"
    assert saved["files"].split()[0] == "2"

    pod.tazpod("lock").ok()
    locked = pod.status()
    assert locked["state"] == "locked"
    assert pod.sh(f"test -e {SECRETS}").code == 1, "clear text after the lock"

    pod.unlock().ok()
    assert pod.status()["state"] == "open"
    assert pod.read(f"{SECRETS}/two") == b"22"


def test_a_save_of_what_is_saved_already_writes_nothing(new_pod, workspace):
    pod = new_pod(workspace)
    pod.create().ok()
    pod.write(f"{SECRETS}/one", b"1")
    pod.tazpod("save").ok()
    before = (workspace / ".tazpod/vault.tpv").stat()
    pod.tazpod("save").ok()
    after = (workspace / ".tazpod/vault.tpv").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    pod.write(f"{SECRETS}/one", b"2")
    pod.tazpod("save").ok()
    assert (workspace / ".tazpod/vault.tpv").stat().st_ino != after.st_ino


def test_every_refusal_has_its_exit_code_and_its_word(new_pod, workspace):
    pod = new_pod(workspace)

    def refused(result, code, word):
        assert result.code == code, result
        assert f"[{word}]" in result.err, result
        assert result.err.startswith("tazpod: "), result

    refused(pod.unlock(), 66, "no-vault")
    refused(pod.tazpod("save"), 3, "locked")
    refused(pod.tazpod("unlock"), 4, "needs-terminal")
    assert pod.tazpod("shell").code == 4
    refused(pod.unlock("--create", *CHEAP, passphrase=""), 77, "empty-passphrase")
    refused(pod.unlock("--create", *CHEAP, passphrase="x" * 1025), 77, "long-passphrase")
    assert pod.tazpod("frobnicate").code == 64
    assert pod.tazpod("unlock", "--frobnicate").code == 64
    assert pod.tazpod("unlock", "--create", "--kdf-memory", "1M", "--passphrase-fd", "0", stdin=b"x").code in (64, 65)
    assert not (workspace / ".tazpod/vault.tpv").exists()

    pod.unlock("--create", *CHEAP, passphrase="x" * 1024).ok()
    pod.tazpod("lock").ok()
    refused(pod.unlock("--create", *CHEAP), 73, "exists")
    refused(pod.unlock(), 77, "wrong-passphrase")
    pod.unlock(passphrase="x" * 1024).ok()


def test_a_damaged_vault_is_told_from_a_wrong_passphrase(new_pod, workspace):
    pod = new_pod(workspace)
    pod.create().ok()
    pod.tazpod("lock").ok()
    vault = workspace / ".tazpod/vault.tpv"
    whole = vault.read_bytes()

    def with_content(content):
        with vault.open("r+b") as file:
            file.truncate(0)
            file.write(content)
        return pod.unlock()

    def with_bit_flipped(at):
        return with_content(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])

    header = with_bit_flipped(50)
    assert header.code == 65 and "[damaged-header]" in header.err, header
    # 16 bytes of end mark, and before it the last chunk's tag.
    body = with_bit_flipped(len(whole) - 20)
    assert body.code == 65 and "[damaged-body]" in body.err, body
    cut = with_content(whole[:-20])
    assert cut.code == 65 and "[truncated]" in cut.err, cut
    other = with_content(b"#!/bin/sh\n" + whole)
    assert other.code == 65 and "[not-a-vault]" in other.err, other
    assert pod.state() == "locked" and pod.sh(f"test -e {SECRETS}").code == 1
    with_content(whole).ok()


def test_tazpod_outside_a_pod_says_that_no_init_answers(image):
    result = docker("run", "--rm", "--entrypoint", "tazpod", image, "status")
    assert result.code == 69, result
    assert "[no-init]" in result.err, result


@pytest.mark.parametrize("command,status", [
    (("sh", "-c", "exit 0"), 0),
    (("sh", "-c", "exit 7"), 7),
    (("sh", "-c", "kill -KILL $$"), 137),
    (("/etc/passwd",), 126),
    (("no-such-command",), 127),
], ids=["success", "failure", "killed", "not-executable", "not-found"])
def test_the_pod_ends_with_the_status_of_its_main_command(image, workspace, command, status):
    for vault in ((), ("-e", "TAZPOD_VAULT=none")):
        result = docker("run", "--rm", "--cap-drop", "ALL", *vault, image, *command)
        assert result.code == status, result


def test_the_signal_that_stops_a_pod_reaches_its_main_command(new_pod, workspace):
    script = 'trap "exit 41" TERM; echo armed; while :; do sleep 1 & wait $!; done'
    pod = new_pod(workspace, command=("sh", "-c", script))
    pod.wait_for_log("armed")
    pod.create().ok()
    pod.write(f"{SECRETS}/one", b"1")
    status, _ = pod.stop()
    assert status == 41
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/one") == b"1"


def test_the_pod_runs_as_the_user_without_capabilities_and_knows_its_version(new_pod, workspace):
    pod = new_pod(workspace)
    lines = dict(line.split(":", 1) for line in pod.read("/proc/1/status").decode().splitlines())
    assert lines["Uid"].split() == ["1000"] * 4
    assert all(int(lines[name], 16) == 0 for name in ("CapPrm", "CapEff", "CapAmb"))
    assert re.fullmatch(r"tazpod \d+\.\d+\S*", pod.tazpod("version").ok().out.strip())
    assert "unlock" in pod.tazpod("help").ok().out


def test_no_passphrase_reaches_arguments_environment_or_log(new_pod, workspace):
    passphrase = "needle-in-no-haystack"
    pod = new_pod(workspace, command=("sh", "-c", "echo control-in-the-log; exec sleep infinity"),
                  options=("-e", "CONTROL=control-in-an-environment"))

    # The dearest derivation there may be: long enough to look around meanwhile.
    client = subprocess.Popen(["docker", "exec", "-i", pod.name, "tazpod", "unlock",
                               "--create", "--kdf-memory", "256M", "--kdf-time", "16", "--passphrase-fd", "0"],
                              stdin=subprocess.PIPE)
    client.stdin.write(passphrase.encode())
    client.stdin.close()
    until(lambda: pod.state() == "opening", "the derivation has begun")
    processes = pod.sh("cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; :").ok().raw
    assert b"tazpod-worker" in processes, "it was over before we looked"
    assert b"--passphrase-fd" in processes and b"control-in-an-environment" in processes
    assert passphrase.encode() not in processes

    assert client.wait(timeout=60) == 0
    pod.tazpod("lock").ok()
    pod.unlock(passphrase=passphrase).ok()
    log = pod.logs()
    assert "control-in-the-log" in log
    assert passphrase not in log
