"""Whose the vault is: process 1's own uid, or, where that is root, the owner's."""

import os
import signal

import pytest

from nsinit import PASSPHRASE, status_field, umount, until


def story(pod, place, **how):
    """Create, write, stop: returns what is on disk."""
    pod.ok("unlock", "--create", "--kdf-memory", "8M", "--kdf-time", "1", passphrase=PASSPHRASE, **how)
    assert place.secrets.stat().st_uid == 1000
    assert place.secrets.stat().st_mode & 0o7777 == 0o700
    place.write("key", b"a secret")
    pod.ok("save", **how)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0
    info = place.vault.stat()
    assert (info.st_uid, info.st_gid, info.st_mode & 0o7777) == (1000, 1000, 0o600)
    assert place.vault.parent.stat().st_mode & 0o7777 == 0o700


def test_an_ordinary_user_without_a_capability(start, place):
    pod = start(place=place, uid=1000).ready()
    assert status_field(pod.pid, "Uid").split() == ["1000"] * 4
    for key in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
        assert int(status_field(pod.pid, key), 16) == 0
    story(pod, place)


@pytest.mark.parametrize("seen_as", ["owner", "root"])
def test_an_ordinary_user_in_a_user_namespace_of_its_own(start, place, seen_as):
    """Where nobody but uid 0 exists inside, the vault is uid 0's: outside it is the user's."""
    pod = start(place=place, uid=1000, user_namespace=seen_as).ready()
    assert os.readlink(f"/proc/{pod.pid}/ns/user") != os.readlink("/proc/self/ns/user")
    assert status_field(pod.pid, "NSpid").split()[-1] == "1"
    story(pod, place, inside=False)


def test_root_with_an_owner_by_option(start, place):
    pod = start(place=place, uid=0, options=("--owner", "1000")).ready()
    assert status_field(pod.pid, "Uid").split() == ["0"] * 4
    story(pod, place)


def test_root_with_an_owner_by_environment(start, place):
    pod = start(place=place, uid=0, env={"TAZPOD_OWNER": "1000"}).ready()
    story(pod, place)


def test_an_owner_may_use_the_vault_of_a_root_process_1(start, place):
    pod = start(place=place, uid=0, options=("--owner", "1000")).ready()
    story(pod, place, uid=1000)


def test_the_owner_is_never_root(start, make_place):
    place = make_place(owner=0)
    pod = start(place=place, uid=0, options=("--owner", "0"))
    assert pod.wait() == 64
    assert not place.socket.exists()


def test_a_main_command_under_a_root_process_1_stays_root(start, place):
    """Dropping is the vault's matter; who runs the main command is the user's."""
    pod = start("sh", "-c", "id -u", place=place, uid=0, options=("--owner", "1000"))
    assert pod.wait() == 0
    assert pod.out().split() == ["0"]


# ---- the run directory ----


def test_a_run_directory_that_is_too_open_is_closed(start, make_place):
    """Docker brings `mode=0700` back as 0755 when a container is started again."""
    place = make_place(run_mode="0755")
    pod = start(place=place).ready()
    assert place.run.stat().st_mode & 0o7777 == 0o700
    assert place.socket.stat().st_mode & 0o7777 == 0o600
    story(pod, place)


@pytest.mark.parametrize("uid", [0, 1000], ids=["root", "owner"])
def test_a_run_directory_that_is_not_ram_is_refused(start, place, uid):
    umount(place.run)
    os.chown(place.run, 1000, 1000)
    place.run.chmod(0o700)
    pod = start("sleep", "infinity", place=place, uid=uid)
    until(lambda: "not-ram" in pod.log(), "a word about it")
    done = pod.tazpod("unlock", "--create", "--kdf-memory", "8M", "--kdf-time", "1", passphrase=PASSPHRASE)
    assert done.returncode == 69, done.stderr
    assert not place.secrets.exists() and not place.vault.exists()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM, "without a usable place it is still a good init"


def test_somebody_elses_run_directory_is_refused(start, make_place):
    place = make_place(run_owner=1001, run_mode="0777")
    pod = start("sleep", "infinity", place=place, uid=1000)
    until(lambda: "bad-run-dir" in pod.log(), "a word about it")
    done = pod.tazpod("unlock", "--create", "--kdf-memory", "8M", "--kdf-time", "1", passphrase=PASSPHRASE)
    assert done.returncode == 69, done.stderr
    assert not place.secrets.exists() and not place.vault.exists()
