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


def opened(item):
    return tpv.list_tar(tpv.read_vault(BYTES[item["file"]], item["passphrase"].encode())[1])


@by_file(GOOD)
def test_a_good_vault_opens_to_its_tree(item):
    assert tree(opened(item)) == sorted(item["tree"], key=lambda e: e["name"])


@by_file(BAD)
def test_a_bad_vault_is_refused_with_its_word(item):
    with pytest.raises(tpv.VaultError) as refusal:
        opened(item)
    assert refusal.value.word == item["expect"]


@by_file([i for i in BAD if i["part"] == "archive"])
def test_a_bad_archive_is_a_proven_vault_around_it(item):
    head, _ = tpv.read_vault(BYTES[item["file"]], item["passphrase"].encode(), room=512 << 20)
    assert head["gen"] == 1


def test_no_two_vectors_share_a_name_or_their_bytes():
    assert len(BYTES) == len(VECTORS)
    assert len({(i["passphrase"], BYTES[i["file"]]) for i, _ in VECTORS}) == len(VECTORS)


def test_the_recovery_code_opens_its_slot():
    data = BYTES["good-recovery-slot.tpv"]
    assert tpv.read_vault(data, make_vectors.CODE)[0]["slots"][0]["type"] == 2


def test_libsodium_opens_the_sealed_box_and_its_key_commits():
    head = tpv.read_header(BYTES["good-x25519-slot.tpv"])
    slot = head["slots"][0]
    dk = na.crypto_box_seal_open(slot["wrapped"], slot["recipient"], make_vectors.IDENTITY)
    ctx = tpv.slot_context(1, 1, head["vault_id"], slot["raw"])
    assert slot["commit"] == tpv.blake(24, b"vault1 slot" + ctx, dk)
    assert dk == tpv.unlock(head, make_vectors.PASS.encode())


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
    (tmp_path / "pass").write_bytes(b"another\n")
    wrong = subprocess.run([*run, "read", *files], stderr=subprocess.PIPE)
    assert wrong.returncode == 1 and b"wrong-passphrase" in wrong.stderr
