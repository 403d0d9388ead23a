"""How a command ended, for programs: --json."""

import json
import os

import pytest

from nsinit import CHEAP, OWNER, PASSPHRASE


def outcome(done):
    assert done.stdout.count(b"\n") == 1, done
    found = json.loads(done.stdout)
    assert found.pop("version") == 1
    if found["error"]:
        assert set(found) == {"error"} and set(found["error"]) == {"code", "word", "text"}
        assert found["error"]["code"] == done.returncode != 0
        assert done.stderr.decode().endswith(f"{found['error']['text']} [{found['error']['word']}]\n"), done
        return found["error"]["word"]
    assert done.returncode == 0 and set(found) == {"error", "generation"}
    return found["generation"]


@pytest.fixture
def ask(start, place):
    pod = start("sleep", "infinity", place=place).ready()
    return lambda *words, passphrase=None: outcome(pod.tazpod(*words, "--json", passphrase=passphrase))


def test_each_command_says_its_generation_or_its_word(ask, place):
    new = place.work / "new"
    new.write_bytes(b"another")
    os.chown(new, OWNER, OWNER)
    assert ask("unlock", passphrase=PASSPHRASE) == "no-vault"
    assert ask("save") == "locked"
    assert ask("unlock", "--create", *CHEAP, passphrase=PASSPHRASE) == 1
    place.write("key", b"a secret")
    assert ask("save") == 2 and ask("save") == 2
    assert ask("key", "add", "--new-passphrase-file", str(new), passphrase=PASSPHRASE) == 3
    assert ask("key", "add", "--new-passphrase-file", str(new), passphrase=b"wrong") == "wrong-passphrase"
    assert ask("key", "remove", "0", passphrase=PASSPHRASE) == "own-slot"
    assert ask("key", "remove", "1", passphrase=PASSPHRASE) == 4
    assert ask("key", "passwd", "--new-passphrase-file", str(new), passphrase=PASSPHRASE) == 5
    assert ask("verify", str(place.vault), passphrase=PASSPHRASE) == "wrong-passphrase"
    assert ask("verify", str(place.vault), passphrase=b"another") == 5
    assert ask("restore", "2", passphrase=b"another") == 6
    assert ask("restore", "77", passphrase=b"another") == "no-generation"
    assert ask("lock") == 6 and ask("lock") == 6
    assert ask("unlock", passphrase=b"") == "empty-passphrase"
    place.vault.write_bytes(place.vault.read_bytes()[:-1])
    assert ask("unlock", passphrase=b"another") == "truncated"


def test_without_it_nothing_is_on_standard_output(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    for words in (["save"], ["lock"], ["lock"], ["save"], ["unlock", "--no-input"]):
        assert pod.tazpod(*words).stdout == b""
