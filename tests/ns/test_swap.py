"""Whether clear text may reach a swap device: what status, log and banner say, and what is refused.

The machine's swap and the container's limit are files that the workers read in the pod's own mount
namespace, so a test lays others over them there. What a swap device really gets to see is for a
machine of its own.
"""

import json
import os
import signal
import subprocess

import pytest

from nsinit import (CHEAP, DEADLINE_S, MS_NODEV, MS_NOSUID, OWNER, PASSPHRASE, mount, umount)

HEADING = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
A_DEVICE = "/dev/dm-1                               partition\t2097148\t\t0\t\t-2\n"
NO_LIMIT = 9223372036854771712

NONE, ONE, TWO = HEADING, HEADING + A_DEVICE, HEADING + 2 * A_DEVICE
WORDS = {
    "noswap": "noswap",
    "none": "no: the machine has none",
    "denied": "no: the container may use none",
    "swappable": "swappable: clear text may reach a swap device",
}


def lay_over(pod, source, target):
    """In the pod's mount namespace, as root of the machine."""
    subprocess.run(["nsenter", "--target", str(pod.pid), "--mount", "--", "mount", "--bind", source, target],
                   check=True, timeout=DEADLINE_S)


def with_swap(pod, swaps):
    path = pod.place.top / "swaps"
    path.write_text(swaps)
    lay_over(pod, path, "/proc/swaps")
    return pod


def with_cgroup(pod, files):
    """{name in /sys/fs/cgroup: content}"""
    top = pod.place.top / "cgroup"
    for name, content in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"{content}\n")
    top.chmod(0o755)
    lay_over(pod, top, "/sys/fs/cgroup")
    return pod


def mounted_as(place, kind, data, flags=MS_NOSUID | MS_NODEV):
    umount(place.run)
    mount(kind, place.run, kind, flags, data)
    if kind == "ramfs":
        os.chown(place.run, OWNER, OWNER)


def swap_of(pod):
    """Status for people, status for programs and log say the same; the banner speaks if it must."""
    words = pod.status()["swap"]
    word = json.loads(pod.ok("status", "--json"))["ram"]["swap"]
    assert WORDS[word] == words
    (logged,) = {part for line in pod.log().splitlines() if line.split()[1] in ("create", "unlock")
                 for part in line.split() if part.startswith("swap=")}
    assert logged == ("swap=swappable" if word == "swappable" else "swap=no")
    return word


def unlocks(pod):
    """What `unlock` says, on a pod that may have no vault yet."""
    words = ["unlock"] if pod.place.vault.exists() else ["unlock", "--create", *CHEAP]
    return pod.tazpod(*words, passphrase=PASSPHRASE)


def opens(pod):
    done = unlocks(pod)
    assert done.returncode == 0, done.stderr
    return done.stderr.decode()


# ---- the words ----


MOUNTS = {
    "a-tmpfs": ("tmpfs", "size=64m,mode=0700,uid=1000,gid=1000", "swappable"),
    "a-tmpfs-with-noswap": ("tmpfs", "size=64m,mode=0700,uid=1000,gid=1000,noswap", "noswap"),
    "a-ramfs": ("ramfs", "mode=0700", "noswap"),
}


@pytest.mark.parametrize("how", ["create", "unlock"])
@pytest.mark.parametrize("kind, data, word", MOUNTS.values(), ids=MOUNTS)
def test_on_a_machine_with_swap_it_depends_on_the_mount(start, place, kind, data, word, how):
    mounted_as(place, kind, data)
    pod = with_swap(start("sleep", "infinity", place=place).ready(), ONE)
    if how == "unlock":
        pod.create()
        pod.ok("lock")
    said = opens(pod)
    assert swap_of(pod) == word
    assert ("swappable" in said) == (word == "swappable"), said


