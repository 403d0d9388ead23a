"""`tazpod restore`: an earlier generation becomes the newest, or is unpacked into a directory, whole or not at all."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest

from nsinit import DEADLINE_S, OWNER, PASSPHRASE, arguments, children, mount, programs, tree, umount, until, MS_NODEV, MS_NOSUID


@pytest.fixture
def pod(start, place):
    """Open; generation 1 is empty, 2 and 3 hold something, 4 is the newest and holds something else."""
    pod = start("sleep", "infinity", place=place).ready().create()
    (pod.secrets / "folder").mkdir()
    os.chown(pod.secrets / "folder", OWNER, OWNER)
    for n in (2, 3, 4):
        pod.write("note", f"generation {n}".encode())
        pod.write(f"folder/only-in-{n}", os.urandom(100_000), mode=0o640)
        pod.ok("save")
        (pod.secrets / f"folder/only-in-{n}").unlink()
    (pod.secrets / "folder" / "link").symlink_to("../note")
    pod.ok("save")
    return pod


def restore(pod, *words, **how):
    return pod.tazpod("restore", *map(str, words), passphrase=how.pop("passphrase", PASSPHRASE), **how)


def said(done, code, word=None):
    text = done.stderr.decode()
    assert done.returncode == code, done
    assert word is None or text.rstrip().endswith(f"[{word}]"), text
    return text


def note(pod):
    return (pod.secrets / "note").read_text()


def generations(pod):
    files = json.loads(pod.ok("history", "--json"))["files"]
    return [entry["generation"] for entry in files]


# ---- into the vault ----


def test_an_earlier_generation_becomes_the_newest_and_nothing_is_lost(pod):
    assert generations(pod) == [5, 4, 3, 2, 1]
    pod.write("note", b"not saved yet")
    text = said(restore(pod, 3), 0)
    assert "content of generation 3 is the newest now, as generation 7; the vault is open" in text
    assert note(pod) == "generation 3" and (pod.secrets / "folder" / "only-in-3").exists()
    assert pod.status()["state"] == "open" and pod.status()["generation"] == "7"
    assert generations(pod) == [7, 6, 5, 4, 3, 2]
    said(restore(pod, 6), 0)
    assert note(pod) == "not saved yet"


def test_a_save_after_it_goes_on_from_there(pod):
    said(restore(pod, 2), 0)
    pod.write("note", b"went on")
    pod.ok("lock")
    pod.unlock()
    assert note(pod) == "went on" and (pod.secrets / "folder" / "only-in-2").exists()


def test_a_locked_vault_stays_locked(pod):
    pod.ok("lock")
    assert "the vault is locked" in said(restore(pod, 3), 0)
    assert pod.status()["state"] == "locked"
    pod.unlock()
    assert note(pod) == "generation 3"


def test_a_generation_that_is_not_there_changes_nothing(pod, place):
    before = sorted(place.vault.parent.iterdir()), place.vault.read_bytes()
    for number in (5, 9, 0, 18446744073709551615):
        said(restore(pod, number), 66, "no-generation")
    assert "newest already" in said(restore(pod, 5), 66)
    assert (sorted(place.vault.parent.iterdir()), place.vault.read_bytes()) == before
    assert pod.status()["state"] == "open"


def test_a_wrong_passphrase_leaves_the_vault_open(pod, place):
    pod.write("note", b"not saved yet")
    before = place.vault.read_bytes()
    said(restore(pod, 3, passphrase=b"another"), 77, "wrong-passphrase")
    assert pod.status()["state"] == "open" and note(pod) == "not saved yet"
    assert place.vault.read_bytes() == before


def test_a_damaged_generation_leaves_the_vault_open_as_it_was(pod, place):
    path = pathlib.Path(f"{place.vault}.2")
    data = path.read_bytes()
    path.write_bytes(data[:-500] + bytes([data[-500] ^ 1]) + data[-499:])
    pod.write("note", b"not saved yet")
    text = said(restore(pod, 3), 65, "damaged-body")
    assert "open again as it was" in text
    assert pod.status()["state"] == "open" and note(pod) == "not saved yet"
    assert not place.temporaries()
    said(restore(pod, 2), 0)  # a whole one
    assert note(pod) == "generation 2"


def test_a_vault_whose_body_is_damaged_is_left_behind(pod, place):
    """What one would restore for, with the vault locked."""
    pod.ok("lock")
    data = place.vault.read_bytes()
    place.vault.write_bytes(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:])
    said(pod.tazpod("unlock", passphrase=PASSPHRASE), 65, "damaged-body")
    said(restore(pod, 4), 0)
    pod.unlock()
    assert note(pod) == "generation 4"


def test_who_holds_the_vault_is_named_and_force_ends_him(pod, place):
    holder = subprocess.Popen(["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid", str(OWNER), "--regid",
                               str(OWNER), "--clear-groups", "sh", "-c", f"exec 3< {place.secrets}/note; echo held; exec sleep 1000"],
                              stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"held\n"
        assert "sleep" in said(restore(pod, 3), 75, "held")
        assert pod.status()["state"] == "open" and note(pod) == "generation 4"
        said(restore(pod, 3, "--force"), 0)
        assert note(pod) == "generation 3"
        assert holder.wait(DEADLINE_S) is not None
    finally:
        holder.kill()
        holder.wait()


def test_whoever_asks_is_not_in_his_own_way(pod, place):
    """He stands in the vault, and his standard input is in it: an unmount would be held up by that."""
    (pod.secrets / "passphrase").write_bytes(PASSPHRASE)
    os.chown(pod.secrets / "passphrase", OWNER, OWNER)
    _, keywords = pod.command("restore")
    asking = subprocess.Popen(["setpriv", "--reuid", str(OWNER), "--regid", str(OWNER), "--clear-groups", "sh", "-c",
                               f"cd {place.secrets} && exec \"$@\" < note 5< note", "sh", str(programs() / "tazpod"), "restore", "3",
                               "--passphrase-file", "passphrase"], env=keywords["env"], stderr=subprocess.PIPE)
    rewriter = pod.stop_worker("rewrite")
    held = {os.readlink(path) for path in (f"/proc/{asking.pid}/cwd", *pathlib.Path(f"/proc/{asking.pid}/fd").iterdir())}
    os.kill(rewriter, signal.SIGCONT)
    text = asking.communicate(timeout=DEADLINE_S)[1]
    assert asking.returncode == 0, text
    assert "/" in held and not [name for name in held if str(place.run) in name], held
    assert note(pod) == "generation 3"


# ---- into a directory ----


@pytest.fixture
def ram(place):
    """An empty directory of the owner's, on a tmpfs of its own."""
    folder = place.top / "ram"
    folder.mkdir()
    mount("tmpfs", folder, "tmpfs", MS_NOSUID | MS_NODEV, f"size=16m,mode=0700,uid={OWNER},gid={OWNER}")
    yield folder
    umount(folder)


