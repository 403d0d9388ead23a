"""Two pods on one file, and a file that is replaced, cut or deleted under a running pod: never overwritten silently,
and both copies are there and told of until somebody has put them in order."""

import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys

import pytest

from nsinit import DEADLINE_S, OWNER, PASSPHRASE, TOP, Client, until

sys.path.insert(0, str(TOP / "tests" / "vectors"))
import tpv  # noqa: E402

KEY = 6


def read(path):
    """{name: content} of a vault file, by a reader that shares no code with the program."""
    _, tar = tpv.read_vault(pathlib.Path(path).read_bytes(), PASSPHRASE)
    return {entry["name"]: entry["content"] for entry in tpv.list_tar(tar) if entry["type"] == "file"}


class Both:
    """Two pods whose vault is the same file: a has generation 2 and 3, b opened 2."""

    def __init__(self, start, make_place):
        self.first, self.second = make_place(), make_place()
        self.second.work = self.first.work
        self.second.vault = self.first.vault
        self.vault = self.first.vault
        self.a = start("sleep", "infinity", place=self.first).ready().create()
        self.a.write("note", b"common")
        self.a.ok("save")
        self.b = start("sleep", "infinity", place=self.second).ready().unlock()


@pytest.fixture
def both(start, make_place):
    pods = Both(start, make_place)
    pods.a.write("note", b"from a")
    pods.a.ok("save")
    pods.b.write("note", b"from b")
    return pods


