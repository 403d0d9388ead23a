"""The C programs against the independent writer and reader of tests/vectors.

Every vector goes through the real opener and unpacker of one process 1: a good one opens and holds
what the manifest says, a bad one is refused by its one word and exit code and leaves nothing in RAM. What
the C writes is test_reader.py's."""

import hashlib
import json
import os
import re
import stat
import struct
import subprocess
import sys

import pytest

from nsinit import TOP, UNLOCK, Client

VECTORS = TOP / "tests" / "vectors"

@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    out = tmp_path_factory.mktemp("vectors")
    subprocess.run([sys.executable, "-B", VECTORS / "make_vectors.py", out], check=True)
    return out, json.loads((out / "vectors.json").read_text())


def in_ram(secrets):
    """The tree as a manifest lists it."""
    found = []
    for folder, folders, files in os.walk(secrets):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            info = os.lstat(path)
            item = {"name": os.path.relpath(path, secrets), "mode": stat.S_IMODE(info.st_mode),
                    "mtime_ns": info.st_mtime_ns}
            if stat.S_ISLNK(info.st_mode):
                item |= {"type": "symlink", "target": os.readlink(path)}
            elif stat.S_ISDIR(info.st_mode):
                item |= {"type": "dir"}
            else:
                item |= {"type": "file", "sha256": hashlib.sha256(open(path, "rb").read()).hexdigest()}
            found.append(item)
    return found


def same(listed, found):
    """Modes of links mean nothing, and a manifest may leave out what it does not fix."""
    by_name = {item["name"]: item for item in found}
    assert set(by_name) == {item["name"].rstrip("/") for item in listed}
    for item in listed:
        other = by_name[item["name"].rstrip("/")]
        assert other["mtime_ns"] == item["mtime_ns"], item
        if "sha256" in item:
            assert other.get("sha256") == item["sha256"], item
        if "target" in item:
            assert other.get("target") == item["target"], item
        elif "mode" in item:
            assert f"{other['mode']:04o}" == item["mode"], item


# docs/control-protocol.md, "Exit codes and error words".
CODES = {"not-a-vault": 65, "damaged-header": 65, "altered-header": 65, "damaged-body": 65, "truncated": 65,
         "bad-entry": 65, "kdf-limit": 65, "no-room": 74, "newer-version": 76, "wrong-passphrase": 77,
         "empty-passphrase": 77, "long-passphrase": 77, "wrong-recovery-code": 77, "wrong-identity": 77, "ok": 0}
TYPES = {"recovery code": 2, "identity": 3}


def by_command(pod, secret):
    """A passphrase, by the command that a user would give. (code, word, what it says)"""
    done = pod.tazpod("unlock", inside=False, passphrase=secret.encode())
    message = done.stderr.decode()
    word = re.search(r"\[([a-z-]+)\]\s*$", message)
    return done.returncode, "ok" if done.returncode == 0 else word[1] if word else message


def by_pipe(pod, text):
    """What the opener says to it, with no command in between that would look at it first."""
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "wb") as pipe:
        pipe.write(text)
        pipe.close()
        with Client(pod.place.socket) as client:
            reply = client.ask(UNLOCK, [reader])
    assert reply, pod.log()
    return reply["code"], reply["word"] or "ok"


def order(kind, secret):
    """docs/control-protocol.md, "Order": OPEN with a credential of that type."""
    def credential(kind, secret):
        return struct.pack("=BBHI1024s", kind, 0, len(secret), 0, secret)

    return (struct.pack("=BBBBB3sIIQ32s", 0, 1, 1, 0, 255, b"", 0, 0, 0, b"")
            + credential(kind, secret) + credential(0, b""))


def answers(pod, kind, secret):
    """(code, word) of each way there is to give it."""
    if kind != "passphrase":
        return [by_pipe(pod, order(TYPES[kind], bytes.fromhex(secret)))]
    if 0 < len(secret.encode()) <= 1024 and "\0" not in secret:
        return [by_command(pod, secret)]
    return [by_command(pod, secret), by_pipe(pod, secret.encode())]


def test_every_vector_opens_or_is_refused_by_its_word(start, make_place, vectors):
    out, manifest = vectors
    place = make_place(size="128m")
    pod = start(place=place).ready().create()
    pod.ok("lock")
    wrong, seen = [], set()
    for item in manifest:
        # They are generations of a few vaults, in no order. That is the next test's matter.
        place.vault.with_name("vault.tpv.seen").unlink(missing_ok=True)
        place.vault.write_bytes((out / item["file"]).read_bytes())
        # Many of them are one vault, in no order: none is to be older than the one before.
        place.vault.with_name("vault.tpv.seen").unlink(missing_ok=True)
        kind, secret = item["credential"]["type"], item["credential"]["secret"]
        for code, word in answers(pod, kind, secret):
            seen.add((kind, word))
            if (code, word) != (CODES[item["expect"]], item["expect"]):
                wrong.append(f"{item['file']} ({item['why']}): {code} {word}, not {item['expect']}")
            elif word == "ok":
                same(item["tree"], in_ram(place.secrets))
            if code == 0:
                pod.ok("lock", inside=False)
        if place.left_in_ram():
            wrong.append(f"{item['file']}: left {place.left_in_ram()}")
    assert not wrong, "\n".join(wrong)
    assert len(manifest) > 300
    assert {word for _, word in seen} == set(CODES), "a word without a vector"
    assert {kind for kind, word in seen if word == "ok"} == {"passphrase", *TYPES}


def test_a_generation_put_back_is_older_and_opens_when_it_is_accepted(start, place, vectors):
    out, manifest = vectors
    trees = {item["file"]: item["tree"] for item in manifest if item["part"] == "good"}
    pod = start(place=place).ready().create()
    pod.ok("lock")
    secret = manifest[0]["credential"]["secret"].encode()
    for number, flags, code in ((1, (), 0), (2, (), 0), (1, (), 75), (1, ("--accept-older",), 0)):
        name = f"good-generation-{number}-of-2.tpv"
        place.vault.write_bytes((out / name).read_bytes())
        done = pod.tazpod("unlock", *flags, inside=False, passphrase=secret)
        assert done.returncode == code, (number, flags, done.stderr)
        if code == 0:
            same(trees[name], in_ram(place.secrets))
            pod.ok("lock", inside=False)
        else:
            assert done.stderr.rstrip().endswith(b"[older]") and not place.left_in_ram()
