"""Clear text that a killed process 1 left in RAM: put aside by the next one, never served or lost."""

import os
import signal
import subprocess

import pytest

from nsinit import PASSPHRASE, tree, until

BOTH = pytest.mark.parametrize("uid", [0, 1000], ids=["root", "owner"])


def fill(place):
    place.write("key", b"saved and then changed", 0o640)
    (place.secrets / "folder").mkdir(mode=0o750)
    (place.secrets / "folder" / "deep").write_bytes(os.urandom(100_000))
    (place.secrets / "folder" / "read-only").write_bytes(b"r")
    (place.secrets / "folder" / "read-only").chmod(0o400)
    (place.secrets / "link").symlink_to("folder/deep")
    (place.secrets / "empty").mkdir(mode=0o700)
    for path in [*place.secrets.rglob("*")]:
        os.chown(path, 1000, 1000, follow_symlinks=False)


def stale_trees(place):
    return sorted(place.run.glob(".stale-*"))


def killed(start, place, uid=1000):
    """A pod with an open vault, a saved and an unsaved file, and a KILL. Returns the tree as it was."""
    pod = start("sleep", "infinity", place=place, uid=uid).ready()
    pod.unlock() if place.vault.exists() else pod.create()
    place.write("saved", b"on disk")
    pod.ok("save")
    fill(place)
    before = tree(place.secrets)
    pod.signal(signal.SIGKILL)
    assert pod.wait() == -signal.SIGKILL
    return before


@BOTH
def test_a_stale_tree_is_put_aside_whole_and_closed_to_all(start, place, uid):
    before = killed(start, place, uid)
    pod = start(place=place, uid=uid).ready()
    assert not place.secrets.exists(), "it is not served"
    (aside,) = stale_trees(place)
    assert aside.stat().st_mode & 0o7777 == 0
    # Root gets past the mode 0, as the rescue of a person would; the owner's programs do not.
    assert tree(aside) == before
    assert tree(aside)["folder/deep"][3] != b"", "content, not only names"
    assert pod.status()["state"] == "locked"


@BOTH
def test_log_status_and_the_next_unlock_say_that_there_is_one(start, place, uid):
    killed(start, place, uid)
    pod = start(place=place, uid=uid).ready()
    (aside,) = stale_trees(place)
    assert any(line.startswith("tazpod-init: stale") and aside.name in line for line in pod.log().splitlines()), pod.log()
    assert "stale" in pod.status()
    done = pod.tazpod("unlock", passphrase=PASSPHRASE)
    assert done.returncode == 0
    assert ".stale-" in done.stderr.decode(), done.stderr.decode()


def test_the_next_unlock_shows_what_was_saved_and_leaves_the_tree_aside(start, place):
    before = killed(start, place)
    pod = start(place=place).ready().unlock()
    assert {path.name for path in place.secrets.iterdir()} == {"saved"}
    place.write("new", b"new")
    pod.ok("save")
    pod.ok("lock")
    pod.unlock()
    assert {path.name for path in place.secrets.iterdir()} == {"saved", "new"}
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0
    (aside,) = stale_trees(place)
    assert tree(aside) == before, "neither served, saved over, replaced nor wiped"


def test_without_a_new_save_the_vault_file_is_untouched(start, place):
    killed(start, place)
    saved = place.vault.read_bytes()
    pod = start(place=place).ready()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0
    assert place.vault.read_bytes() == saved


def test_every_kill_gives_a_tree_of_its_own(start, place):
    befores = [killed(start, place), killed(start, place), killed(start, place)]
    pod = start(place=place).ready()
    trees = [tree(path) for path in stale_trees(place)]
    assert len(trees) == 3
    assert all(before in trees for before in befores)
    assert pod.status()["stale"].split()[0] == "3"


def test_a_kill_while_the_vault_is_unpacked_leaves_nothing_half_shown(start, make_place):
    """What is in staging is on disk as well, and is thrown away."""
    place = make_place(size="256m")
    pod = start("sleep", "infinity", place=place).ready().create()
    for number in range(8):
        place.write(f"big-{number}", os.urandom(4 << 20))
    content = tree(place.secrets)
    pod.ok("lock")
    words, keywords = pod.command("unlock", "--passphrase-fd", "0")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, **keywords) as client:
        client.stdin.write(PASSPHRASE)
        client.stdin.close()
        until(lambda: any(place.run.glob(".staging/*")), "a first file unpacked")
        pod.signal(signal.SIGKILL)
        pod.wait()
    assert not place.secrets.exists()
    again = start(place=place).ready()
    assert not (place.run / ".staging").exists()
    assert not stale_trees(place)
    again.unlock()
    assert tree(place.secrets) == content


def test_an_empty_secrets_folder_is_not_a_stale_tree_worth_a_word(start, place):
    """Nothing was in it, so nothing can be lost: it must not stand in the way of an unlock."""
    pod = start("sleep", "infinity", place=place).ready().create()
    pod.signal(signal.SIGKILL)
    pod.wait()
    start(place=place).ready().unlock()


@BOTH
@pytest.mark.parametrize("when", ["at-start", "at-unlock"])
def test_a_link_in_the_vaults_place_harms_nothing_that_it_points_to(start, place, uid, when):
    """The owner can put one there; process 1 may be root, and must not act on its target."""
    victim = place.top / "victim"
    victim.mkdir()
    (victim / "file").write_bytes(b"not ours")
    victim.chmod(0o755)
    if when == "at-unlock":
        pod = start("sleep", "infinity", place=place, uid=uid).ready().create()
        pod.ok("lock")
    os.symlink(victim, place.secrets)
    if when == "at-start":
        pod = start("sleep", "infinity", place=place, uid=uid).ready().create()
    else:
        pod.tazpod("unlock", passphrase=PASSPHRASE)
    assert victim.stat().st_mode & 0o7777 == 0o755
    assert victim.stat().st_uid == 0
    assert (victim / "file").read_bytes() == b"not ours"
    assert not place.secrets.is_symlink(), "it is not served"
    pod.ok("lock")
    assert (victim / "file").read_bytes() == b"not ours"


@BOTH
def test_a_file_in_the_vaults_place_is_put_aside_like_a_tree(start, place, uid):
    place.secrets.write_bytes(b"somebody's clear text")
    os.chown(place.secrets, 1000, 1000)
    pod = start(place=place, uid=uid).ready().create()
    (aside,) = stale_trees(place)
    assert aside.read_bytes() == b"somebody's clear text"
    assert aside.stat().st_mode & 0o7777 == 0
    assert "stale" in pod.status()