@pytest.mark.parametrize("kind, data", [how[:2] for how in MOUNTS.values()], ids=MOUNTS)
def test_on_a_machine_without_swap_nothing_is_swappable(start, place, kind, data):
    mounted_as(place, kind, data)
    pod = with_swap(start("sleep", "infinity", place=place).ready(), NONE)
    said = opens(pod)
    assert swap_of(pod) == ("noswap" if "noswap" in data or kind == "ramfs" else "none")
    assert "swap" not in said


def test_two_devices_are_swap_too(start, place):
    pod = with_swap(start("sleep", "infinity", place=place).ready(), TWO)
    opens(pod)
    assert swap_of(pod) == "swappable"


@pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
def test_a_mount_of_its_own_has_noswap_whatever_the_machine_has(start, place, uid):
    """It is in no mount table while the workers look: process 1 must tell them."""
    pod = with_swap(start("sleep", "infinity", place=place, uid=uid, may_mount=True).ready(), ONE)
    said = opens(pod)
    assert swap_of(pod) == "noswap"
    pod.ok("lock")
    said += opens(pod)
    assert swap_of(pod) == "noswap"
    assert "swappable" not in said


def test_a_mount_of_its_own_without_noswap_is_not_taken_for_one(start, place):
    """In a user namespace the kernel refuses noswap; the run directory has it, the mount has not."""
    mounted_as(place, "tmpfs", "size=64m,mode=0700,uid=1000,gid=1000,noswap")
    pod = start("sleep", "infinity", place=place, user_namespace="root", may_mount=True).ready()
    with_swap(pod, ONE)
    done = pod.tazpod("unlock", "--create", *CHEAP, passphrase=PASSPHRASE, inside=False)
    assert done.returncode == 0, done.stderr
    status = pod.status(inside=False)
    assert (status["ram"], status["swap"]) == ("own", WORDS["swappable"])
    assert b"swappable" in done.stderr


CGROUPS = {
    "version-2-none": ({"memory.max": 1 << 28, "memory.swap.max": 0}, "denied"),
    "version-2-none-without-a-limit": ({"memory.max": "max", "memory.swap.max": 0}, "denied"),
    "version-2-some": ({"memory.max": 1 << 28, "memory.swap.max": 1 << 28}, "swappable"),
    "version-2-as-much-as-it-likes": ({"memory.max": 1 << 28, "memory.swap.max": "max"}, "swappable"),
    "version-1-both-limits-the-same": ({"memory/memory.limit_in_bytes": 1 << 28,
                                        "memory/memory.memsw.limit_in_bytes": 1 << 28}, "denied"),
    "version-1-more-with-swap": ({"memory/memory.limit_in_bytes": 1 << 28,
                                  "memory/memory.memsw.limit_in_bytes": 1 << 29}, "swappable"),
    "version-1-no-limits": ({"memory/memory.limit_in_bytes": NO_LIMIT,
                             "memory/memory.memsw.limit_in_bytes": NO_LIMIT}, "swappable"),
    "version-1-without-swap-accounting": ({"memory/memory.limit_in_bytes": 1 << 28}, "swappable"),
    "nothing-to-be-read": ({}, "swappable"),
}


@pytest.mark.parametrize("files, word", CGROUPS.values(), ids=CGROUPS)
def test_a_container_that_may_use_no_swap_is_told_from_one_that_may(start, place, files, word):
    (place.top / "cgroup").mkdir()
    pod = with_cgroup(with_swap(start("sleep", "infinity", place=place).ready(), ONE), files)
    opens(pod)
    assert swap_of(pod) == word


NOT_NOSWAP = {
    "a-name-that-only-begins-like-it": "noswap-not",
    "a-path-with-the-word-in-it": "run,noswap",
}


