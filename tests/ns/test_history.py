"""Earlier generations: how many, which, and `tazpod history` and `tazpod verify GENERATION`, which list and check them."""

import json
import os
import pathlib
import re
import signal
import subprocess
import time

import pytest

from nsinit import DEADLINE_S, OWNER, PASSPHRASE, programs


def run(*words, place=None, passphrase=None, env=None, uid=OWNER, cwd="/"):
    """By hand, on any machine: without a pod."""
    words = [str(programs() / "tazpod"), *map(str, words)]
    if passphrase is not None:
        words += ["--passphrase-fd", "0"]
    return subprocess.run(words, input=passphrase or b"", capture_output=True, timeout=DEADLINE_S, cwd=cwd, user=uid, group=uid,
                          extra_groups=(), env={"PATH": "/usr/bin:/bin", "TAZPOD_RUN_DIR": "/nowhere", **(env or {})},
                          start_new_session=True)


def configure(place, text):
    place.vault.parent.mkdir(exist_ok=True)
    os.chown(place.vault.parent, OWNER, OWNER)
    (place.vault.parent / "config.ini").write_text(text)


@pytest.fixture
def pod(start, place):
    return start("sleep", "infinity", place=place).ready()


def save(pod, text):
    pod.write("note", text.encode())
    pod.ok("save")


def listed(pod):
    """{file: entry} of `tazpod history --json`."""
    answer = json.loads(pod.ok("history", "--json"))
    assert answer["version"] == 1
    return {entry["file"]: entry for entry in answer["files"]}


def generations(pod):
    """Of the vault, .1, .2 ..."""
    return [entry["generation"] for entry in listed(pod).values() if entry["kind"] in ("vault", "earlier")]


def relock(pod):
    pod.ok("lock")
    pod.unlock()


# ---- what is kept ----


def test_five_are_kept_and_what_was_found_at_the_unlock_stays_until_the_next(pod):
    pod.create()
    for n in range(9):
        save(pod, f"first life, {n}")
    assert generations(pod) == [10, 9, 8, 7, 6, 5]  # nothing was found: it is a new vault
    relock(pod)
    for n in range(9):
        save(pod, f"second life, {n}")
    assert generations(pod) == [19, 18, 17, 16, 15, 10]
    relock(pod)
    save(pod, "third life")
    assert generations(pod) == [20, 19, 18, 17, 16, 15]  # 10 is one of many now
    for n in range(5):
        save(pod, f"third life, {n}")
    assert generations(pod) == [25, 24, 23, 22, 21, 19]


def test_the_found_one_opens_with_what_it_held(pod, place):
    pod.create()
    save(pod, "found")
    relock(pod)
    for n in range(8):
        save(pod, f"later, {n}")
    pod.ok("lock")
    os.replace(f"{place.vault}.5", place.vault)
    pod.ok("unlock", "--accept-older", passphrase=PASSPHRASE)
    assert (pod.secrets / "note").read_bytes() == b"found"


