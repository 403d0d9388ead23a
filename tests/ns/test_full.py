"""No room: on disk at a save, in RAM at an unlock or while open. Nothing is lost, and it says so."""

import errno
import os
import signal

import pytest

from nsinit import PASSPHRASE, tree


def fill_up(path):
    """As much as there is room for, and then nothing more."""
    with open(path, "wb", buffering=0) as f, pytest.raises(OSError) as caught:
        while True:
            f.write(b"x" * 4096)
    assert caught.value.errno == errno.ENOSPC


def test_a_full_disk_fails_the_save_and_keeps_the_vault_open(start, make_place):
    place = make_place(work_size="1m")
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("small", b"small")
    pod.ok("save")
    whole = place.vault.read_bytes()
    place.write("large", os.urandom(2 << 20))
    content = tree(place.secrets)

    done = pod.tazpod("save")
    assert done.returncode == 74 and b"[disk-full]" in done.stderr, done.stderr
    assert place.vault.read_bytes() == whole
    assert not place.temporaries(), "a full disk is not left fuller"
    status = pod.status()
    assert status["state"] == "open" and status["problem"].startswith("disk-full")
    assert tree(place.secrets) == content

    done = pod.tazpod("lock")
    assert done.returncode == 74 and b"[disk-full]" in done.stderr, done.stderr
    assert pod.status()["state"] == "open", "a lock that could not save does not destroy"
    assert tree(place.secrets) == content

    (place.secrets / "large").unlink()
    pod.ok("lock")
    pod.unlock()
    assert (place.secrets / "small").read_bytes() == b"small"


def test_a_stop_with_a_full_disk_leaves_with_74_and_the_tree_in_ram(start, make_place):
    place = make_place(work_size="1m")
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("large", os.urandom(2 << 20))
    content = tree(place.secrets)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 74
    assert "disk-full" in pod.log()
    again = start(place=place).ready()
    (aside,) = place.run.glob(".stale-*")
    assert tree(aside) == content
    assert again.unlock().status()["state"] == "open"


def test_a_vault_that_does_not_fit_the_ram_is_refused_whole(start, make_place):
    roomy, narrow = make_place(), make_place(size="1m")
    pod = start(place=roomy).ready().create()
    for number in range(20):
        roomy.write(f"file-{number}", bytes(200_000))
    content = tree(roomy.secrets)
    pod.ok("lock")
    data = roomy.vault.read_bytes()

    narrow.vault.parent.mkdir(mode=0o700)
    narrow.vault.write_bytes(data)
    for path in (narrow.vault.parent, narrow.vault):
        os.chown(path, 1000, 1000)
    second = start(place=narrow).ready()
    done = second.tazpod("unlock", passphrase=PASSPHRASE)
    assert done.returncode == 74 and b"[no-room]" in done.stderr, done.stderr
    assert narrow.left_in_ram() == []
    assert second.status()["state"] == "locked"
    assert narrow.vault.read_bytes() == data
    pod.unlock()
    assert tree(roomy.secrets) == content


def test_full_ram_can_still_be_saved(start, make_place):
    place = make_place(size="4m")
    pod = start("sleep", "infinity", place=place).ready().create()
    fill_up(place.secrets / "all")
    os.chown(place.secrets / "all", 1000, 1000)
    content = tree(place.secrets)
    pod.ok("save")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert place.left_in_ram() == []
    start(place=place).ready().unlock()
    assert tree(place.secrets) == content