def to(place, *words, uid=OWNER, passphrase=PASSPHRASE, stop=None, **how):
    """Without a pod: the vault is named by the variable."""
    argv = [str(programs() / "tazpod"), "restore", *map(str, words), "--passphrase-fd", "0"]
    if uid:
        how.update(user=uid, group=uid, extra_groups=())
    return subprocess.run(argv, input=passphrase, capture_output=True, timeout=DEADLINE_S,
                          env={"PATH": "/usr/bin:/bin", "TAZPOD_RUN_DIR": "/nowhere", "TAZPOD_VAULT": str(place.vault)}, **how)


def test_a_generation_is_unpacked_whole_and_the_vault_is_not_touched(pod, place, ram):
    pod.ok("lock")
    before = {path.name: path.read_bytes() for path in place.vault.parent.iterdir()}
    text = said(to(place, 3, "--to", ram), 0)
    assert re.search(rf"generation 3 is in {ram}: 2 files", text), text
    found = tree(ram)
    assert sorted(found) == ["folder", "folder/only-in-3", "note"]
    assert found["note"][3] == b"generation 3" and found["folder/only-in-3"][1] == 0o640
    assert (ram / "note").stat().st_uid == OWNER
    assert {path.name: path.read_bytes() for path in place.vault.parent.iterdir()} == before


