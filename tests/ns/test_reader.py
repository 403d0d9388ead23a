"""What the C programs write, opened by the reader of tests/vectors, which is made from
docs/vault-format.md alone: every name, content, mode, time and link, by a slot of each type."""

import os
import pathlib
import random
import socket
import stat
import struct
import sys

import pytest

from nsinit import CREATE, OWNER, PASSPHRASE, TOP, UNLOCK, Client

sys.path.insert(0, str(TOP / "tests" / "vectors"))
import tpv  # noqa: E402

import nacl.bindings as na  # noqa: E402

CODE = bytes(range(20))
SECRET = bytes(range(32))
PUBLIC = na.crypto_scalarmult_base(SECRET)
KEY = 6
ADD, OPEN, MAKE = 3, 1, 2
NOBODY = (tpv.EMPTY, b"")


def order(op, current, fresh=NOBODY, label=b""):
    """docs/control-protocol.md, "Order"."""
    def credential(kind, secret):
        return struct.pack("=BBHI1024s", kind, 0, len(secret), 0, secret)

    return (struct.pack("=BBBBB3sIIQ32s", 0, 1, op, 0, 255, b"", 1, 8192, 0, label)
            + credential(*current) + credential(*fresh))


def ask(pod, kind, text, **fields):
    reader, writer = os.pipe()
    try:
        os.write(writer, text)
        os.close(writer)
        with Client(pod.place.socket) as client:
            reply = client.ask(kind, [reader], **fields)
    finally:
        os.close(reader)
    assert reply and reply["code"] == 0, (reply, pod.log())
    return reply


def read(place, credential=PASSPHRASE):
    header, archive = tpv.read_vault(place.vault.read_bytes(), credential)
    return header, tpv.list_tar(archive)


