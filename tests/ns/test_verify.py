"""`tazpod verify FILE`: is a vault whole, and is this its passphrase? Nothing is unpacked."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import time

import pexpect
import pytest

from nsinit import DEADLINE_S, OWNER, PASSPHRASE, arguments, children, programs, status_field, tree, until

# Costly enough that a derivation can be looked at while it runs.
SLOW = ("--kdf-memory", "64M", "--kdf-time", "16")


def verify(*words, uid=OWNER, passphrase=PASSPHRASE, cwd="/", **how):
    """By hand, on any machine: without a pod."""
    words = [str(programs() / "tazpod"), "verify", *map(str, words)]
    if passphrase is not None:
        words += ["--passphrase-fd", "0"]
    if uid:
        how.update(user=uid, group=uid, extra_groups=())
    return subprocess.run(words, input=passphrase or b"", capture_output=True, timeout=DEADLINE_S, cwd=cwd,
                          env={"PATH": "/usr/bin:/bin"}, start_new_session=True, **how)


@pytest.fixture
def vault(start, place):
    """A vault of two generations, and nobody who has it open."""
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    place.write("large", os.urandom(200_000))
    pod.ok("save")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    return place.vault


def assert_fails(done, code, word):
    assert done.returncode == code, done
    assert done.stderr.decode().rstrip().endswith(f"[{word}]"), done.stderr
    assert done.stdout == b"" and b"is whole" not in done.stderr


# ---- what it says ----


def test_a_whole_vault_is_called_whole_with_its_generation_and_date(vault):
    before = vault.stat()
    done = verify(vault)
    assert (done.returncode, done.stdout) == (0, b""), done
    found = re.fullmatch(rf"tazpod: {vault} is whole: generation 2, saved (\S+)\n", done.stderr.decode())
    saved = time.mktime(time.strptime(found.group(1), "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert abs(saved - before.st_mtime) < 5


def test_an_earlier_generation_is_a_vault_like_any_other(vault):
    done = verify(f"{vault}.1")
    assert done.returncode == 0 and b"generation 1, " in done.stderr, done


@pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
def test_names_and_places_do_not_matter(vault, tmp_path_factory, uid):
    """A backup, by a relative name, through a link; root's and the owner's."""
    folder = vault.parents[2] / "backup"
    folder.mkdir()
    copy = folder / "copy of a vault"
    copy.write_bytes(vault.read_bytes())
    copy.chmod(0o600)
    (folder / "link").symlink_to("copy of a vault")
    for path in (folder, copy):
        os.chown(path, uid, uid)
    for name in (copy, "copy of a vault", "./copy of a vault", folder / "link", "link"):
        done = verify(name, uid=uid, cwd=folder)
        assert done.returncode == 0, (name, done)


def test_root_may_ask_about_the_owners_vault(vault):
    assert verify(vault, uid=0).returncode == 0


def test_a_wrong_passphrase_is_told_from_a_damaged_file(vault):
    assert_fails(verify(vault, passphrase=b"another"), 77, "wrong-passphrase")
    assert_fails(verify(vault, passphrase=b""), 77, "empty-passphrase")
    assert_fails(verify(vault, passphrase=b"x" * 1025), 77, "long-passphrase")


def flipped(at):
    def change(data):
        at_byte = at if at >= 0 else len(data) + at
        return data[:at_byte] + bytes([data[at_byte] ^ 1]) + data[at_byte + 1:]

    return change


DAMAGES = {
    "header": (flipped(40), "damaged-header"),
    "a-byte-of-the-body": (flipped(-1000), "damaged-body"),
    "its-last-byte": (flipped(-1), "truncated damaged-body"),
    "a-cut-end": (lambda data: data[:-1], "truncated damaged-body"),
    "half-of-it": (lambda data: data[:len(data) // 2], "truncated damaged-body"),
    "only-a-part-of-the-header": (lambda data: data[:100], "truncated"),
    "something-behind-it": (lambda data: data + b"x", "truncated damaged-body"),
    "another-file": (lambda data: b"#!/bin/sh\n" * 100, "not-a-vault"),
    "an-empty-file": (lambda data: b"", "not-a-vault truncated"),
}


@pytest.mark.parametrize("change, words", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_not_whole(vault, change, words):
    vault.write_bytes(change(vault.read_bytes()))
    done = verify(vault)
    assert any(done.stderr.decode().rstrip().endswith(f"[{word}]") for word in words.split()), done
    assert_fails(done, 65, re.search(r"\[([a-z-]+)\]$", done.stderr.decode().rstrip()).group(1))


def test_every_byte_is_looked_at(vault):
    """A change anywhere shows; every 997th byte, so that each part of the file has some."""
    data = vault.read_bytes()
    for at in range(0, len(data), 19997):
        vault.write_bytes(flipped(at)(data))
        assert verify(vault).returncode == 65, at
    vault.write_bytes(data)
    assert verify(vault).returncode == 0


@pytest.mark.parametrize("kind", ["nothing", "a-link-to-nothing", "no-folder"])
def test_a_file_that_is_not_there_is_66(place, kind):
    path = place.work / "vault.tpv"
    if kind == "a-link-to-nothing":
        path.symlink_to("nowhere")
    if kind == "no-folder":
        path = place.work / "folder" / "vault.tpv"
    done = verify(path)
    assert (done.returncode, done.stdout) == (66, b""), done
    assert str(path).encode() in done.stderr


@pytest.mark.parametrize("kind", ["folder", "fifo", "device", "socket"])
def test_what_is_no_file_is_no_vault_and_nothing_waits_for_it(place, kind):
    path = place.work / "vault.tpv"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path, 0o666)
    elif kind == "device":
        path = pathlib.Path("/dev/zero")
    else:
        os.mknod(path, 0o140666)
    done = verify(path)
    assert done.returncode in (65, 74) and done.stdout == b"", done


@pytest.mark.parametrize("who", ["another-user", "root-without-its-rights"])
@pytest.mark.parametrize("closed", ["file", "folder"])
def test_a_file_that_may_not_be_read_is_not_taken_for_a_missing_one(vault, who, closed):
    """Exit status 66 would make a script create one. The root is that of `--cap-drop ALL`."""
    if closed == "file":
        vault.parent.chmod(0o755)
    words = ["setpriv", "--reuid", str(OWNER + 1), "--regid", str(OWNER + 1), "--clear-groups"]
    if who != "another-user":
        words = ["setpriv", "--bounding-set", "-all"]
    done = subprocess.run([*words, programs() / "tazpod", "verify", vault, "--passphrase-fd", "0"], input=PASSPHRASE,
                          capture_output=True, timeout=DEADLINE_S)
    assert done.returncode not in (0, 66) and b"is whole" not in done.stderr, done


@pytest.mark.parametrize("words", [[], ["--passphrase-fd", "0"], ["one", "two"], ["one", "--create"],
                                   ["one", "--kdf-memory", "8M"], ["one", "--passphrase-fd", "x"]], ids="-".join)
def test_what_it_does_not_understand_is_a_usage_error(words):
    done = verify(*words, passphrase=None)
    assert (done.returncode, done.stdout) == (64, b""), done


# ---- the passphrase ----


def test_without_a_terminal_it_is_4_and_no_hang(vault):
    assert_fails(verify(vault, passphrase=None), 4, "needs-terminal")


def test_a_passphrase_in_a_file(vault):
    path = vault.parents[1] / "passphrase"
    path.write_bytes(PASSPHRASE + b"\n")
    path.chmod(0o644)
    assert verify(vault, "--passphrase-file", path, passphrase=None).returncode == 0
    assert verify(vault, f"--passphrase-file={path}", passphrase=None).returncode == 0


TYPED = {"right": (PASSPHRASE.decode() + "\r", 0), "wrong": ("another\r", 77), "ctrl-c": ("\x03", 130),
         "ctrl-d": ("\x04", 130)}


@pytest.mark.parametrize("answer, code", TYPED.values(), ids=TYPED)
def test_at_a_terminal_it_asks_there_once(vault, answer, code):
    terminal = pexpect.spawn("setpriv", ["--reuid", str(OWNER), "--regid", str(OWNER), "--clear-groups",
                                         str(programs() / "tazpod"), "verify", str(vault)], timeout=DEADLINE_S)
    try:
        terminal.expect_exact("Passphrase: ")
        terminal.send(answer)
        terminal.expect(pexpect.EOF)
        terminal.wait()
        assert terminal.exitstatus == code
        assert PASSPHRASE not in terminal.before
        assert terminal.before.count(b"Passphrase: ") == 0
    finally:
        terminal.close(force=True)


# ---- what it does not do ----


def everything(place):
    """The workspace, with the times and numbers of the vault's neighbours."""
    beside = {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in place.vault.parent.iterdir()}
    return tree(place.work), beside