def test_a_new_process_1_finds_what_the_one_before_left(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    for n in range(7):
        save(pod, str(n))
    pod.signal(signal.SIGTERM)
    pod.wait()
    pod = start("sleep", "infinity", place=place).ready().unlock()
    for n in range(8):
        save(pod, f"again, {n}")
    assert generations(pod) == [16, 15, 14, 13, 12, 8]


@pytest.mark.parametrize("number, kept", [(1, 1), (2, 2), (7, 7)])
def test_the_number_is_configured(pod, place, number, kept):
    configure(place, f"[history]\ngenerations = {number}\n")
    pod.create()
    for n in range(9):
        save(pod, str(n))
    assert generations(pod) == list(range(10, 9 - kept, -1))


def test_a_number_holds_from_the_next_unlock_on_and_survives_a_file_that_breaks(pod, place):
    configure(place, "[history]\ngenerations = 2\n")
    pod.create()
    configure(place, "[history]\ngenerations = many\n")
    for n in range(5):
        save(pod, str(n))
    assert generations(pod) == [6, 5, 4]
    configure(place, "[history]\ngenerations = 4\n")
    save(pod, "x")
    assert generations(pod) == [7, 6, 5]
    relock(pod)
    for n in range(5):
        save(pod, f"{n} again")
    assert len(generations(pod)) == 5


def test_a_save_after_an_incomplete_one_keeps_the_one_before_that(pod):
    pod.create()
    save(pod, "complete")  # generation 2
    (pod.secrets / "bad\x01name").write_bytes(b"x")
    pod.write("note", b"incomplete")
    assert pod.tazpod("save").returncode == 74
    assert generations(pod) == [3, 2, 1]
    for n in range(8):
        pod.write("note", f"incomplete, {n}".encode())
        assert pod.tazpod("save").returncode == 74
    assert generations(pod) == [11, 2, 1]
    (pod.secrets / "bad\x01name").unlink()
    save(pod, "complete again")
    assert generations(pod) == [12, 2, 1]  # the incomplete one is nothing to go back to
    save(pod, "and again")
    assert generations(pod) == [13, 12, 2, 1]


def test_a_save_that_failed_after_an_incomplete_tree_was_packed_replaces_nothing(pod, place):
    """The tree had something to leave out, but that save never got into place."""
    pod.create()
    save(pod, "complete")
    (pod.secrets / "bad\x01name").write_bytes(b"x")
    pod.write("note", b"incomplete")
    place.vault.parent.chmod(0o500)
    assert pod.tazpod("save").returncode == 74
    place.vault.parent.chmod(0o700)
    assert pod.tazpod("save").returncode == 74
    assert generations(pod) == [3, 2, 1]


# ---- a file system without links ----


def trace(pod, inject):
    """strace on process 1 and its workers. The injected call becomes one that the filter allows."""
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pod.pid), "-o", "/dev/null", "-e", f"trace={inject.split(':')[0]}", "-e",
                               f"inject={inject}"], stderr=subprocess.PIPE, text=True)
    line = tracer.stderr.readline()
    assert "attached" in line, line
    return tracer


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP"])
def test_where_links_are_refused_generations_are_copies_and_status_says_so(pod, place, error):
    pod.create()
    save(pod, "one")
    assert json.loads(pod.ok("status", "--json"))["no_links"] is False
    assert "no-links" not in pod.ok("status")
    tracer = trace(pod, f"linkat:error={error}:syscall=getpid")
    try:
        save(pod, "two")
        save(pod, "three")
    finally:
        tracer.terminate()
        tracer.wait()
    assert generations(pod) == [4, 3, 2, 1]
    inodes = {path.stat().st_ino for path in place.vault.parent.glob("vault.tpv*") if not path.name.endswith((".lock", ".seen"))}
    assert len(inodes) == 4 and not place.temporaries()
    for number in (2, 3, 4):
        assert pod.tazpod("verify", str(number), passphrase=PASSPHRASE).returncode == 0
    assert json.loads(pod.ok("status", "--json"))["no_links"] is True
    assert re.search(r"^warning +no-links: ", pod.ok("status"), re.M)
    relock(pod)
    assert json.loads(pod.ok("status", "--json"))["no_links"] is False  # as of the last unlock, and saves since


# ---- tazpod history ----