def on_disk(top):
    """As the reader tells it, of what is there: {name: (type, mode, mtime in ns, content or target)}."""
    found = {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for raw in folders + files:
            path = os.path.join(folder, raw)
            info = os.lstat(path)
            name = os.path.relpath(path, os.fsencode(top)).decode()
            if stat.S_ISLNK(info.st_mode):
                found[name] = ("symlink", None, info.st_mtime_ns, os.readlink(path).decode())
            elif stat.S_ISDIR(info.st_mode):
                found[name] = ("dir", info.st_mode & 0o7777, info.st_mtime_ns, b"")
            elif stat.S_ISREG(info.st_mode):
                found[name] = ("file", info.st_mode & 0o7777, info.st_mtime_ns, pathlib.Path(os.fsdecode(path)).read_bytes())
    return found


def as_stored(entries):
    return {e["name"]: (e["type"], None if e["type"] == "symlink" else e["mode"], e["mtime_ns"],
                        e["linkname"] if e["type"] == "symlink" else e["content"]) for e in entries}


def is_as_the_specification_says(entries):
    """What section 6 asks of a writer."""
    names = [e["name"].encode().split(b"/") for e in entries]
    assert names == sorted(names), "not in the byte order of their names, directories first"
    for e in entries:
        assert (e["uid"], e["gid"], e["names"]) == (0, 0, b""), e["name"]
        assert not {"atime", "ctime", "uname", "gname", "uid", "gid"} & set(e["pax"]), e["name"]
        if not e["name"].isascii():
            assert e["pax"]["hdrcharset"] == b"BINARY"


def give_to_owner(top):
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            os.chown(os.path.join(folder, name), OWNER, OWNER, follow_symlinks=False)


def set_time(path, ns):
    os.utime(path, ns=(ns, ns), follow_symlinks=False)


def test_every_kind_of_entry_is_stored_as_it_is(start, place):
    pod = start(place=place).ready().create()
    top = place.secrets
    for size in (0, 1, 511, 512, 513, 65536, 65537, 1 << 20, (1 << 20) + 1):
        place.write(f"of-{size}", random.Random(size).randbytes(size))
    for mode in (0o777, 0o640, 0o200, 0o000):
        place.write(f"mode-{mode:03o}", b"content", mode)
        (top / f"folder-{mode:03o}").mkdir()
    deep = top.joinpath(*["d" * 30] * 31)
    deep.mkdir(parents=True)
    (deep / "bottom").write_bytes(b"deep")
    for name in ("Schlüssel-日本", "e\u0301", "é", "🔑", " ", "a\\b", "n" * 255, "-rf", "ü" * 127):
        place.write(name, name.encode())
    os.symlink("of-1", top / "link")
    os.symlink("../of-1", top / "folder-777" / "up")
    os.symlink("Schlüssel-日本", top / "verbindung-ü")
    os.symlink("t/" * 511 + "t", top / "link-of-1023")
    os.symlink("nowhere", top / "dangling")
    os.link(top / "of-513", top / "second-name-of-513")
    (top / "sparse").touch()
    os.truncate(top / "sparse", 300000)
    times = {"past": 1, "fraction": 1_700_000_000_123_456_789, "tenth": 1_700_000_000_100_000_000,
             "whole": 1_700_000_000_000_000_000, "epoch": 0, "before": -1_000_000_000,
             "fraction-before": -1_250_000_000, "long-fraction-before": -86_400_123_456_789,
             "long-before": -86_400_000_000_000, "far": (1 << 33) * 10**9 + 1}
    for name, ns in times.items():
        set_time(place.write(f"time-{name}", b""), ns)
        (top / f"dir-time-{name}").mkdir()
        os.symlink("x", top / f"link-time-{name}")
        set_time(top / f"link-time-{name}", ns)
    give_to_owner(top)
    for name, ns in times.items():
        set_time(top / f"dir-time-{name}", ns)
    for mode in (0o777, 0o640, 0o200, 0o000):
        (top / f"folder-{mode:03o}").chmod(mode)
    there = on_disk(top)
    assert len(there) > 80
    pod.ok("save")
    header, entries = read(place)
    assert header["gen"] == 2 and header["comp"] == 1
    assert as_stored(entries) == there
    is_as_the_specification_says(entries)
    # Saved again it is the same, and after an unlock of it too.
    place.write("of-0", b"more")
    pod.ok("lock")
    assert read(place)[0]["gen"] == 3
    pod.unlock()
    stored = as_stored(read(place)[1])
    assert stored == on_disk(top) and stored["of-0"][3] == b"more"


def test_what_is_skipped_or_left_out_is_not_in_the_file(start, place):
    pod = start(place=place).ready().create()
    top = place.secrets
    place.write("token", b"kept")
    place.write("set-id", b"kept", 0o6755)
    os.mkfifo(top / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(top / "socket"))
    os.symlink("/etc/passwd", top / "absolute")
    os.symlink("../outside", top / "above")
    give_to_owner(top)
    # chown took the bits away.
    (top / "set-id").chmod(0o6755)
    pod.ok("save")
    entries = read(place)[1]
    assert [(e["name"], e["mode"], e["content"]) for e in entries] == [("set-id", 0o755, b"kept"), ("token", 0o600, b"kept")]


def grow(rnd, top, depth, room):
    """A random tree, as an owner could make it."""
    for _ in range(rnd.randrange(2, 9)):
        if not room:
            return
        room.pop()
        letters = "abc .-_ÄßЖ日\u0301🔑"
        name = "".join(rnd.choice(letters) for _ in range(rnd.choice((1, 3, 12, 40)))).strip(".") or "x"
        path = top / name
        if path.is_symlink() or path.exists():
            continue
        kind = rnd.random()
        if kind < 0.3 and depth < 8:
            path.mkdir()
            grow(rnd, path, depth + 1, room)
        elif kind < 0.4:
            os.symlink("../" * rnd.randrange(0, depth + 1) + rnd.choice(("x", "a/b", "./c", "d//e", "日本")), path)
        else:
            path.write_bytes(rnd.randbytes(rnd.choice((0, 3, 500, 4096, 70000))))
        if not path.is_symlink():
            path.chmod(rnd.choice((0o700, 0o755, 0o777)) if path.is_dir() else rnd.randrange(0o1000))
        set_time(path, rnd.randrange(-10**18, 4 * 10**18) if rnd.random() < 0.5 else rnd.randrange(2**32) * 10**9)


@pytest.mark.parametrize("seed", range(4))
def test_a_random_tree_is_stored_as_it_is(start, place, seed):
    pod = start(place=place).ready().create()
    grow(random.Random(seed), place.secrets, 0, [None] * 200)
    give_to_owner(place.secrets)
    there = on_disk(place.secrets)
    pod.ok("save")
    entries = read(place)[1]
    assert as_stored(entries) == there
    is_as_the_specification_says(entries)
    pod.ok("lock")
    pod.unlock()
    assert on_disk(place.secrets) == there


def test_an_empty_vault_is_an_archive_without_entries(start, place):
    start(place=place).ready().create()
    assert read(place)[1] == []


def test_the_slots_that_tazpod_makes_open_by_their_own_credential_alone(start, place):
    pod = start(place=place).ready()
    ask(pod, CREATE, order(MAKE, (tpv.PASSPHRASE, PASSPHRASE), (tpv.CODE, CODE)), ops=1, memory=8192)
    place.write("token", b"s3cret")
    pod.ok("save")
    ask(pod, KEY, order(ADD, (tpv.PASSPHRASE, PASSPHRASE), (tpv.IDENTITY, PUBLIC), "Maschine ü".encode()))
    ask(pod, KEY, order(ADD, (tpv.CODE, CODE), (tpv.PASSPHRASE, b"another one"), b"second"))
    header = read(place)[0]
    assert [slot["type"] for slot in header["slots"]] == [1, 2, 3, 1]
    assert [slot["label"].rstrip(b"\0").decode() for slot in header["slots"][2:]] == ["Maschine ü", "second"]
    assert header["slots"][2]["recipient"] == PUBLIC
    assert [(slot["ops"], slot["mem"]) for slot in header["slots"]] == [(1, 8192), (1, 8192), (0, 0), (1, 8192)]
    good = [PASSPHRASE, b"another one", tpv.Credential(tpv.CODE, CODE), tpv.Credential(tpv.IDENTITY, SECRET)]
    for credential in good:
        assert [e["content"] for e in read(place, credential)[1]] == [b"s3cret"]
    for credential, word in ((CODE + b"x", "wrong-passphrase"), (tpv.Credential(tpv.CODE, bytes(20)), "wrong-recovery-code"),
                             (tpv.Credential(tpv.IDENTITY, CODE + bytes(12)), "wrong-identity")):
        with pytest.raises(tpv.VaultError) as refusal:
            read(place, credential)
        assert refusal.value.word == word
    # What the reader opens tazpod does, and a save keeps the slots byte for byte.
    for credential in good[2:]:
        pod.ok("lock")
        ask(pod, UNLOCK, order(OPEN, credential))
    place.write("token", b"changed")
    pod.ok("save")
    again, entries = read(place, good[3])
    assert again["raw"][112:-48] == header["raw"][112:-48] and again["gen"] > header["gen"]
    assert again["fsalt"][16:] != header["fsalt"][16:]
    assert [e["content"] for e in entries] == [b"changed"]


def test_codes_and_identities_mean_the_same_to_both(start, place):
    pod = start(place=place).ready()
    ask(pod, CREATE, order(MAKE, (tpv.PASSPHRASE, PASSPHRASE), (tpv.CODE, CODE)), ops=1, memory=8192)
    place.write("token", b"s3cret")
    (place.work / "keys").mkdir()
    os.chown(place.work / "keys", OWNER, OWNER)
    recipient = pod.ok("key", "new-identity", str(place.work / "keys" / "machine")).strip()
    pod.ok("key", "add", "--recipient", recipient, "--label", "machine", passphrase=PASSPHRASE)
    pod.ok("lock")
    # Theirs, read here.
    lines = (place.work / "keys" / "machine").read_text().splitlines()
    secret = tpv.unspell(tpv.IDENTITY, next(line for line in lines if not line.startswith("#")))
    assert na.crypto_scalarmult_base(secret) == tpv.unspell("recipient", recipient)
    assert [e["name"] for e in read(place, tpv.Credential(tpv.IDENTITY, secret))[1]] == ["token"]
    # Ours, read there.
    (place.work / "keys" / "ours").write_text(tpv.spell(tpv.IDENTITY, secret) + "\n")
    pod.ok("unlock", "--identity-file", str(place.work / "keys" / "ours"))
    pod.ok("lock")
    pod.ok("unlock", "--recovery", passphrase=tpv.spell(tpv.CODE, CODE).lower().encode())
    pod.ok("lock")
    other = pod.tazpod("unlock", "--recovery", passphrase=tpv.spell(tpv.CODE, bytes(20)).encode())
    assert other.returncode == 77 and b"[wrong-recovery-code]" in other.stderr


def test_every_byte_of_a_saved_file_counts(start, place):
    """The control: the reader refuses what it opened, once a byte of it is another."""
    pod = start(place=place).ready().create()
    place.write("token", b"s3cret" * 20000)
    pod.ok("save")
    data = place.vault.read_bytes()
    read(place)
    for at in [*range(0, 360, 7), *range(360, len(data) - 16, len(data) // 50)]:
        with pytest.raises(tpv.VaultError):
            tpv.list_tar(tpv.read_vault(data[:at] + bytes([data[at] ^ 1]) + data[at + 1:], PASSPHRASE)[1])
