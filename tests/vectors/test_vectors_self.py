"""The second reader against its own vectors, so that neither is trusted blindly."""
import hashlib
import json
import os
import subprocess
import sys

import nacl.bindings as na
import pytest

sys.path.insert(0, os.path.dirname(__file__))
import make_vectors
import tpv

VECTORS = make_vectors.build()
BYTES = {item["file"]: data for item, data in VECTORS}
GOOD = [item for item, _ in VECTORS if item["expect"] == "ok"]
BAD = [item for item, _ in VECTORS if item["expect"] != "ok"]


def by_file(items):
    return pytest.mark.parametrize("item", items, ids=[i["file"] for i in items])


def tree(entries):
    return sorted((make_vectors.tree_item(**e) for e in entries), key=lambda e: e["name"])


def read(item, **how):
    return tpv.read_vault(BYTES[item["file"]], make_vectors.credential(item), **how)


def opened(item):
    return tpv.list_tar(read(item)[1])


@by_file(GOOD)
def test_a_good_vault_opens_to_its_tree(item):
    assert tree(opened(item)) == sorted(item["tree"], key=lambda e: e["name"])


@by_file(BAD)
def test_a_bad_vault_is_refused_with_its_word(item):
    with pytest.raises(tpv.VaultError) as refusal:
        opened(item)
    assert refusal.value.word == item["expect"]


@by_file([i for i in BAD if i["rules"]])
def test_a_bad_vault_breaks_one_rule_and_no_other(item):
    with tpv.waiving(*item["rules"]):
        assert len(item["rules"]) == 1
        assert tree(opened(item)) == sorted(item["tree"], key=lambda e: e["name"])


def test_a_rule_waived_is_held_again_afterwards():
    item = next(i for i in BAD if i["rules"] == ["hlen"])
    with tpv.waiving("hlen"):
        opened(item)
    with pytest.raises(tpv.VaultError):
        opened(item)


@by_file([i for i in BAD if i["part"] == "archive"])
def test_a_bad_archive_is_a_proven_vault_around_it(item):
    head, _ = read(item, room=512 << 20)
    assert head["gen"] == 1


def test_no_two_vectors_share_a_name_or_their_bytes():
    assert len(BYTES) == len(VECTORS)
    assert len({(str(i["credential"]), BYTES[i["file"]]) for i, _ in VECTORS}) == len(VECTORS)


def test_every_type_of_slot_is_there_alone_among_others_moved_and_damaged():
    names = set(BYTES)
    for kind in make_vectors.OF_TYPE:
        assert {f"good-only-{kind}.tpv", f"good-{kind}-behind-others.tpv", f"good-eight-mixed-slots-by-{kind}.tpv",
                f"header-{kind}-slots-swapped.tpv", f"header-{kind}-slot-moved.tpv",
                f"header-{kind}-slot-copied.tpv", f"header-{kind}-slot-of-another-vault.tpv",
                f"header-{kind}-slot-commit-flipped.tpv"} <= names


def test_a_slot_of_each_type_wraps_the_same_key():
    head = tpv.read_header(BYTES["good-eight-mixed-slots-by-code.tpv"])
    assert [slot["type"] for slot in head["slots"]] == [1, 2, 3, 0, 2, 1, 3, 0]
    keys = {tpv.unlock(head, make_vectors.credential({"credential": {"type": kind, "secret": secret}}))
            for kind, secret in (c for _, c in make_vectors.OF_TYPE.values())}
    assert len(keys) == 1


def test_libsodium_opens_the_sealed_box_and_its_key_commits():
    head = tpv.read_header(BYTES["good-identity-behind-others.tpv"])
    slot = head["slots"][4]
    dk = na.crypto_box_seal_open(slot["wrapped"], slot["recipient"], make_vectors.IDENTITY)
    ctx = tpv.slot_context(1, 1, head["vault_id"], slot["raw"])
    assert slot["commit"] == tpv.blake(24, b"vault1 slot" + ctx, dk)


def test_a_code_is_read_however_it_is_written_down_and_only_whole():
    text = tpv.spell(tpv.CODE, bytes(range(20)))
    assert text == "000G-40R4-0M30-E209-185G-R38E-1W81-24GK-" + text[-4:]
    for other in (text.lower(), text.replace("-", ""), text.replace("0", "O"), text.replace("1", "l"),
                  text.replace("-", " ")):
        assert tpv.unspell(tpv.CODE, other) == bytes(range(20))
    for at, letter in enumerate(text):
        if letter != "-":
            with pytest.raises(ValueError):
                tpv.unspell(tpv.CODE, text[:at] + ("Z" if letter != "Z" else "Y") + text[at + 1:])
    for kind in (tpv.IDENTITY, "recipient"):
        text = tpv.spell(kind, bytes(range(32)))
        assert tpv.unspell(kind, text) == bytes(range(32))
        with pytest.raises(ValueError):
            tpv.unspell(kind, text[:-1])


def test_the_same_vectors_come_out_twice():
    again = make_vectors.build()
    assert [hashlib.sha256(d).digest() for _, d in again] == \
        [hashlib.sha256(d).digest() for _, d in VECTORS]


def test_the_command_line_reads_what_it_wrote(tmp_path):
    source = tmp_path / "tree"
    (source / "d").mkdir(parents=True)
    (source / "d" / "f").write_bytes(b"x" * 70000)
    (source / "l").symlink_to("d/f")
    (tmp_path / "pass").write_bytes(b"a passphrase\n")
    run = [sys.executable, tpv.__file__]
    files = [str(tmp_path / "v.tpv"), str(tmp_path / "pass")]
    subprocess.run([*run, "write", *files, str(source), "--ops", "1", "--mem", "8192"], check=True)
    out = subprocess.run([*run, "read", *files], check=True, stdout=subprocess.PIPE).stdout
    assert [(e["name"], e["type"], e["size"]) for e in json.loads(out)] == \
        [("d", "dir", 0), ("d/f", "file", 70000), ("l", "symlink", 0)]
    (tmp_path / "code.tpv").write_bytes(BYTES["good-only-code.tpv"])
    (tmp_path / "code").write_text(tpv.spell(tpv.CODE, make_vectors.CODE) + "\n")
    out = subprocess.run([*run, "read", str(tmp_path / "code.tpv"), str(tmp_path / "code"), "--code"], check=True,
                         stdout=subprocess.PIPE).stdout
    assert [e["name"] for e in json.loads(out)] == ["token"]
    (tmp_path / "pass").write_bytes(b"another\n")
    wrong = subprocess.run([*run, "read", *files], stderr=subprocess.PIPE)
    assert wrong.returncode == 1 and b"wrong-passphrase" in wrong.stderr
