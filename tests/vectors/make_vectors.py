#!/usr/bin/python3
"""Write good vaults, and vaults that each break exactly one rule: make_vectors.py OUTDIR

vectors.json lists them: file, part (good, header, body, archive), credential (its type, and a passphrase
as it is typed, a code or an identity in hex), expect ("ok" or the error word), why, for good ones the tree,
for bad ones `rules`: what has to be overlooked for the file to open to its `tree` (see tpv.waiving). Where
there are none no reader could go on, or somebody without the key changed bytes of a good file. All random
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
PUBLIC = na.crypto_scalarmult_base(IDENTITY)
# A slot of each type, and what opens it.
PAPER = dict(COST, type=tpv.CODE, passphrase=CODE, label=b"paper")
MACHINE = {"type": tpv.IDENTITY, "recipient": PUBLIC, "label": b"machine"}
BY_CODE, BY_IDENTITY = ("recovery code", CODE.hex()), ("identity", IDENTITY.hex())
OF_TYPE = {"passphrase": (ME, ("passphrase", PASS)), "code": (PAPER, BY_CODE), "identity": (MACHINE, BY_IDENTITY)}
OTHER = dict(ME, passphrase=b"of somebody else", label=b"other")
VECTORS = []


def rnd(seed, label, size):
    return hashlib.shake_256(f"{seed}/{label}".encode()).digest(size)


def vault(entries=(), slots=(ME,), seed="a", **fields):
    tar = entries if isinstance(entries, bytes) else tpv.make_tar(entries)
    return tpv.write_vault(tar, slots, rnd=functools.partial(rnd, seed), **fields)


def add(part, file, data, expect, why="", passphrase=PASS, entries=None, credential=None, rules=()):
    kind, secret = credential or ("passphrase", passphrase)
    item = {"file": f"{part}-{file}.tpv", "part": part, "credential": {"type": kind, "secret": secret},
            "expect": expect, "why": why or file.replace("-", " "), "rules": list(rules)}
    if entries is not None:
        item["tree"] = [tree_item(**e) for e in entries]
    VECTORS.append((item, data))


def credential(item):
    """What opens a vector, for tpv."""
    kind, secret = item["credential"]["type"], item["credential"]["secret"]
    if kind == "passphrase":
        return tpv.Credential(tpv.PASSPHRASE, secret.encode())
    return tpv.Credential({"recovery code": tpv.CODE, "identity": tpv.IDENTITY}[kind], bytes.fromhex(secret))


def tree_item(name, type="file", mode=0o600, content=b"", linkname="", mtime_ns=1700000000 * 10**9, **_):
    item = {"name": name, "type": type if type in tpv.CODES else None, "mtime_ns": mtime_ns}
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
    def ok(name, entries=ONE, why="", passphrase=PASS, credential=None, **kw):
        add("good", name, vault(entries, **kw), "ok", why, passphrase, entries, credential)

    ok("empty", [])
    ok("one-file")
    ok("comp-0", comp=0)
    for size in (65536, 65537):
        entries = sized(size)
        ok(f"p-{size}", entries, f"P is {size} bytes after zstd")
    ok("p-65536-comp-0", [file("f", bytes(64000))], comp=0)
    eight = [dict(COST, passphrase=b"number %d" % n, label=b"slot %d" % n) for n in range(7)] + [ME]
    ok("eight-slots", slots=eight, why="the passphrase is in the last of eight slots")
    for name, (slot, credential) in OF_TYPE.items():
        ok(f"only-{name}", slots=[slot], credential=credential, seed="only")
        ok(f"{name}-behind-others", slots=[OTHER, dict(PAPER, passphrase=bytes(20)), {"type": 0},
                                           dict(MACHINE, recipient=na.crypto_scalarmult_base(bytes(31) + b"1")),
                                           slot], credential=credential)
    mixed = [OTHER, PAPER, MACHINE, {"type": 0}, dict(PAPER, passphrase=bytes(20)), ME,
             dict(MACHINE, recipient=na.crypto_scalarmult_base(bytes(31) + b"1")), {"type": 0}]
    for name, (_, credential) in OF_TYPE.items():
        ok(f"eight-mixed-slots-by-{name}", slots=mixed, credential=credential, why="two empty ones among them",
           seed=name)
    # The bytes of the code are a passphrase too, of another slot.
    ok("code-as-passphrase", slots=[dict(PAPER, passphrase=b"twenty bytes of text"),
                                    dict(ME, passphrase=b"twenty bytes of text")], passphrase="twenty bytes of text")
    ok("empty-slot", slots=[{"type": 0}, ME], why="a slot of type 0 before the passphrase")
    ok("label-of-32-bytes", slots=[dict(ME, label="é".encode() * 16)])
    ok("label-of-blanks", slots=[dict(ME, label="\u00a0\u2028\u200b".encode())], why="no control byte")
    ok("other-cost", slots=[dict(ME, ops=3, mem=16384)])
    ok("generation-1-of-2", why="beside the next one, the older generation of a vault", seed="twice")
    ok("generation-2-of-2", [*ONE, file("later")], gen=2, saved_at=1, seed="twice")
    ok("late-generation", gen=2**64 - 1, saved_at=2**40, seed="late")
    raw = {"hdrcharset": "BINARY"}
    ok("unicode-names", [folder("é", pax=raw), file("é/日本語", pax=raw), file("e\u0301", pax=raw),
                         dict(link("🔑", "é/日本語"), pax=raw)])
    ok("tree-of-40", tree_of_40())
    deep, wide, name = "/".join("d" * 31) + "/f", "w" * 255, "/".join(["n" * 204] * 5)
    ok("longest-target", [link("l", "/".join(["t" * 204] * 5))])
    ok("longest-names", [e for n in (deep, name, wide) for e in parents(n) + [file(n)]],
       "1,024 bytes, a component of 255, 32 components")
    ok("links", [folder("d"), link("d/dangling", "../x/./y"), link("d/top", ".././/token"), *ONE])
    ok("long-passphrase", slots=[dict(ME, passphrase="ß".encode() * 512)], passphrase="ß" * 512)
    ns = 10**9
    times = {"whole": 1700000000 * ns, "fraction": 1700000000123456789, "tenth": 1700000000100000000, "epoch": 0,
             "first": 1, "before": -86400 * ns, "before-with-fraction": -1250000000, "late": 2**33 * ns + 1}
    ok("times", [e for n, t in times.items() for e in (folder(f"dir-{n}", mtime_ns=t), file(f"dir-{n}/f", mtime_ns=t),
                                                       dict(link(f"link-{n}", "x"), mtime_ns=t))])
    ok("more-digits-than-nanoseconds", [file("token", mtime_ns=1123456789, pax={"mtime": "1.1234567899"})])
    ok("unknown-pax-keys", [file("token", pax={"X.y": "z", "SCHILY.ino": "7", "comment": "none"})])
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


def moved_slots(kind, slot, credential):
    """A slot of this type in another place: with its index, with the place's, and in another vault."""
    bad = functools.partial(add, "header", credential=credential)
    not_opened = tpv.NOT_OPENED[slot.get("type", tpv.PASSPHRASE)]
    # Of an identity's slot the box opens, and the commitment tells. That is no wrong credential.
    word = "altered-header" if kind == "identity" else not_opened
    two = vault(ONE, [OTHER, slot])
    first, second = two[112:312], two[312:512]
    bad(f"{kind}-slots-swapped", forge(two, 112, second + first), "altered-header", "indexes swapped too")
    bad(f"{kind}-slots-swapped-renumbered", forge(two, 112, second[:1] + b"\0" + second[2:]
                                                  + first[:1] + b"\1" + first[2:]), word)
    gap = vault(ONE, [{"type": 0}, slot])
    bad(f"{kind}-slot-moved", forge(gap, 112, gap[312:313] + b"\0" + gap[314:512] + bytes(1) + b"\1" + bytes(198)),
        word, "to the empty place in front of it, renumbered")
    copied = vault(ONE, [OTHER, {"type": 0}, slot])
    bad(f"{kind}-slot-copied", forge(copied, 312, copied[512:513] + b"\1" + copied[514:712]), "altered-header",
        "to an empty place as well, renumbered" + ("" if kind == "identity" else "; the true one opens, the hmac tells"))
    alien = vault(ONE, [slot], seed="b")[112:312]
    bad(f"{kind}-slot-of-another-vault", forge(vault(ONE, [slot]), 112, alien), word, "made with the same secret")
    flipped = vault(ONE, [slot])
    bad(f"{kind}-slot-commit-flipped", forge(flipped, 288, bytes([flipped[288] ^ 1])), word, "sum recomputed, hmac not")
    bad(f"{kind}-slot-wrapped-flipped", forge(flipped, 240, bytes([flipped[240] ^ 1])), "altered-header",
        "sum recomputed, hmac not")


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
    bad("hlen-plus-1", vault(ONE, pad=b"\0"), "damaged-header", "one byte too many, sum and hmac right",
        rules=["hlen"], entries=ONE)
    bad("hlen-of-two-slots", forge(forge(big, 10, b"\x30\x02", 360), 0, b""), "damaged-header",
        "hlen fits two slots, nslots is 1; sum right in both places")
    bad("nslots-0", vault(ONE, []), "damaged-header")
    bad("nslots-9", vault(ONE, [ME] * 9), "damaged-header", rules=["nslots"], entries=ONE)
    bad("nslots-0-of-1", forge(one, 14, b"\0"), "damaged-header")

    # Written by a holder of DK: sum, hmac and stream fit the broken field.
    packed = tpv.zstd_pack([tpv.make_tar(ONE)])
    for name, kw, rule in (("suite-2", {"suite": 2}, "suite"), ("flag-1", {"flags": 1}, "flags"),
                           ("flag-128", {"flags": 128}, "flags"), ("comp-2", {"comp": 2, "packed": packed}, "comp"),
                           ("rescue-pk", {"rescue_pk": rnd("x", "pk", 32)}, "rescue_pk")):
        bad(name, vault(ONE, **kw), "altered-header", "hmac right", rules=[rule], entries=ONE)

    # The slot beside the broken one opens the vault, so it is the form alone that is refused.
    def second(name, slot, rule, word="altered-header"):
        bad(name, vault(ONE, [ME, dict(slot)]), word, "hmac right, and slot 0 opens", rules=[rule], entries=ONE)

    for kind, (slot, _) in OF_TYPE.items():
        for name, kw, rule in (
                ("index-0", {"index": 0}, "slot index"), ("z2", {"z2": 1}, "slot zeros"),
                ("z12", {"z12": 1}, "slot zeros"), ("label-not-utf8", {"label": b"\xff"}, "slot label"),
                ("label-escape", {"label": b"\x1b[2J"}, "slot label"),
                ("label-delete", {"label": b"a\x7f"}, "slot label"),
                ("label-after-zero", {"label": b"a\0b"}, "slot label")):
            second(f"{kind}-slot-{name}", dict(slot, **kw), rule)
        if kind != "identity":
            second(f"{kind}-slot-recipient", dict(slot, recipient=PUBLIC), "slot zeros")
            second(f"{kind}-slot-tail", dict(slot, tail=b"\0" * 7 + b"\1"), "slot zeros")
    for name, kw in {"ops": dict(COST, mem=0, cost=1), "mem": dict(COST, ops=0, cost=1),
                     "salt": {"salt": bytes(15) + b"\1"}}.items():
        second(f"identity-slot-{name}", dict(MACHINE, **kw), "slot zeros")
    second("slot-type-4", dict(ME, type=4), "slot type")
    for name, at in (("z2", {"z2": 1}), ("label", {"label": b"x"}), ("commit", {"commit": bytes(23) + b"\1"})):
        second(f"empty-slot-{name}", dict(at, type=0), "slot zeros")
    for ops, mem, rule in ((0, 8192, "ops"), (17, 8192, "ops"), (1, 8191, "mem"), (1, 0, "mem"),
                           (1, (1 << 20) + 1, "mem"), (1, 4 << 20, "mem"), (5, 1 << 20, "ops times mem"),
                           (16, (1 << 18) + 1, "ops times mem")):
        for kind in ("passphrase", "code"):
            second(f"{kind}-slot-cost-{ops}-{mem}", dict(OF_TYPE[kind][0], ops=ops, mem=mem, cost=(1, 8192)),
                   rule, "kdf-limit")
    bad("cost-of-all-ones", vault(ONE, [dict(ME, ops=2**32 - 1, mem=2**32 - 1, cost=(1, 8192))]), "kdf-limit")

    # No slot opens, whatever else is right.
    words = tpv.NOT_OPENED
    for kind, (slot, credential) in OF_TYPE.items():
        for other, (_, key) in OF_TYPE.items():
            if other != kind:
                bad(f"{kind}-for-{other}", vault(ONE, [slot]), words[OF_TYPE[other][0].get("type", 1)],
                    f"a {other} for a vault with a slot for a {kind} alone", credential=key)
        bad(f"{kind}-slot-wrapped", vault(ONE, [dict(slot, wrapped=PUBLIC + bytes(40 if kind != "identity" else 48)
                                                     + bytes(8 if kind != "identity" else 0))]),
            "altered-header", "commit and hmac right", credential=credential)
    for kind, word in (("passphrase", words[1]), ("code", words[2]), ("identity", "altered-header")):
        slot, credential = OF_TYPE[kind]
        bad(f"{kind}-slot-commit", vault(ONE, [dict(slot, commit=bytes(24))]), word, "hmac right",
            credential=credential, rules=["commit of an identity slot"] if kind == "identity" else (),
            entries=ONE if kind == "identity" else None)
    bad("wrong-recovery-code", vault(ONE, [PAPER, ME, MACHINE]), words[2],
        credential=("recovery code", bytes(20).hex()))
    bad("wrong-identity", vault(ONE, [PAPER, ME, MACHINE]), words[3], credential=("identity", bytes(32).hex()))
    bad("only-empty-slots", vault(ONE, [{"type": 0}]), "wrong-passphrase")
    bad("empty-passphrase", one, "empty-passphrase", passphrase="")
    bad("long-passphrase", vault(ONE, [dict(ME, passphrase=b"p" * 1025)]), "long-passphrase",
        passphrase="p" * 1025, rules=["length of the passphrase"], entries=ONE)
    bad("passphrase-with-nul", vault(ONE, [dict(ME, passphrase=b"a\0b")]), "wrong-passphrase",
        passphrase="a\0b", rules=["NUL in the passphrase"], entries=ONE)

    # Changed by somebody without DK, who could only make sum right again.
    for name, new, word in (
            ("suite", b"\2", "altered-header"), ("comp", b"\0", "altered-header"),
            ("flags", b"\1", "altered-header"), ("vault_id", bytes(16), "wrong-passphrase"),
            ("gen", b"\2", "altered-header"), ("saved_at", b"\1", "altered-header"),
            ("fsalt", bytes(32), "altered-header"), ("rescue_pk", PUBLIC, "altered-header"),
            ("type", b"\2", "wrong-passphrase"), ("type", b"\3", "altered-header"),
            ("index", b"\1", "altered-header"), ("z2", b"\1", "altered-header"),
            ("ops", b"\1", "wrong-passphrase"), ("mem", b"\1\x20", "wrong-passphrase"),
            ("mem", b"\0\0\x40\0", "kdf-limit"), ("z12", b"\1", "altered-header"),
            ("salt", bytes(16), "wrong-passphrase"), ("label", b"mine", "wrong-passphrase"),
            ("wrapped", bytes(24), "altered-header"), ("commit", bytes(24), "wrong-passphrase")):
        bad(f"forged-{name}-{new[:4].hex()}", forge(one, place[name], new), word,
            f"{name} changed, sum recomputed, hmac not")
    for kind, (slot, credential) in OF_TYPE.items():
        moved_slots(kind, slot, credential)
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
    chunks = tpv.cut(tpv.make_tar([file("f", bytes(2 * 65536 - 1536))]))
    add("good", "last-chunk-empty", vault(comp=0, chunks=[(m, tpv.MESSAGE) for m, _ in chunks] + [(b"", tpv.FINAL)]), "ok",
        "behind a full one", entries=[file("f", bytes(2 * 65536 - 1536))])
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
    def bad(name, entries, rule=None, why="", word="bad-entry", **fields):
        add("archive", name, vault(entries, **fields), word, why, rules=[rule] if rule else (),
            entries=[e for e in entries if isinstance(e, dict)] if rule else None)

    raw = tarfile.USTAR_FORMAT             # puts the bytes of a name in the header as they are
    part, control, text = "components of a name", "control byte in a name", "name in UTF-8"
    for name, path, rule in (
            ("absolute", "/token", part), ("empty", "", part), ("root", ".", part), ("dot", "./token", part),
            ("dotdot", "..", part), ("dotdot-first", "../token", part), ("newline", "a\nb", control),
            ("escape", "\x1b[2J", control), ("delete", "a\x7fb", control), ("latin1", "caf\udce9", text),
            ("surrogate", "\udced\udca0\udc80", text), ("overlong", "\udcc0\udcaf", text)):
        # What these would stand in, or be, is in no archive or there before it: no reader can go on.
        bad(f"name-{name}", [file(path, form=raw)], None if path[:2] in ("", "..") else rule)
    bad("name-dotdot-inside", [folder("d"), file("d/../token")], part)
    bad("name-dot-inside", [folder("d"), file("d/./token")], part)
    bad("name-dotdot-last", [folder("d"), folder("d/..")], part)
    bad("name-empty-component", [folder("d"), file("d//f")], part)
    bad("name-1025", [*parents(n := "/".join(["n" * 204] * 4 + ["n" * 205])), file(n)], "length of a name")
    bad("component-256", [file("c" * 256)], "length of a component")
    bad("components-33", [*parents(n := "/".join("d" * 33)), file(n)], "number of components")
    bad("entries-65537", b"".join(
        tpv.tar_entry(f"{n}", content=b"") for n in range(65537)) + bytes(1024))
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x",
              "GNU.sparse.realsize": "1536"}
    for name, rule, kw in (
            ("hard-link", "type", {"type": b"1", "linkname": "token"}), ("char-device", "type", {"type": b"3"}),
            ("block-device", "type", {"type": b"4"}), ("fifo", "type", {"type": b"6"}),
            ("sparse-with-a-hole", "sparse", {"pax": sparse, "content":
                                              b"1\n1024\n512\n".ljust(512, b"\0") + bytes(512)}),
            ("setuid", "bits", {"mode": 0o4755}), ("setgid", "bits", {"mode": 0o2755}),
            ("sticky-file", "bits", {"mode": 0o1644}), ("sticky-dir", "bits", {"type": "dir", "mode": 0o1777}),
            ("setgid-dir", "bits", {"type": "dir", "mode": 0o2755}),
            ("setuid-dir", "bits", {"type": "dir", "mode": 0o4755}),
            ("xattr", "attribute", {"pax": {"SCHILY.xattr.user.x": "1"}}),
            ("xattr-of-a-dir", "attribute", {"type": "dir", "mode": 0o700, "pax": {"SCHILY.xattr.user.x": "1"}}),
            ("xattr-libarchive", "attribute", {"pax": {"LIBARCHIVE.xattr.user.x": "MQ"}}),
            ("acl", "attribute", {"pax": {"SCHILY.acl.access": "user::rw-,group::---,other::---,user:1:r--,mask::r--"}}),
            ("acl-default", "attribute", {"type": "dir", "mode": 0o700, "pax": {
                "SCHILY.acl.default": "user::rwx,group::---,other::---,user:1:r--,mask::r--"}}),
            ("file-flags", "attribute", {"pax": {"SCHILY.fflags": "nodump"}})):
        bad(name, [*ONE, dict(kw, name="x")], {"bits": "setuid, setgid, sticky"}.get(rule, rule))
    for name, at, target, rule in (
            ("absolute", "l", "/etc/passwd", "absolute target"), ("above", "l", "../x", "target above the root"),
            ("above-from-dir", "d/l", "../../x", "target above the root"),
            ("out-and-back", "l", "../d", "target above the root"),
            ("out-later", "d/l", "e/../../../d/e", "target that goes up after going down"),
            ("up-after-down", "l", "d/../token", "target that goes up after going down"),
            ("control", "l", "a\x1b[2J", "control byte in a target"), ("newline", "l", "a\nb", "control byte in a target"),
            ("1025", "l", "/".join(["t" * 204] * 4 + ["t" * 205]), "length of a target"),
            ("latin1", "l", "caf\udce9", "target in UTF-8"), ("empty", "l", "", "empty target")):
        how = {"form": raw} if name == "latin1" else {}
        bad(f"link-{name}", [folder("d"), dict(link(at, target), **how)], rule)
    bad("link-through-link", [folder("a"), folder("a/b"), link("a/b/up", "../.."),
                              link("x", "a/b/up/../..")], "target that goes up after going down",
        why="each inside when read as text alone, and the second leads above the root")
    bad("empty-p", b"", "empty P", comp=0)
    bad("name-twice", [*ONE, *ONE], "a name twice")
    bad("name-twice-dir", [folder("d"), folder("d")], "a name twice")
    bad("name-twice-link", [link("l", "x"), link("l", "x")], "a name twice")
    bad("name-twice-types", [folder("d"), file("d", form=raw)], "a name twice")
    under = "an entry without its directory"
    bad("through-link", [folder("d"), link("l", "d"), file("l/f")], under)
    bad("dir-through-link", [folder("d"), link("l", "d"), folder("l/e")], under)
    bad("link-through-dir-link", [folder("d"), link("l", "d"), link("l/e", "f")], under)
    bad("through-file", [*ONE, file("token/f")], under)
    bad("no-parent", [file("d/f")], under)
    bad("parent-later", [file("d/f"), folder("d")], under)
    bad("one-bad-of-many", [*tree_of_40(), link("z", "/")], "absolute target", why="the last of 41 entries is refused")
    bad("size-beyond-the-archive", tpv.tar_entry("token", size=100000) + bytes(1024))
    bad("size-of-exbibytes", tpv.tar_entry("token", pax={"size": str(1 << 62)}) + bytes(1024), word="no-room")
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