def test_the_newest_one_and_a_copy_can_be_unpacked_too(pod, place, ram):
    shutil.copyfile(f"{place.vault}.2", f"{place.vault}.conflict-3")
    pathlib.Path(f"{place.vault}.2").unlink()
    os.chown(f"{place.vault}.conflict-3", OWNER, OWNER)
    said(to(place, 5, f"--to={ram}"), 0)
    assert (ram / "folder" / "link").readlink() == pathlib.Path("../note")
    shutil.rmtree(ram / "folder")
    (ram / "note").unlink()
    said(to(place, 3, "--to", ram), 0)
    assert (ram / "note").read_bytes() == b"generation 3"


def test_folders_that_nobody_may_write_come_back_as_they_were(pod, place, ram):
    sealed = pod.secrets / "sealed"
    sealed.mkdir(mode=0o700)
    os.chown(sealed, OWNER, OWNER)
    pod.write("sealed/inside", b"x")
    os.utime(sealed, (10 ** 9, 10 ** 9))
    sealed.chmod(0o500)
    pod.ok("save")
    said(to(place, 6, "--to", ram), 0)
    assert (ram / "sealed").stat().st_mode & 0o7777 == 0o500
    assert (ram / "sealed").stat().st_mtime == 10 ** 9
    assert (ram / "sealed" / "inside").read_bytes() == b"x"


@pytest.mark.parametrize("uid", [0, OWNER], ids=["roots", "owners"])
def test_root_unpacks_for_whom_the_directory_is(pod, place, ram, uid):
    os.chown(ram, uid, uid)
    said(to(place, 3, "--to", ram, uid=0), 0)
    assert {path.lstat().st_uid for path in ram.rglob("*")} == {uid}


def test_only_an_empty_directory_in_ram_is_taken(pod, place, ram):
    disk = place.work / "disk"
    disk.mkdir()
    os.chown(disk, OWNER, OWNER)
    said(to(place, 3, "--to", disk), 69, "not-ram")
    assert not list(disk.iterdir())
    said(to(place, 3, "--to", disk, "--force-disk"), 0)
    assert (disk / "note").read_bytes() == b"generation 3"
    said(to(place, 3, "--to", disk, "--force-disk"), 73, "exists")
    assert (disk / "note").read_bytes() == b"generation 3"
    said(to(place, 3, "--to", place.work / "nowhere"), 74, "io")
    (place.work / "file").write_bytes(b"")
    said(to(place, 3, "--to", place.work / "file"), 74, "io")
    said(to(place, 9, "--to", ram), 66, "no-generation")
    for words in (("3", "--force-disk"), ("3", "--to", ram, "--force"), ("three",), (), ("3", "--to"), ("3", "--nothing"), ("3x",)):
        assert to(place, *words).returncode == 64, words
    assert not list(ram.iterdir())


def test_what_can_not_be_unpacked_leaves_nothing(pod, place, ram):
    said(to(place, 3, "--to", ram, passphrase=b"another"), 77, "wrong-passphrase")
    assert not list(ram.iterdir())
    path = pathlib.Path(f"{place.vault}.2")
    data = path.read_bytes()
    path.write_bytes(data[:-500] + bytes([data[-500] ^ 1]) + data[-499:])
    said(to(place, 3, "--to", ram), 65, "damaged-body")
    assert not list(ram.iterdir())
    said(to(place, 4, "--to", ram), 0)  # a whole one


def test_what_does_not_fit_leaves_nothing(pod, place, ram):
    pod.write("large", os.urandom(20_000_000))
    pod.ok("save")
    said(to(place, 6, "--to", ram), 74, "no-room")
    assert not list(ram.iterdir())
    assert os.statvfs(ram).f_bfree == os.statvfs(ram).f_blocks


