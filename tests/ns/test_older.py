"""An older vault file than the last one seen: a warning with both dates, taken with --accept-older or a yes, once per file."""

import os
import re
import shutil
import signal

import pexpect
import pytest

from nsinit import DEADLINE_S, OWNER, PASSPHRASE


@pytest.fixture
def pod(start, place):
    """Locked, with generations 1 to 5 on disk; the newest is 5."""
    pod = start("sleep", "infinity", place=place).ready().create_whole()
    for n in (3, 4, 5):
        pod.write("note", f"generation {n}".encode())
        pod.ok("save")
    pod.ok("lock")
    return pod


def put(place, number):
    """An earlier generation in the vault's place, as a restored backup would be."""
    shutil.copyfile(f"{place.vault}.{number}", place.vault)
    os.chown(place.vault, OWNER, OWNER)


def unlock(pod, *flags, **how):
    return pod.tazpod("unlock", *flags, passphrase=PASSPHRASE, **how)


def assert_older(done):
    assert done.returncode == 75, done
    said = done.stderr.decode()
    assert said.rstrip().endswith("[older]"), said
    return said


def note(pod):
    return (pod.secrets / "note").read_text()


def test_an_older_file_is_refused_with_both_generations_and_dates(pod, place):
    put(place, 2)
    said = assert_older(unlock(pod))
    date = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    assert re.search(rf"generation 3, saved {date}, and generation 5, saved {date}, was seen", said), said
    assert "--accept-older" in said
    assert pod.status()["state"] == "locked" and not place.left_in_ram()


def test_the_newest_and_a_newer_one_need_nothing(pod, place):
    copy = place.vault.read_bytes()
    pod.unlock()
    pod.write("note", b"generation 6")
    pod.ok("lock")
    newer = place.vault.read_bytes()
    place.vault.write_bytes(copy)
    assert_older(unlock(pod))
    place.vault.write_bytes(newer)
    assert unlock(pod).returncode == 0
    assert note(pod) == "generation 6"


def test_it_opens_when_it_is_accepted_and_is_never_asked_about_again(pod, place):
    put(place, 2)
    assert_older(unlock(pod))
    assert unlock(pod, "--accept-older").returncode == 0
    assert note(pod) == "generation 3"
    pod.ok("lock")
    assert unlock(pod).returncode == 0
    pod.ok("lock")


def test_acceptance_holds_even_if_the_pod_is_killed_before_it_saves(pod, place, start):
    put(place, 2)
    assert unlock(pod, "--accept-older").returncode == 0
    pod.signal(signal.SIGKILL)
    pod.wait()
    again = start("sleep", "infinity", place=place).ready()
    assert unlock(again).returncode == 0
    assert note(again) == "generation 3"


def test_another_older_file_is_asked_about_again(pod, place):
    put(place, 1)
    assert unlock(pod, "--accept-older").returncode == 0
    pod.ok("lock")
    put(place, 2)
    assert_older(unlock(pod))


def test_after_a_save_the_accepted_line_is_the_newest(pod, place):
    newest = place.vault.read_bytes()
    put(place, 2)
    assert unlock(pod, "--accept-older").returncode == 0
    pod.write("note", b"went on from 3")
    pod.ok("lock")
    assert unlock(pod).returncode == 0 and note(pod) == "went on from 3"
    pod.ok("lock")
    place.vault.write_bytes(newest)  # generation 5, and 4 was seen last: newer
    assert unlock(pod).returncode == 0 and note(pod) == "generation 5"


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "changed", "a-folder", "a-link"])
def test_a_note_that_is_no_use_refuses_nothing_and_is_mended_by_a_save(pod, place, damage):
    seen = place.vault.with_name("vault.tpv.seen")
    text = seen.read_bytes()
    seen.unlink()
    if damage == "empty":
        seen.write_bytes(b"")
    elif damage == "cut":
        seen.write_bytes(text[:40])
    elif damage == "changed":
        seen.write_bytes(text.replace(b" 5 ", b" x "))
    elif damage == "a-folder":
        seen.mkdir()
    elif damage == "a-link":
        (place.work / "elsewhere").write_bytes(text)
        seen.symlink_to(place.work / "elsewhere")
    put(place, 2)
    assert unlock(pod).returncode == 0
    pod.write("note", b"anew")
    pod.ok("lock")
    put(place, 1)  # what was generation 3 before
    if damage == "a-folder":
        assert unlock(pod).returncode == 0  # it can't be written: no reason for anything to fail
    else:
        assert seen.is_file() and not seen.is_symlink() and seen.stat().st_mode & 0o777 == 0o600
        assert_older(unlock(pod))
    if damage == "a-link":
        assert (place.work / "elsewhere").read_bytes() == text