def test_nothing_is_written_anywhere(place, vault):
    """Not in the vault's directory, not in the one it is called from, nor anywhere else."""
    place.work.chmod(0o777)
    trace = place.top / "trace"
    trace.touch(0o666)
    trace.chmod(0o666)
    before = everything(place)
    words = ["strace", "-f", "-qq", "-s", "256", "-o", trace, "-e",
             "trace=open,openat,openat2,creat,mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,link,linkat,rename,"
             "renameat,renameat2,unlink,unlinkat,truncate,chmod,fchmodat,flock,ftruncate",
             programs() / "tazpod", "verify", vault, "--passphrase-fd", "0"]
    # As root, whom nothing keeps from writing; strace and its own file are before the worker's uid.
    done = subprocess.run(words, input=PASSPHRASE, capture_output=True, timeout=DEADLINE_S, cwd=place.work)
    assert done.returncode == 0, done
    calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines()]
    assert any(vault.name in call for call in calls), "the worker was watched too"
    writing = [call for call in calls if not call.startswith(("open", "---", "+++")) or
               re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND", call)]
    assert all('"/dev/null"' in call or '"/proc/self/oom_score_adj"' in call for call in writing), writing
    assert everything(place) == before


def test_a_read_only_file_in_a_read_only_folder_is_enough(vault):
    vault.chmod(0o400)
    vault.parent.chmod(0o500)
    assert verify(vault).returncode == 0


@pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
def test_a_pod_that_has_the_vault_open_is_not_disturbed(start, place, uid):
    pod = start("sleep", "infinity", place=place, uid=uid).ready().create()
    place.write("key", b"a secret")
    pod.ok("save")
    place.write("unsaved", b"more")
    before, log = (pod.status(), tree(place.secrets), everything(place)), pod.log()
    for passphrase, code in ((PASSPHRASE, 0), (b"another", 77)):
        done = pod.tazpod("verify", str(place.vault), passphrase=passphrase)
        assert done.returncode == code, done
    assert (pod.status(), tree(place.secrets), everything(place)) == before
    assert pod.log() == log, "process 1 was not even asked"
    pod.ok("lock")


def stop_child(client, wanted):
    """A worker of client, once wanted(pid) holds, stopped there."""
    end = time.monotonic() + DEADLINE_S
    while True:
        for pid in children(client.pid):
            with contextlib.suppress(OSError, KeyError):
                if wanted(pid):
                    os.kill(pid, signal.SIGSTOP)
                    return pid
        assert client.poll() is None and time.monotonic() < end, "no worker was seen"


FILTERS_HERE = int(status_field(os.getpid(), "Seccomp_filters"))


def is_filtered(pid):
    return int(status_field(pid, "Seccomp_filters")) > FILTERS_HERE


@contextlib.contextmanager
def verifying(path, uid=OWNER):
    """A verify whose worker is stopped in the middle: (client, worker)."""
    how = {"user": uid, "group": uid, "extra_groups": ()} if uid else {}
    with subprocess.Popen([programs() / "tazpod", "verify", path, "--passphrase-fd", "0"], stdin=subprocess.PIPE,
                          stderr=subprocess.PIPE, env={"PATH": "/usr/bin:/bin", "SECRET_OF_THE_CALLER": "x"},
                          **how) as client:
        client.stdin.write(PASSPHRASE)
        client.stdin.close()
        worker = stop_child(client, is_filtered)
        try:
            yield client, worker
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGCONT)
        client.said = client.stderr.read()
        client.wait(DEADLINE_S)


