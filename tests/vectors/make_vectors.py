#!/usr/bin/python3
"""Write good vaults, and vaults that each break exactly one rule: make_vectors.py OUTDIR

vectors.json lists them: file, part (good, header, body, archive), passphrase,
expect ("ok" or the error word), why, and for good ones the tree. All random
values come from fixed seeds; bytes under comp 1 also depend on the zstd version.
`no-room` means: with at most 128 MiB for the open vault.
"""
import functools
import hashlib
import json
import os
import random
import sys
import tarfile
import unicodedata

import nacl.bindings as na

import tpv

PASS = "correct horse battery staple"
COST = {"ops": 1, "mem": 8192}
ME = dict(COST, passphrase=PASS.encode())
CODE = bytes(range(0xa0, 0xb4))            # what a recovery code spells
IDENTITY = hashlib.sha256(b"identity").digest()
VECTORS = []


def rnd(seed, label, size):
    return hashlib.shake_256(f"{seed}/{label}".encode()).digest(size)


def vault(entries=(), slots=(ME,), seed="a", **fields):
    tar = entries if isinstance(entries, bytes) else tpv.make_tar(entries)
    return tpv.write_vault(tar, slots, rnd=functools.partial(rnd, seed), **fields)


def add(part, file, data, expect, why="", passphrase=PASS, entries=None):
    item = {"file": f"{part}-{file}.tpv", "part": part, "passphrase": passphrase,
            "expect": expect, "why": why or file.replace("-", " ")}
    if entries is not None:
        item["tree"] = [tree_item(**e) for e in entries]
    VECTORS.append((item, data))


def tree_item(name, type="file", mode=0o600, content=b"", linkname="", **_):
    item = {"name": name, "type": type}
    if type == "symlink":
        return dict(item, target=linkname)
    item["mode"] = f"{mode:04o}"
    return dict(item, sha256=hashlib.sha256(content).hexdigest()) if type == "file" else item


def file(name, content=b"content\n", **kw):
    return dict(kw, name=name, content=content)


def folder(name, mode=0o700, **kw):
    return dict(kw, name=name, type="dir", mode=mode)


def link(name, target):
    return {"name": name, "type": "symlink", "mode": 0o777, "linkname": target}


def parents(name):
    parts = name.split("/")
    return [folder("/".join(parts[:n])) for n in range(1, len(parts))]


ONE = [file("token", b"s3cret\n")]


# ---- good ------------------------------------------------------------------