@pytest.fixture
def pod(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    pod.write("note", b"two")
    pod.ok("save")
    return pod


def names(vault):
    return sorted(path.name for path in vault.parent.iterdir() if not path.name.endswith((".lock", ".seen")))


def conflicts(pod):
    return {entry["file"]: entry for entry in json.loads(pod.ok("status", "--json"))["conflicts"]}


def assert_conflict(done):
    assert done.returncode == 75 and done.stderr.decode().rstrip().endswith("[conflict]"), done
    return done.stderr.decode()


# ---- two pods ----


def test_the_second_writer_is_told_and_both_contents_are_there(both):
    said = assert_conflict(both.b.tazpod("save"))
    assert "vault.tpv.conflict-3" in said and "CONFLICTS" in said
    assert read(both.vault)["note"] == b"from a"
    assert read(f"{both.vault}.conflict-3")["note"] == b"from b"
    assert read(f"{both.vault}.1")["note"] == b"common"


def test_status_of_both_tells_of_the_copy_until_it_is_gone(both):
    assert conflicts(both.a) == {} == conflicts(both.b)
    assert_conflict(both.b.tazpod("save"))
    for pod in (both.a, both.b):
        entry = conflicts(pod)["vault.tpv.conflict-3"]
        assert (entry["kind"], entry["generation"], entry["damaged"]) == ("conflict", 3, None)
        assert re.search(r"^conflict +vault\.tpv\.conflict-3: generation 3, saved \S+Z; .*CONFLICTS", pod.ok("status"), re.M)
    assert both.b.status()["problem"].startswith("conflict: ") and "problem" not in both.a.status()
    pathlib.Path(f"{both.vault}.conflict-3").rename(both.vault.with_name("from-b.tpv"))
    for pod in (both.a, both.b):
        assert conflicts(pod) == {} and "conflict " not in pod.ok("status").replace("problem     conflict", "")


def test_an_emergency_copy_and_a_damaged_one_are_told_of_too(pod, place):
    shutil.copyfile(place.vault, f"{place.vault}.emergency-7")
    pathlib.Path(f"{place.vault}.conflict-9").write_bytes(b"")
    found = conflicts(pod)
    assert {name: (entry["kind"], entry["damaged"], entry["generation"]) for name, entry in found.items()} == {
        "vault.tpv.conflict-9": ("conflict", "not-a-vault", 0), "vault.tpv.emergency-7": ("emergency", None, 2)}
    assert re.search(r"^conflict +vault\.tpv\.conflict-9: damaged \(not-a-vault\); ", pod.ok("status"), re.M)
    assert re.search(r"^emergency +vault\.tpv\.emergency-7: generation 2, ", pod.ok("status"), re.M)


def test_a_conflict_that_goes_on_has_one_copy_with_what_is_in_ram_now(both):
    for n in range(4):
        both.b.write("note", f"from b, {n}".encode())
        both.b.write(f"file-{n}", b"x")
        assert_conflict(both.b.tazpod("save"))
        both.a.write("note", f"from a, {n}".encode())
        both.a.ok("save")
    assert [name for name in names(both.vault) if "conflict" in name] == ["vault.tpv.conflict-3"]
    kept = read(f"{both.vault}.conflict-3")
    assert kept["note"] == b"from b, 3" and len(kept) == 5
    assert read(both.vault)["note"] == b"from a, 3"


def test_a_copy_of_another_pod_is_never_replaced(both, start, make_place):
    assert_conflict(both.b.tazpod("save"))
    third = make_place()
    third.work, third.vault = both.first.work, both.vault
    shutil.copyfile(f"{both.vault}.1", both.vault)  # a third pod that opens the common generation
    os.chown(both.vault, OWNER, OWNER)
    c = start("sleep", "infinity", place=third).ready()
    c.ok("unlock", "--accept-older", passphrase=PASSPHRASE)
    shutil.copyfile(both.vault, both.vault.with_name("kept"))
    both.vault.unlink()
    both.a.ok("save")  # generation 4 now: a's own file is back
    c.write("note", b"from c")
    assert_conflict(c.tazpod("save"))
    assert read(f"{both.vault}.conflict-3")["note"] == b"from b"
    assert read(f"{both.vault}.conflict-3-1")["note"] == b"from c"


def test_a_lock_is_refused_and_the_vault_stays_open(both):
    assert_conflict(both.b.tazpod("lock"))
    assert both.b.status()["state"] == "open"
    assert (both.b.secrets / "note").read_bytes() == b"from b"
    assert read(f"{both.vault}.conflict-3")["note"] == b"from b"


def test_a_stop_leaves_the_copy_and_says_74(both):
    both.b.signal(signal.SIGTERM)
    assert both.b.wait() == 74
    assert read(both.vault)["note"] == b"from a"
    assert read(f"{both.vault}.conflict-3")["note"] == b"from b"


def restore_order(generation):
    """An order, byte by byte (docs/control-protocol.md)."""
    credential = struct.pack("<BBHI1024s", 1, 0, len(PASSPHRASE), 0, PASSPHRASE)
    return struct.pack("<BBBBB3sIIQ32s", 0, 1, 7, 0, 255, b"", 0, 0, generation, b"") + credential + bytes(1032)


def ask_key(place, order):
    reading, writing = os.pipe()
    os.write(writing, order)
    os.close(writing)
    with Client(place.socket) as client:
        answer = client.ask(KEY, [reading])
    os.close(reading)
    return answer


def test_the_file_is_not_rewritten_under_a_pod_that_knows_another(both):
    before = names(both.vault), both.vault.read_bytes()
    answer = ask_key(both.second, restore_order(1))
    assert (answer["code"], answer["word"]) == (75, "conflict"), answer
    assert (names(both.vault), both.vault.read_bytes()) == before
    assert both.b.status()["state"] == "open" and (both.b.secrets / "note").read_bytes() == b"from b"
    answer = ask_key(both.first, restore_order(2))  # a knows it
    assert (answer["code"], answer["word"]) == (0, ""), answer
    assert read(both.vault)["note"] == b"common"


def test_a_restore_stops_at_the_conflict_of_its_lock(both):
    assert_conflict(both.b.tazpod("restore", "1", passphrase=PASSPHRASE))
    assert both.b.status()["state"] == "open"
    assert read(both.vault)["note"] == b"from a"
    assert read(f"{both.vault}.conflict-3")["note"] == b"from b"


def test_the_other_file_can_be_moved_aside_and_this_pod_goes_on(both):
    """The first way out in the manual."""
    assert_conflict(both.b.tazpod("save"))
    both.vault.rename(both.vault.with_name("from-a.tpv"))
    done = both.b.tazpod("save")
    assert done.returncode == 0 and b"had been deleted" in done.stderr, done
    both.b.ok("lock")
    assert read(both.vault)["note"] == b"from b"
    assert read(both.vault.with_name("from-a.tpv"))["note"] == b"from a"
    pathlib.Path(f"{both.vault}.conflict-3").unlink()
    assert conflicts(both.b) == {}


def test_the_file_in_place_can_be_kept(both):
    """The second: what is in this pod stays as its copy, and the other's file is opened."""
    assert_conflict(both.b.tazpod("save"))
    both.vault.rename(both.vault.with_name("from-a.tpv"))
    both.b.ok("lock")
    both.vault.rename(both.vault.with_name("from-b.tpv"))
    both.vault.with_name("from-a.tpv").rename(both.vault)
    both.b.ok("unlock", "--accept-older", passphrase=PASSPHRASE)
    assert (both.b.secrets / "note").read_bytes() == b"from a"
    assert read(both.vault.with_name("from-b.tpv"))["note"] == b"from b"


def test_the_copy_opens_in_the_vaults_place(both, start):
    """The third: the copy is older than what was seen last, or as old."""
    assert_conflict(both.b.tazpod("save"))
    both.a.write("note", b"from a again")
    both.a.ok("lock")
    pathlib.Path(f"{both.vault}.conflict-3").rename(both.vault)
    done = both.a.tazpod("unlock", passphrase=PASSPHRASE)
    assert done.returncode == 75 and b"[older]" in done.stderr, done
    both.a.ok("unlock", "--accept-older", passphrase=PASSPHRASE)
    assert (both.a.secrets / "note").read_bytes() == b"from b"
    assert conflicts(both.a) == {}


def test_a_file_that_is_being_saved_by_another_pod_is_busy_and_no_conflict(both):
    both.a.write("large", os.urandom(3_000_000))
    words, keywords = both.a.command("save")
    saving = subprocess.Popen(words, stderr=subprocess.PIPE, **keywords)
    packer = both.a.stop_worker("pack")
    until(both.first.temporaries, "the sealer's file")
    done = both.b.tazpod("save")
    os.kill(packer, signal.SIGCONT)
    said = saving.communicate(timeout=DEADLINE_S)[1]
    assert saving.returncode == 0, said
    assert done.returncode == 75 and b"[busy]" in done.stderr, done
    assert not [name for name in names(both.vault) if "conflict" in name]
    assert len(read(both.vault)["large"]) == 3_000_000


# ---- one pod, and a file that changes under it ----


def cut(vault):
    vault.write_bytes(vault.read_bytes()[:-1])


def cut_body(vault):
    vault.write_bytes(vault.read_bytes()[:500])


@pytest.mark.parametrize("change", [cut, cut_body])
def test_a_file_that_was_cut_is_not_taken_for_saved(pod, place, change):
    change(place.vault)
    done = pod.tazpod("save")  # nothing has changed in RAM
    assert done.returncode == 0 and b"nothing has changed" not in done.stderr, done
    assert read(place.vault)["note"] == b"two"


def test_a_whole_file_is_not_written_again(pod, place):
    before = place.vault.stat()
    done = pod.tazpod("save")
    assert done.returncode == 0 and b"nothing has changed" in done.stderr, done
    assert place.vault.stat().st_ino == before.st_ino


def test_a_file_that_was_deleted_is_written_anew_and_told_of(pod, place):
    place.vault.unlink()
    done = pod.tazpod("save")
    assert done.returncode == 0 and b"had been deleted" in done.stderr, done
    assert read(place.vault)["note"] == b"two"
    assert b"had been deleted" not in pod.tazpod("save").stderr


def test_a_folder_that_was_deleted_is_made_again(pod, place):
    shutil.rmtree(place.vault.parent)
    done = pod.tazpod("save")
    assert done.returncode == 0 and b"had been deleted" in done.stderr, done
    assert read(place.vault)["note"] == b"two"


REPLACEMENTS = {
    "an-earlier-generation": lambda vault: shutil.copyfile(f"{vault}.1", vault),
    "no-vault": lambda vault: vault.write_bytes(b"something else\n"),
    "an-empty-file": lambda vault: vault.write_bytes(b""),
    "another-header": lambda vault: vault.write_bytes(vault.read_bytes()[:60] + b"x" + vault.read_bytes()[61:]),
    "a-folder": lambda vault: (vault.unlink(), vault.mkdir()),
    "a-link": lambda vault: (vault.rename(vault.with_name("moved")), vault.symlink_to("moved")),
    "a-link-to-nothing": lambda vault: (vault.unlink(), vault.symlink_to("nowhere")),
    "a-pipe": lambda vault: (vault.unlink(), os.mkfifo(vault)),
}


@pytest.mark.parametrize("replace", REPLACEMENTS.values(), ids=REPLACEMENTS)
def test_whatever_took_the_files_place_stays_and_this_pods_content_is_kept(pod, place, replace):
    replace(place.vault)
    before = place.vault.lstat()
    data = place.vault.read_bytes() if place.vault.is_file() else None
    pod.write("note", b"three")
    assert_conflict(pod.tazpod("save"))
    after = place.vault.lstat()
    assert (before.st_ino, before.st_mode, before.st_size) == (after.st_ino, after.st_mode, after.st_size)
    assert data is None or place.vault.read_bytes() == data
    assert read(f"{place.vault}.conflict-3")["note"] == b"three"
    assert not place.temporaries()


def test_a_file_that_is_replaced_while_a_save_writes_stays(pod, place):
    """By somebody who takes no lock: the sealer looks once more before its rename."""
    pod.write("note", b"three")
    pod.write("large", os.urandom(3_000_000))
    words, keywords = pod.command("save")
    saving = subprocess.Popen(words, stderr=subprocess.PIPE, **keywords)
    packer = pod.stop_worker("pack")
    until(place.temporaries, "the sealer's file")
    theirs = place.vault.with_name("theirs")
    shutil.copyfile(f"{place.vault}.1", theirs)
    data = theirs.read_bytes()
    theirs.rename(place.vault)
    os.kill(packer, signal.SIGCONT)
    said = saving.communicate(timeout=DEADLINE_S)[1]
    assert saving.returncode == 75 and b"[conflict]" in said, said
    assert place.vault.read_bytes() == data
    assert read(f"{place.vault}.conflict-3")["note"] == b"three"