@pytest.fixture
def slow_vault(start, place):
    pod = start("sleep", "infinity", place=place).ready()
    pod.ok("unlock", "--create", *SLOW, passphrase=PASSPHRASE)
    return pod


def test_a_save_goes_on_beside_it_and_it_beside_a_save(slow_vault, place):
    pod = slow_vault
    with verifying(place.vault) as (client, _):
        place.write("key", os.urandom(100_000))
        pod.ok("save")
    assert client.returncode == 0, client.said
    place.write("large", os.urandom(24 << 20))
    words, keywords = pod.command("save")
    with subprocess.Popen(words, **keywords) as saving:
        sealer = until(lambda: pod.workers().get("seal"), "a sealer")
        os.kill(sealer, signal.SIGSTOP)
        done = verify(place.vault)
        os.kill(sealer, signal.SIGCONT)
        assert saving.wait(DEADLINE_S) == 0
    assert done.returncode == 0, done


@pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
def test_who_reads_the_file_is_behind_the_filter(slow_vault, place, uid):
    with verifying(place.vault, uid) as (client, worker):
        assert status_field(worker, "Seccomp") == "2"
        assert status_field(worker, "NoNewPrivs") == "1"
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert int(status_field(worker, name), 16) == 0
        assert status_field(worker, "Uid").split() == [str(OWNER)] * 4, "not root, whoever asks"
        assert status_field(worker, "Gid").split() == [str(OWNER)] * 4
        assert os.stat(f"/proc/{worker}/environ").st_uid == 0, "not dumpable"
        assert pathlib.Path(f"/proc/{worker}/environ").read_bytes() == b""
        assert arguments(worker) == [b"tazpod-worker", b"open", os.fsencode(place.vault)]
        descriptors = {int(name): os.readlink(f"/proc/{worker}/fd/{name}") for name in os.listdir(f"/proc/{worker}/fd")}
        assert descriptors[0] == descriptors[1] == "/dev/null", "there is nowhere to unpack to"
    assert client.returncode == 0


def test_a_worker_that_dies_is_no_verdict(slow_vault, place):
    with verifying(place.vault) as (client, worker):
        os.kill(worker, signal.SIGKILL)
    assert client.returncode == 70 and b"is whole" not in client.said, client.said


def test_who_is_interrupted_leaves_no_worker(slow_vault, place):
    with verifying(place.vault) as (client, worker):
        client.send_signal(signal.SIGINT)
        client.wait(DEADLINE_S)
        # It stands still, so it does not end by itself: not after the derivation, not at once.
        until(lambda: not os.path.exists(f"/proc/{worker}"), "the worker's end")
    assert client.returncode != 0