@pytest.mark.parametrize("name", NOT_NOSWAP.values(), ids=NOT_NOSWAP)
def test_the_word_in_the_name_of_a_mount_is_not_the_option(start, place, name):
    """The table of mounts shows path and source as they are, commas and all."""
    umount(place.run)
    place.run = place.top / name
    place.run.mkdir()
    place.secrets, place.socket = place.run / "secrets", place.run / "control.sock"
    mount("x noswap,noswap", place.run, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=0700,uid=1000,gid=1000")
    pod = with_swap(start("sleep", "infinity", place=place).ready(), ONE)
    opens(pod)
    assert swap_of(pod) == "swappable"


def test_a_mount_beneath_with_noswap_does_not_count(start, place):
    """Two mounts at the same place: it is the upper one that holds the clear text."""
    mounted_as(place, "tmpfs", "size=1m,mode=0700,uid=1000,gid=1000,noswap")
    mount("tmpfs", place.run, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=0700,uid=1000,gid=1000")
    try:
        pod = with_swap(start("sleep", "infinity", place=place).ready(), ONE)
        opens(pod)
        assert swap_of(pod) == "swappable"
    finally:
        umount(place.run)


def test_it_is_looked_at_anew_by_every_unlock_and_not_known_before_the_first(start, place):
    pod = with_swap(start("sleep", "infinity", place=place).ready(), NONE)
    assert "swap" not in pod.status()
    assert json.loads(pod.ok("status", "--json"))["ram"]["swap"] == "unknown"
    opens(pod)
    assert pod.status()["swap"] == WORDS["none"]
    pod.ok("lock")
    assert pod.status()["swap"] == WORDS["none"], "of the last unlock"
    with_swap(pod, ONE)
    assert "swappable" in opens(pod)
    assert pod.status()["swap"] == WORDS["swappable"]


# ---- required ----


REQUIRED = {
    "option": {"options": ("--require-noswap", "yes")},
    "option-in-one-word": {"options": ("--require-noswap=yes",)},
    "variable": {"env": {"TAZPOD_REQUIRE_NOSWAP": "yes"}},
    "variable-that-the-option-can-not-unset": {"env": {"TAZPOD_REQUIRE_NOSWAP": "yes"},
                                               "options": ("--require-noswap", "no")},
    "option-that-a-later-one-can-not-unset": {"options": ("--require-noswap", "yes", "--require-noswap", "no")},
    "option-that-the-variable-does-not-unset": {"env": {"TAZPOD_REQUIRE_NOSWAP": "no"},
                                                "options": ("--require-noswap", "yes")},
}
BOTH = pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])


@BOTH
@pytest.mark.parametrize("how", REQUIRED.values(), ids=REQUIRED)
def test_required_a_swappable_tmpfs_gets_no_new_vault(start, place, uid, how):
    pod = with_swap(start("sleep", "infinity", place=place, uid=uid, **how).ready(), ONE)
    done = unlocks(pod)
    assert done.returncode == 69 and b"[swappable]" in done.stderr, done.stderr
    assert not place.vault.exists() and not place.temporaries()
    assert place.left_in_ram() == []
    assert pod.status()["state"] == "locked"
    assert any("error=swappable" in line for line in pod.log().splitlines()), pod.log()


@BOTH
@pytest.mark.parametrize("how", REQUIRED.values(), ids=REQUIRED)
def test_required_a_swappable_tmpfs_is_not_unlocked_into(start, place, uid, how):
    first = start("sleep", "infinity", place=place, uid=uid).ready().create()
    place.write("key", b"a canary that no swap device may see")
    first.signal(signal.SIGTERM)
    first.wait()
    before = place.vault.read_bytes()

    pod = with_swap(start("sleep", "infinity", place=place, uid=uid, **how).ready(), ONE)
    done = unlocks(pod)
    assert done.returncode == 69 and b"[swappable]" in done.stderr, done.stderr
    assert b"SYS_ADMIN" in done.stderr, "what may help"
    assert place.left_in_ram() == []
    assert place.vault.read_bytes() == before
    assert pod.status()["state"] == "locked"
    # Not a verdict for good: once the machine has no swap it opens.
    with_swap(pod, NONE)
    opens(pod)
    assert (place.secrets / "key").read_bytes() == b"a canary that no swap device may see"