def start_to(place, *words):
    """With its worker stopped in the middle: (process, {kind: pid})."""
    argv = [str(programs() / "tazpod"), "restore", *map(str, words), "--passphrase-fd", "0"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, user=OWNER, group=OWNER,
                               extra_groups=(), env={"TAZPOD_RUN_DIR": "/nowhere", "TAZPOD_VAULT": str(place.vault)})
    process.stdin.write(PASSPHRASE)
    process.stdin.close()

    def workers():
        return {arguments(pid)[1].decode(): pid for pid in children(process.pid)
                if len(arguments(pid)) == 3 and arguments(pid)[0] == b"tazpod-worker"}

    end = time.monotonic() + DEADLINE_S
    while not {"open", "unpack"} <= set(found := workers()):
        assert time.monotonic() < end
    for pid in found.values():
        os.kill(pid, signal.SIGSTOP)
    return process, found


@pytest.mark.parametrize("how", ["SIGTERM", "SIGHUP", "SIGINT-to-all", "unpacker-killed", "opener-killed"])
def test_whoever_is_ended_leaves_nothing(start, place, ram, how):
    pod = start("sleep", "infinity", place=place).ready()
    # A derivation that takes its time: the workers are caught in it.
    pod.ok("unlock", "--create", "--kdf-memory", "64M", "--kdf-time", "16", passphrase=PASSPHRASE)
    pod.write("note", b"a secret")
    pod.ok("save")
    process, workers = start_to(place, 2, "--to", ram)
    if how == "unpacker-killed":
        os.kill(workers["unpack"], signal.SIGKILL)
        os.kill(workers["open"], signal.SIGCONT)
    elif how == "opener-killed":
        os.kill(workers["open"], signal.SIGKILL)
        os.kill(workers["unpack"], signal.SIGCONT)
    elif how == "SIGINT-to-all":
        os.killpg(process.pid, signal.SIGINT)
        for pid in workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    else:
        process.send_signal(getattr(signal, how))
    process.wait(DEADLINE_S)
    text = process.stderr.read().decode()
    process.stderr.close()
    assert process.returncode not in (0, None), text
    assert not list(ram.iterdir()), text
    assert not any(pathlib.Path(f"/proc/{pid}").exists() for pid in workers.values())


# ---- when the vault itself can't be read ----

DAMAGE = {
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "another file": lambda path: path.write_bytes(b"not a vault at all" * 100),
    "its header is damaged": lambda path: flip(path, 40),
    "its header was altered": lambda path: flip(path, -1, header=True),
    "its body is damaged": lambda path: flip(path, -40),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-30]),
}


def flip(path, at, header=False):
    data = bytearray(path.read_bytes())
    data[(112 + 200 * data[14] + 48 if header else len(data) if at < 0 else 0) + at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("how", DAMAGE)
def test_an_earlier_generation_takes_the_place_of_a_vault_that_can_not_be_read(start, place, how):
    pod = start("sleep", "infinity", place=place).ready().create()
    for word in (b"first", b"second", b"third"):
        place.write("key", word)
        pod.ok("save")
    pod.ok("lock")
    DAMAGE[how](place.vault)
    found = place.vault.read_bytes() if place.vault.exists() else None
    assert pod.tazpod("unlock", passphrase=PASSPHRASE).returncode in (65, 66)
    assert pod.tazpod("restore", "3", passphrase=b"wrong").returncode == 77
    pod.ok("restore", "3", passphrase=PASSPHRASE)
    pod.ok("unlock", passphrase=PASSPHRASE)
    assert (pod.secrets / "key").read_bytes() == b"second"
    place.write("key", b"fourth")
    pod.ok("save")
    if found is not None:
        assert found in [path.read_bytes() for path in place.vault.parent.glob("vault.tpv.[0-9]*")], "it is kept"


def test_a_vault_of_a_newer_version_is_not_replaced(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"first")
    pod.ok("lock")
    data = bytearray(place.vault.read_bytes())
    data[8] = 2
    place.vault.write_bytes(data)
    assert pod.tazpod("restore", "1", passphrase=PASSPHRASE).returncode == 76
    assert place.vault.read_bytes() == data