def sized(target):
    """One file whose compressed archive is exactly `target` bytes."""
    size = target
    for attempt in range(400):
        # Hex digits, since zstd stores plain noise as it is, in steps of a tar block.
        entries = [file("noise", random.Random(attempt // 20).randbytes(size).hex().encode())]
        off = target - len(tpv.zstd_pack([tpv.make_tar(entries)]))
        if off == 0:
            return entries
        size += off
    raise RuntimeError("no content packs to that size")


def tree_of_40():
    out = []
    for d in range(5):
        out += [folder(f"d{d}"), folder(f"d{d}/empty", 0o750)]
        out += [file(f"d{d}/f{n}", rnd("tree", f"{d}{n}", 999 * n), mode=(0o600, 0o640, 0o755)[n % 3])
                for n in range(4)]
        out += [link(f"d{d}/in", "f1"), link(f"d{d}/up", f"../d{(d + 1) % 5}/f2")]
    return out


def good():
    def ok(name, entries=ONE, why="", passphrase=PASS, **kw):
        add("good", name, vault(entries, **kw), "ok", why, passphrase, entries)

    ok("empty", [])
    ok("one-file")
    ok("comp-0", comp=0)
    for size in (65536, 65537):
        entries = sized(size)
        ok(f"p-{size}", entries, f"P is {size} bytes after zstd")
    ok("p-65536-comp-0", [file("f", bytes(64000))], comp=0)
    eight = [dict(COST, passphrase=b"number %d" % n, label=b"slot %d" % n) for n in range(7)] + [ME]
    ok("eight-slots", slots=eight, why="the passphrase is in the last of eight slots")
    ok("recovery-slot", slots=[dict(COST, type=2, passphrase=CODE, label=b"paper"), ME])
    ok("x25519-slot", slots=[{"type": 3, "recipient": na.crypto_scalarmult_base(IDENTITY),
                              "label": b"laptop"}, ME])
    ok("empty-slot", slots=[{"type": 0}, ME], why="a slot of type 0 before the passphrase")
    ok("label-of-32-bytes", slots=[dict(ME, label="é".encode() * 16)])
    ok("other-cost", slots=[dict(ME, ops=3, mem=16384)])
    ok("late-generation", gen=2**64 - 1, saved_at=2**40)
    raw = {"hdrcharset": "BINARY"}
    ok("unicode-names", [folder("é", pax=raw), file("é/日本語", pax=raw), file("e\u0301", pax=raw),
                         dict(link("🔑", "é/日本語"), pax=raw)])
    ok("tree-of-40", tree_of_40())
    deep, wide, name = "/".join("d" * 31) + "/f", "w" * 255, "/".join(["n" * 204] * 5)
    ok("longest-names", [e for n in (deep, name, wide) for e in parents(n) + [file(n)]],
       "1,024 bytes, a component of 255, 32 components")
    ok("links", [folder("d"), link("d/dangling", "../x/./y"), link("d/top", ".././/token"), *ONE])
    ok("long-passphrase", slots=[dict(ME, passphrase="ß".encode() * 512)], passphrase="ß" * 512)
    ok("owner-is-ignored", [file("token", pax={"uid": "12345", "uname": "nobody"})])
    ok("dir-modes", [folder("d", 0o500), file("d/f"), folder("none", 0), file("none/f", mode=0)])
    ok("hdrcharset-binary", [folder("é", pax={"hdrcharset": "BINARY"}),
                             file("é/ü", pax={"hdrcharset": "BINARY"})])


# ---- bad headers -----------------------------------------------------------

def forge(data, at, new, hlen=None):
    """A change by somebody without DK: the bytes, and `sum` made right again."""
    data = data[:at] + new + data[at + len(new):]
    hlen = hlen or int.from_bytes(data[10:12], "little")
    return data[:hlen - 48] + tpv.blake(16, data[:hlen - 48]) + data[hlen - 32:]


def field_places():
    """(name, offset) of each field in a header with one slot."""
    sizes = zip(tpv.HEAD_FIELDS + tpv.SLOT_FIELDS + ["sum", "hmac"],
                (8, 2, 2, 1, 1, 1, 1, 16, 8, 8, 32, 32, 1, 1, 2, 4, 4, 4, 16, 32, 32, 80, 24, 16, 32))
    at = 0
    for name, size in sizes:
        yield name, at
        at += size


def bad_headers():
    bad = functools.partial(add, "header")
    one = vault(ONE, [dict(ME, ops=2)])
    two = vault(ONE, [dict(ME, passphrase=b"other"), ME])
    big = vault([file("f", bytes(2000))], comp=0)
    place = dict(field_places())
    other = "f" * 32

    bad("wrong-passphrase", one, "wrong-passphrase", passphrase=PASS + " ")
    bad("not-normalised", vault(ONE, [dict(ME, passphrase="é".encode())]), "wrong-passphrase",
        passphrase=unicodedata.normalize("NFD", "é"))
    for name, at in place.items():
        bad(f"cut-before-{name}", one[:at], "truncated" if at else "not-a-vault")
        word = {"magic": "not-a-vault", "hmac": "altered-header"}.get(name, "damaged-header")
        bad(f"flipped-{name}", one[:at] + bytes([one[at] ^ 1]) + one[at + 1:], word,
            f"lowest bit of {name}, sum as it was")
    bad("cut-7", one[:7], "not-a-vault")
    bad("version-2", vault(ONE, version=2), "newer-version")
    bad("version-0", vault(ONE, version=0), "damaged-header")
    bad("hlen-minus-1", one[:10] + b"\x67\x01" + one[12:], "damaged-header")
    bad("hlen-beyond-file", one[:10] + b"\xe0\x06" + one[12:], "damaged-header")
    bad("hlen-plus-1-sum-right", forge(one, 10, b"\x69\x01"), "damaged-header")
    bad("hlen-of-two-slots", forge(forge(big, 10, b"\x30\x02", 360), 0, b""), "damaged-header",
        "hlen fits two slots, nslots is 1; sum right in both places")
    bad("nslots-0", vault(ONE, []), "damaged-header")
    bad("nslots-9", vault(ONE, [ME] * 9), "damaged-header")
    bad("nslots-0-of-1", forge(one, 14, b"\0"), "damaged-header")

    # Written by a holder of DK: sum, hmac and stream fit the broken field.
    for name, kw in {"suite-2": {"suite": 2}, "flag-1": {"flags": 1}, "flag-128": {"flags": 128},
                     "comp-2": {"comp": 2, "packed": b""},
                     "rescue-pk": {"rescue_pk": rnd("x", "pk", 32)}}.items():
        bad(name, vault(ONE, **kw), "altered-header", "hmac right")
    key = na.crypto_scalarmult_base(IDENTITY)
    for name, kw in {
            "type-4": {"type": 4}, "index-1": {"index": 1}, "z2": {"z2": 1}, "z12": {"z12": 1},
            "label-not-utf8": {"label": b"\xff"}, "label-escape": {"label": b"\x1b[2J"},
            "label-after-zero": {"label": b"a\0b"}, "recipient": {"recipient": key},
            "wrapped-tail": {"tail": b"\0" * 7 + b"\1"}, "wrapped": {"wrapped": bytes(72) + bytes(8)},
            }.items():
        bad(f"slot-{name}", vault(ONE, [dict(ME, **kw)]), "altered-header", "hmac right")
    for name, kw in {"type-3-ops": dict(COST, mem=0, cost=1), "type-3-mem": dict(COST, ops=0, cost=1),
                     "type-3-salt": {"salt": bytes(15) + b"\1"}}.items():
        bad(name, vault(ONE, [ME, dict(kw, type=3, recipient=key)]), "altered-header", "hmac right")
    bad("type-0-not-zero", vault(ONE, [ME, {"type": 0, "commit": bytes(23) + b"\1"}]),
        "altered-header", "hmac right")
    bad("commit", vault(ONE, [dict(ME, commit=bytes(24))]), "wrong-passphrase", "hmac right")
    for ops, mem in ((0, 8192), (17, 8192), (1, 8191), (1, 0), (1, (1 << 20) + 1), (1, 4 << 20),
                     (5, 1 << 20), (16, (1 << 18) + 1), (2**32 - 1, 2**32 - 1)):
        bad(f"cost-{ops}-{mem}", vault(ONE, [dict(ME, ops=ops, mem=mem, cost=(1, 8192))]), "kdf-limit")
    bad("cost-of-second-slot", vault(ONE, [ME, dict(ME, ops=17)]), "kdf-limit",
        "the first slot opens, the second is out of bounds")
    bad("cost-of-recovery-slot", vault(ONE, [ME, dict(ME, type=2, ops=17)]), "kdf-limit")
    bad("only-x25519", vault(ONE, [{"type": 3, "recipient": key}]), "wrong-passphrase")
    bad("only-empty-slots", vault(ONE, [{"type": 0}]), "wrong-passphrase")

    # Changed by somebody without DK, who could only make sum right again.
    for name, new, word in (
            ("suite", b"\2", "altered-header"), ("comp", b"\0", "altered-header"),
            ("flags", b"\1", "altered-header"), ("vault_id", bytes(16), "wrong-passphrase"),
            ("gen", b"\2", "altered-header"), ("saved_at", b"\1", "altered-header"),
            ("fsalt", bytes(32), "altered-header"), ("rescue_pk", key, "altered-header"),
            ("type", b"\2", "wrong-passphrase"), ("type", b"\3", "altered-header"),
            ("index", b"\1", "altered-header"), ("z2", b"\1", "altered-header"),
            ("ops", b"\1", "wrong-passphrase"), ("mem", b"\1\x20", "wrong-passphrase"),
            ("mem", b"\0\0\x40\0", "kdf-limit"), ("z12", b"\1", "altered-header"),
            ("salt", bytes(16), "wrong-passphrase"), ("label", b"mine", "wrong-passphrase"),
            ("wrapped", bytes(24), "altered-header"), ("commit", bytes(24), "wrong-passphrase")):
        bad(f"forged-{name}-{new[:4].hex()}", forge(one, place[name], new), word,
            f"{name} changed, sum recomputed, hmac not")
    first, second = two[112:312], two[312:512]
    bad("slots-swapped", forge(two, 112, second + first), "altered-header", "indexes swapped too")
    bad("slots-swapped-renumbered", forge(two, 112, second[:1] + b"\0" + second[2:] + first[:1]
                                          + b"\1" + first[2:]), "wrong-passphrase")
    alien = vault(ONE, seed="b")[112:312]
    bad("slot-of-another-vault", forge(vault(ONE), 112, alien), "wrong-passphrase", "same passphrase")
    bad("slot-added", forge(vault(ONE, [ME, {"type": 0}]), 312, tpv.make_slot(
        bytes(32), 1, 1, rnd("a", "vault_id", 16), 1, functools.partial(rnd, "b"),
        **dict(ME, passphrase=other.encode()))), "altered-header", passphrase=other)


# ---- bad bodies ------------------------------------------------------------

def bad_bodies():
    bad = functools.partial(add, "body")
    step = tpv.CHUNK + tpv.ABYTES
    entries = [file("f", rnd("a", "f", 3 * 65536 + 2000))]
    tar = tpv.make_tar(entries)
    base = vault(entries, comp=0)
    add("good", "four-chunks", base, "ok", "what the bad bodies are made of", entries=entries)
    even = vault([file("f", bytes(2 * 65536 - 1536))], comp=0)
    add("good", "last-chunk-full", even, "ok", entries=[file("f", bytes(2 * 65536 - 1536))])
    front, rest = base[:360 + 24], base[360 + 24:-16]
    parts = [rest[i:i + step] for i in range(0, len(rest), step)]
    plain = [m for m, _ in tpv.cut(tar)]

    def joined(parts, head=front):
        body = head + b"".join(parts)
        return body + tpv.end_mark(len(body) + 16)

    def tagged(*tags):
        return vault(tar, comp=0, chunks=list(zip(plain, tags)))

    bad("cut-after-header", base[:360], "truncated")
    bad("cut-in-stream-header", base[:370], "truncated")
    for n in range(4):
        bad(f"cut-after-chunk-{n}", base[:384 + n * step], "truncated")
        bad(f"cut-in-chunk-{n}", base[:384 + n * step + 1000], "truncated")
        bad(f"cut-to-16-bytes-of-chunk-{n}", base[:384 + n * step + 16], "truncated")
    for name, data in (("", base), ("-after-a-full-chunk", even)):
        bad(f"mark-missing{name}", data[:-16], "truncated")
        bad(f"mark-cut{name}", data[:-5], "truncated")
        bad(f"mark-length{name}", data[:-8] + (len(data) - 1).to_bytes(8, "little"), "truncated")
        bad(f"mark-magic{name}", data[:-16] + b"X" + data[-15:], "truncated")
    bad("cut-and-marked", joined(parts[:3]), "truncated", "cut at a chunk, with a right end mark")
    bad("no-chunk", joined([]), "truncated", "no chunk at all, with a right end mark")
    bad("final-missing", tagged(0, 0, 0, 0), "damaged-body", "the last chunk is TAG_MESSAGE")
    bad("final-twice", tagged(0, 0, 3, 3), "damaged-body")
    bad("final-early", tagged(0, 3, 0, 3), "damaged-body")
    bad("tag-push", tagged(1, 0, 0, 3), "damaged-body")
    bad("tag-rekey", tagged(0, 2, 0, 3), "damaged-body")
    bad("chunks-swapped", joined([parts[1], parts[0], *parts[2:]]), "damaged-body")
    bad("chunk-twice", joined([parts[0], *parts]), "damaged-body")
    bad("chunk-left-out", joined([parts[0], *parts[2:]]), "damaged-body")
    bad("short-middle-chunk", vault(tar, comp=0, chunks=[
        (plain[0], 0), (plain[1][:1000], 0), (plain[1][1000:], 0), *zip(plain[2:], (0, 3))]),
        "damaged-body")
    for n, part in enumerate(parts):
        flip = [part[:20] + bytes([part[20] ^ 1]) + part[21:] if i == n else p
                for i, p in enumerate(parts)]
        bad(f"flipped-chunk-{n}", joined(flip), "damaged-body")
    bad("flipped-stream-header", joined(parts, front[:-1] + bytes([front[-1] ^ 1])), "damaged-body")
    bad("bytes-after-mark", base + b"\n", "truncated")
    bad("bytes-after-mark-full-chunk", even + b"\n", "damaged-body")
    bad("many-bytes-after-mark", base + bytes(70000), "damaged-body")
    bad("two-marks", joined([rest, base[-16:]]), "damaged-body", "an old mark before the right one")
    bad("bytes-before-mark", joined([rest, b"\0"]), "damaged-body")
    bad("older-stream", joined(parts, vault(tar, comp=0, gen=2)[:360] + front[360:]), "damaged-body",
        "the stream of generation 1 under the header of generation 2")
    bad("stream-of-another-vault", joined(parts, vault(tar, comp=0, seed="b")[:360] + front[360:]),
        "damaged-body")
    packed = tpv.zstd_pack([tar])
    bad("not-zstd", vault(packed=rnd("a", "noise", 5000)), "bad-entry")
    bad("zstd-cut", vault(packed=packed[:-100]), "bad-entry")
    bad("not-tar", vault(rnd("a", "noise", 5120)), "bad-entry")
    bad("tar-cut", vault(tar[:-2048]), "bad-entry")
    bad("zstd-bomb", bomb(["zeros"], 300 << 20), "no-room", "one file of 300 MiB of zeros")


def bomb(names, size):
    def parts():
        for name in names:
            yield tpv.tar_entry(name, size=size)
            for _ in range(size >> 20):
                yield bytes(1 << 20)
        yield bytes(1024)
    return vault(packed=tpv.zstd_pack(parts()))


# ---- bad archives ----------------------------------------------------------

def bad_archives():
    def bad(name, entries, why="", **fields):
        add("archive", name, vault(entries, **fields), "bad-entry", why)

    raw = tarfile.USTAR_FORMAT             # puts the bytes of a name in the header as they are
    for name, path in {
            "absolute": "/etc/passwd", "empty-name": "", "root": ".", "dot": "./token",
            "dotdot": "..", "dotdot-first": "../token", "newline": "a\nb",
            "escape": "\x1b[2J", "delete": "a\x7fb", "latin1": "caf\udce9",
            "surrogate": "\udced\udca0\udc80", "overlong": "\udcc0\udcaf"}.items():
        bad(f"name-{name}", [file(path, form=raw)])
    bad("name-dotdot-inside", [folder("d"), file("d/../token")])
    bad("name-dot-inside", [folder("d"), file("d/./token")])
    bad("name-dotdot-last", [folder("d"), folder("d/..")])
    bad("name-empty-component", [folder("d"), file("d//f")])
    bad("name-1025", [*parents(n := "/".join(["n" * 204] * 4 + ["n" * 205])), file(n)])
    bad("component-256", [file("c" * 256)])
    bad("components-33", [*parents(n := "/".join("d" * 33)), file(n)])
    bad("entries-65537", b"".join(
        tpv.tar_entry(f"{n}", content=b"") for n in range(65537)) + bytes(1024))
    for name, kw in {
            "hard-link": {"type": b"1", "linkname": "token"}, "char-device": {"type": b"3"},
            "block-device": {"type": b"4"}, "fifo": {"type": b"6"},
            "sparse-with-a-hole": {"pax": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0",
                                           "GNU.sparse.name": "x", "GNU.sparse.realsize": "1536"},
                                   "content": b"1\n1024\n512\n".ljust(512, b"\0") + bytes(512)},
            "setuid": {"mode": 0o4755}, "setgid": {"mode": 0o2755}, "sticky-file": {"mode": 0o1644},
            "sticky-dir": {"type": "dir", "mode": 0o1777}, "setgid-dir": {"type": "dir", "mode": 0o2755},
            "xattr": {"pax": {"SCHILY.xattr.user.x": "1"}},
            "xattr-libarchive": {"pax": {"LIBARCHIVE.xattr.user.x": "MQ"}},
            "acl": {"pax": {"SCHILY.acl.access": "user::rw-,group::---,other::---,user:1:r--,mask::r--"}},
            "file-flags": {"pax": {"SCHILY.fflags": "nodump"}}}.items():
        bad(name, [*ONE, dict(kw, name="x")])
    for name, at, target in (("absolute", "l", "/etc/passwd"), ("above", "l", "../x"),
                             ("above-from-dir", "d/l", "../../x"), ("out-and-back", "l", "../d"),
                             ("out-later", "d/l", "e/../../../d/e"), ("up-after-down", "l", "d/../token")):
        bad(f"link-{name}", [folder("d"), link(at, target)])
    bad("link-through-link", [folder("a"), folder("a/b"), link("a/b/up", "../.."),
                              link("x", "a/b/up/../..")],
        why="each inside when read as text alone, and the second leads above the root")
    bad("empty-p", b"", comp=0)
    bad("name-twice", [*ONE, *ONE])
    bad("name-twice-dir", [folder("d"), folder("d")])
    bad("name-twice-types", [folder("d"), file("d", form=raw)])
    bad("through-link", [folder("d"), link("l", "d"), file("l/f")])
    bad("through-file", [*ONE, file("token/f")])
    bad("no-parent", [file("d/f")])
    bad("one-bad-of-many", [*tree_of_40(), link("z", "/")], why="the last of 41 entries is refused")
    add("archive", "sizes-sum", bomb("abcd", 60 << 20), "no-room", "four files of 60 MiB each")


def build():
    VECTORS.clear()
    for group in (good, bad_headers, bad_bodies, bad_archives):
        group()
    return list(VECTORS)


def main():
    if len(sys.argv) != 2:
        sys.exit("make_vectors.py: usage: make_vectors.py OUTDIR")
    os.makedirs(sys.argv[1], exist_ok=True)
    vectors = build()
    for item, data in vectors:
        with open(os.path.join(sys.argv[1], item["file"]), "wb") as f:
            f.write(data)
    with open(os.path.join(sys.argv[1], "vectors.json"), "w") as f:
        json.dump([item for item, _ in vectors], f, indent=1)


if __name__ == "__main__":
    main()