@BOTH
def test_required_nothing_is_unpacked_before_the_refusal(start, place, uid):
    """Not even for a moment: the unpacker, asked first, must not write a byte."""
    first = start("sleep", "infinity", place=place, uid=uid).ready().create()
    place.write("key", os.urandom(8 << 20))
    first.signal(signal.SIGTERM)
    first.wait()
    pod = with_swap(start("sleep", "infinity", place=place, uid=uid, options=("--require-noswap", "yes")).ready(), ONE)
    free = os.statvfs(place.run).f_bavail
    least = free
    words, keywords = pod.command("unlock", "--passphrase-fd", "0")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, **keywords) as client:
        client.stdin.write(PASSPHRASE)
        client.stdin.close()
        while client.poll() is None:
            least = min(least, os.statvfs(place.run).f_bavail)
    assert client.returncode == 69
    assert free - least < 16, f"{free - least} pages were in use for a time"


GOOD = {
    "noswap": {"data": "size=64m,mode=0700,uid=1000,gid=1000,noswap"},
    "own": {"may_mount": True},
    "no-swap-here": {"swaps": NONE},
    "no-swap-for-the-container": {"cgroup": {"memory.max": 1 << 28, "memory.swap.max": 0}},
}


@pytest.mark.parametrize("good", GOOD.values(), ids=GOOD)
def test_required_what_can_not_be_swapped_is_opened(start, place, good):
    if "data" in good:
        mounted_as(place, "tmpfs", good["data"])
    pod = start("sleep", "infinity", place=place, options=("--require-noswap", "yes"),
                may_mount=good.get("may_mount", False)).ready()
    with_swap(pod, good.get("swaps", ONE))
    if "cgroup" in good:
        (place.top / "cgroup").mkdir()
        with_cgroup(pod, good["cgroup"])
    opens(pod)
    pod.write("key", b"a secret")
    pod.ok("lock")
    opens(pod)
    assert (pod.secrets / "key").read_bytes() == b"a secret"


def test_required_in_a_user_namespace_its_own_mount_without_noswap_is_refused(start, place):
    pod = start("sleep", "infinity", place=place, user_namespace="root", may_mount=True,
                options=("--require-noswap", "yes")).ready()
    with_swap(pod, ONE)
    done = pod.tazpod("unlock", "--create", *CHEAP, passphrase=PASSPHRASE, inside=False)
    assert done.returncode == 69 and b"[swappable]" in done.stderr, done.stderr
    assert not pod.secrets.exists() and not place.vault.exists()
    assert place.left_in_ram() == []


def test_required_an_open_vault_can_still_be_saved_locked_and_stopped(start, place):
    """Swap that comes later is no reason to lose anything."""
    pod = with_swap(start("sleep", "infinity", place=place, options=("--require-noswap", "yes")).ready(), NONE)
    opens(pod)
    place.write("key", b"a secret")
    with_swap(pod, ONE)
    pod.ok("save")
    place.write("more", b"more")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert place.left_in_ram() == []
    start(place=place).ready().unlock()
    assert {path.name for path in place.secrets.iterdir()} == {"key", "more"}


def test_not_required_swappable_is_said_and_opened(start, place):
    pod = with_swap(start("sleep", "infinity", place=place, options=("--require-noswap", "no")).ready(), ONE)
    assert "swappable" in opens(pod)


@pytest.mark.parametrize("how", [{"options": ("--require-noswap", "maybe")}, {"options": ("--require-noswap",)},
                                 {"env": {"TAZPOD_REQUIRE_NOSWAP": "1"}}], ids=["option", "nothing", "variable"])
def test_anything_but_yes_and_no_is_a_usage_error(start, place, how):
    """A requirement that was misspelt must not count as none."""
    assert start(place=place, **how).wait() == 64
