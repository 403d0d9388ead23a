"""Every byte of a small vault changed, every length cut, through the real opener: each refused by
its word, nothing unpacked, and the unchanged file opens in between and at the end.

One process 1 for all of it, so what a refused vault leaves behind would be found by the next."""

import os
import re

import pytest

from nsinit import PASSPHRASE, tree

HEADER = 112 + 200 + 48  # one slot; docs/vault-format.md, section 1
SUM, HMAC = 112 + 200, 112 + 200 + 16
OPENS_EVERY = 50


def expected_of_flip(offset, size):
    """docs/vault-format.md, section 4, in its order."""
    if offset < 8:
        return {"not-a-vault"}
    if offset < 10:
        return {"newer-version", "damaged-header"}  # above 1, or 0
    if offset < 12:
        return {"damaged-header", "truncated"}  # out of range, or longer than the file
    if offset < HMAC:
        return {"damaged-header"}
    if offset < HEADER:
        return {"altered-header"}
    if offset < size - 16:
        return {"damaged-body"}
    return {"truncated"}  # the end mark


def expected_of_cut(length):
    return {"not-a-vault"} if length < 8 else {"truncated"}


EXIT_CODES = {"not-a-vault": 65, "damaged-header": 65, "altered-header": 65, "damaged-body": 65, "truncated": 65,
              "newer-version": 76}


@pytest.fixture
def vault(start, place):
    """A pod with a locked vault, its bytes, and what is in it."""
    pod = start(place=place).ready().create()
    place.write("a", b"x")
    content = tree(place.secrets)
    pod.ok("lock")
    return pod, place, place.vault.read_bytes(), content


def put(place, data):
    # In place: owner and mode stay, and process 1 may hold no descriptor of it while locked.
    with open(place.vault, "r+b") as f:
        f.write(data)
        f.truncate()


def refused(pod, place, data, words, what):
    put(place, data)
    done = pod.tazpod("unlock", inside=False, passphrase=PASSPHRASE)
    message = done.stderr.decode()
    found = re.search(r"\[([a-z-]+)\]\s*$", message)
    assert found, f"{what}: status {done.returncode}, {message!r}"
    assert found[1] in words, f"{what}: {message!r}, not one of {words}"
    assert done.returncode == EXIT_CODES[found[1]], f"{what}: {done.returncode} with {found[1]}"
    assert place.left_in_ram() == [], f"{what}: {place.left_in_ram()}"


def opens(pod, place, data, content):
    put(place, data)
    pod.ok("unlock", inside=False, passphrase=PASSPHRASE)
    assert tree(place.secrets) == content
    pod.ok("lock", inside=False)
    assert place.left_in_ram() == []
    assert place.vault.read_bytes() == data, "nothing changed, nothing written"


def test_every_changed_byte_is_refused_by_its_word(vault):
    pod, place, data, content = vault
    for offset in range(len(data)):
        changed = bytearray(data)
        changed[offset] ^= 1 << offset % 8
        refused(pod, place, changed, expected_of_flip(offset, len(data)), f"byte {offset} of {len(data)}")
        if offset % OPENS_EVERY == 0:
            opens(pod, place, data, content)
    opens(pod, place, data, content)


def test_every_truncation_is_refused_by_its_word(vault):
    pod, place, data, content = vault
    for length in range(len(data)):
        refused(pod, place, data[:length], expected_of_cut(length), f"cut to {length} of {len(data)}")
        if length % OPENS_EVERY == 0:
            opens(pod, place, data, content)
    opens(pod, place, data, content)


def test_bytes_behind_the_end_are_refused(vault):
    pod, place, data, content = vault
    for more in (b"\0", data[-16:], data):
        refused(pod, place, data + more, {"damaged-body", "truncated"}, f"{len(more)} bytes more")
    opens(pod, place, data, content)


def test_another_vaults_stream_behind_this_header_is_refused(vault, start, make_place):
    pod, place, data, content = vault
    other = make_place()
    second = start(place=other).ready().create()
    other.write("a", b"x")
    second.ok("lock")
    theirs = other.vault.read_bytes()
    refused(pod, place, data[:HEADER] + theirs[HEADER:], {"damaged-body"}, "their stream")
    refused(pod, place, theirs[:HEADER] + data[HEADER:], {"damaged-body"}, "their header")
    opens(pod, place, data, content)


def test_a_wrong_passphrase_has_its_own_exit_code_and_changes_nothing(vault):
    pod, place, data, content = vault
    for passphrase in (b"wrong", PASSPHRASE[:-1], PASSPHRASE + b"x", PASSPHRASE.upper()):
        done = pod.tazpod("unlock", passphrase=passphrase)
        assert done.returncode == 77, done.stderr
        assert b"[wrong-passphrase]" in done.stderr
        assert place.left_in_ram() == []
    opens(pod, place, data, content)