def test_history_lists_what_there_is_and_what_its_headers_say(pod, place):
    pod.create()
    save(pod, "two")
    save(pod, "three")
    lines = pod.ok("history").splitlines()
    assert lines[0].split() == ["GENERATION", "SAVED", "BYTES", "SLOTS", "FILE"]
    rows = [line.split() for line in lines[1:]]
    assert [(row[0], row[3], row[4]) for row in rows] == [
        ("3", "1", "vault.tpv"), ("2", "1", "vault.tpv.1"), ("1", "1", "vault.tpv.2")]
    for row, name in zip(rows, ("vault.tpv", "vault.tpv.1", "vault.tpv.2")):
        info = (place.vault.parent / name).stat()
        assert int(row[2]) == info.st_size
        assert abs(time.mktime(time.strptime(row[1], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone - info.st_mtime) < 5
    files = listed(pod)
    assert files["vault.tpv.1"] == {
        "file": "vault.tpv.1", "kind": "earlier", "number": 1, "bytes": int(rows[1][2]), "damaged": None, "generation": 2,
        "saved_at": files["vault.tpv.1"]["saved_at"], "slots": 1}
    assert abs(files["vault.tpv.1"]["saved_at"] - time.time()) < 60


def test_history_lists_copies_and_nothing_else(pod, place):
    pod.create()
    save(pod, "two")
    folder, data = place.vault.parent, place.vault.read_bytes()
    for name in ("vault.tpv.conflict-7", "vault.tpv.conflict-7-1", "vault.tpv.emergency-8", "vault.tpv.12", "vault.tpv.99",
                 "vault.tpv.100", "vault.tpv.01", "vault.tpv.0", "vault.tpv.1x", "vault.tpv.1.bak", "vault.tpv.tmp-00", "vault.tpv.rescue",
                 "vault.tpv.", "other.tpv", "xvault.tpv", "vault.tpvx"):
        (folder / name).write_bytes(data)
    assert [(entry["kind"], entry["file"]) for entry in listed(pod).values()] == [
        ("vault", "vault.tpv"), ("earlier", "vault.tpv.1"), ("earlier", "vault.tpv.12"), ("earlier", "vault.tpv.99"),
        ("conflict", "vault.tpv.conflict-7"), ("conflict", "vault.tpv.conflict-7-1"), ("emergency", "vault.tpv.emergency-8")]


def test_a_file_whose_header_says_nothing_is_called_damaged(pod, place):
    pod.create()
    for n in range(5):
        save(pod, str(n))
    folder = place.vault.parent
    data = (folder / "vault.tpv.1").read_bytes()
    (folder / "vault.tpv.1").write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:])
    (folder / "vault.tpv.2").write_bytes(b"")
    (folder / "vault.tpv.3").write_bytes(data[:200])
    (folder / "vault.tpv.4").write_bytes(b"#!/bin/sh\n" * 100)
    (folder / "vault.tpv.5").unlink()
    (folder / "vault.tpv.5").symlink_to("vault.tpv")
    os.mkfifo(folder / "vault.tpv.6")
    (folder / "vault.tpv.7").write_bytes(data[:8] + b"\x02" + data[9:])
    files = listed(pod)
    assert {name: entry["damaged"] for name, entry in files.items()} == {
        "vault.tpv": None, "vault.tpv.1": "damaged-header", "vault.tpv.2": "not-a-vault", "vault.tpv.3": "truncated",
        "vault.tpv.4": "not-a-vault", "vault.tpv.5": "not-a-vault", "vault.tpv.6": "not-a-vault", "vault.tpv.7": "newer-version"}
    assert re.search(r"^ +damaged  damaged-header .* vault\.tpv\.1$", pod.ok("history"), re.M)


def test_history_needs_neither_key_nor_process_1(pod, place):
    pod.create()
    save(pod, "two")
    pod.ok("lock")
    assert generations(pod) == [2, 1]
    done = run("history", env={"TAZPOD_VAULT": str(place.vault)})
    assert done.returncode == 0 and done.stdout.decode() == pod.ok("history")


def test_without_any_vault_history_says_so(pod, place, start):
    for done in (pod.tazpod("history"), run("history", env={"TAZPOD_VAULT": "/nowhere/vault.tpv"}),
                 run("history", env={"TAZPOD_VAULT": "none"})):
        assert done.returncode == 66 and done.stderr.decode().rstrip().endswith("[no-vault]"), done
    pod.create()
    assert pod.tazpod("history").returncode == 0
    assert pod.tazpod("history", "--jsn").returncode == 64


# ---- tazpod verify GENERATION ----


def test_a_generation_is_verified_by_its_number(pod, place):
    pod.create()
    for n in range(3):
        save(pod, str(n))
    for number in (1, 2, 3, 4):
        done = pod.tazpod("verify", str(number), passphrase=PASSPHRASE)
        assert done.returncode == 0 and f"{number} is whole: generation {number}, saved " in done.stderr.decode(), done
    path = pathlib.Path(f"{place.vault}.2")
    data = path.read_bytes()
    path.write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    done = pod.tazpod("verify", "2", passphrase=PASSPHRASE)
    assert done.returncode == 65 and b"[damaged-body]" in done.stderr, done
    done = pod.tazpod("verify", "9", passphrase=PASSPHRASE)
    assert done.returncode == 66 and b"[no-generation]" in done.stderr, done


def test_a_file_called_like_a_number_needs_its_directory(pod, place):
    pod.create()
    save(pod, "two")
    (place.work / "1").write_bytes(b"no vault at all, and long enough to be read as one")
    os.chown(place.work / "1", OWNER, OWNER)
    env = {"TAZPOD_VAULT": str(place.vault)}
    assert run("verify", "1", passphrase=PASSPHRASE, env=env, cwd=place.work).returncode == 0
    done = run("verify", "./1", passphrase=PASSPHRASE, env=env, cwd=place.work)
    assert done.returncode == 65 and b"[not-a-vault]" in done.stderr, done