def test_a_new_vault_in_the_place_of_one_is_not_older(pod, place):
    place.vault.unlink()
    pod.create()
    pod.ok("lock")
    assert unlock(pod).returncode == 0


def test_a_newer_file_that_was_only_opened_and_locked_counts_as_seen(pod, place):
    """It came from somewhere else, and nothing is changed in it here."""
    note_then = place.vault.with_name("vault.tpv.seen").read_bytes()
    pod.unlock()
    pod.write("note", b"generation 6")
    pod.ok("lock")
    place.vault.with_name("vault.tpv.seen").write_bytes(note_then)  # what this place knew before it came
    os.chown(place.vault.with_name("vault.tpv.seen"), OWNER, OWNER)
    pod.unlock()
    pod.ok("lock")
    put(place, 1)
    assert "generation 6" in assert_older(unlock(pod))


def test_a_wrong_passphrase_is_told_before_the_age(pod, place):
    put(place, 2)
    assert pod.tazpod("unlock", passphrase=b"another").returncode == 77


def test_verify_does_not_care(pod, place):
    put(place, 2)
    assert pod.tazpod("verify", str(place.vault), passphrase=PASSPHRASE).returncode == 0
    assert_older(unlock(pod))


def test_verify_of_an_older_file_accepts_nothing(pod, place):
    before = place.vault.with_name("vault.tpv.seen").read_bytes()
    put(place, 2)
    assert pod.tazpod("verify", str(place.vault), passphrase=PASSPHRASE).returncode == 0
    assert place.vault.with_name("vault.tpv.seen").read_bytes() == before


# ---- on a terminal ----


def on_terminal(pod, *words):
    argv, keywords = pod.command("unlock", *words)
    return pexpect.spawn(argv[0], argv[1:], env={**keywords["env"], "TERM": "dumb"}, timeout=DEADLINE_S, encoding="utf-8")


def test_a_yes_at_the_terminal_opens_it_with_the_passphrase_typed_once(pod, place):
    put(place, 2)
    terminal = on_terminal(pod)
    terminal.expect("Passphrase: ")
    terminal.sendline(PASSPHRASE.decode())
    terminal.expect(r"older than the last one seen.*Open the older file\? \[y/N\] ")
    terminal.sendline("yes")
    terminal.expect("the vault is open")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0 and note(pod) == "generation 3"
    pod.ok("lock")
    assert unlock(pod).returncode == 0


@pytest.mark.parametrize("answer", ["n", ""])
def test_anything_but_yes_leaves_it_locked(pod, place, answer):
    put(place, 2)
    terminal = on_terminal(pod)
    terminal.expect("Passphrase: ")
    terminal.sendline(PASSPHRASE.decode())
    terminal.expect(r"Open the older file\? \[y/N\] ")
    terminal.sendline(answer)
    terminal.expect(r"\[older\]")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 75 and pod.status()["state"] == "locked"
    assert_older(unlock(pod))


def test_with_the_flag_nothing_is_asked(pod, place):
    put(place, 2)
    terminal = on_terminal(pod, "--accept-older")
    terminal.expect("Passphrase: ")
    terminal.sendline(PASSPHRASE.decode())
    assert terminal.expect(["the vault is open", "Open the older"]) == 0
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0


def test_who_may_not_be_asked_is_not(pod, place):
    put(place, 2)
    (place.work / "passphrase").write_bytes(PASSPHRASE + b"\n")
    terminal = on_terminal(pod, "--no-input", "--passphrase-file", str(place.work / "passphrase"))
    terminal.expect(r"\[older\]")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 75
    terminal = on_terminal(pod, "--accept-older", "--no-input", "--passphrase-file", str(place.work / "passphrase"))
    terminal.expect("the vault is open")  # a line end behind the passphrase does not count in an order either
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
