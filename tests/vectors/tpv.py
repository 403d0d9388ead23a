#!/usr/bin/python3
"""A second reader and writer of vault files, made from docs/vault-format.md alone.

It shares no line with the program it checks, so a mistake in one of the two
shows as a difference. Every field of a header, slot or stream can be given by
the caller: that is how a vector breaks exactly one rule.

The one thing left out is `kdf-memory`: it depends on the container, not on the file.
"""
import argparse
import functools
import hashlib
import hmac as hmac_lib
import json
import os
import stat
import struct
import subprocess
import sys
import tarfile
import tempfile
import time

import argon2.low_level
import nacl.bindings as na

MAGIC = bytes.fromhex("89564c540d0a1a0a")
END = b"TPV\r\nEND"
CHUNK, ABYTES = 65536, na.crypto_secretstream_xchacha20poly1305_ABYTES
MESSAGE, PUSH, REKEY, FINAL = 0, 1, 2, 3
HEAD = struct.Struct("<8sHHBBBB16sQQ32s32s")
HEAD_FIELDS = ("magic version hlen suite comp nslots flags vault_id gen saved_at fsalt"
               " rescue_pk").split()
SLOT = struct.Struct("<BBHIII16s32s32s80s24s")
SLOT_FIELDS = "type index z2 ops mem z12 salt label recipient wrapped commit".split()
ROOM = 128 << 20            # bytes of content this reader is ready to hold


class VaultError(Exception):
    """A refusal; `word` is the error word of the specification."""

    def __init__(self, word, why):
        super().__init__(f"{word}: {why}")
        self.word = word


def blake(size, message, key=b""):
    return hashlib.blake2b(message, digest_size=size, key=key).digest()


@functools.lru_cache(maxsize=None)
def derive(passphrase, salt, ops, mem):
    k64 = argon2.low_level.hash_secret_raw(passphrase, salt, ops, mem, 1, 64,
                                           argon2.low_level.Type.ID, 19)
    return k64[:32], k64[32:]


def header_key(dk, vault_id):
    return blake(32, b"vault1 header" + vault_id, dk)


def stream_key(dk, vault_id, fsalt, gen):
    return blake(32, b"vault1 stream" + vault_id + fsalt + struct.pack("<Q", gen), dk)


def rescue_key(dk, vault_id):
    return na.crypto_box_seed_keypair(blake(32, b"vault1 rescue" + vault_id, dk))[0]


def slot_context(suite, version, vault_id, slot):
    return struct.pack("<BH", suite, version) + vault_id + slot[:96]


def end_mark(size):
    return END + struct.pack("<Q", size)


# ---- writing ---------------------------------------------------------------

def make_slot(dk, suite, version, vault_id, place, rnd, *, type=1, passphrase=b"", index=None,
              z2=0, ops=3, mem=65536, z12=0, salt=None, label=b"", recipient=bytes(32),
              tail=bytes(8), wrapped=None, commit=None, cost=None):
    """One slot. `cost` is what is really spent, where ops and mem are a lie."""
    index = place if index is None else index
    if type in (0, 3):
        ops, mem = (0 if cost is None else ops), (0 if cost is None else mem)
    if salt is None:
        salt = bytes(16) if type in (0, 3) else rnd(f"salt {place}", 16)
    front = SLOT.pack(type, index, z2, ops, mem, z12, salt, label, recipient, b"", b"")
    ctx = slot_context(suite, version, vault_id, front)
    key, made, made_commit = dk, bytes(80), bytes(24)
    if type == 3:
        # crypto_box_seal draws its own ephemeral key; by hand, so that it can be repeated.
        secret = rnd(f"ephemeral {place}", 32)
        public = na.crypto_scalarmult_base(secret)
        made = public + na.crypto_box(dk, blake(24, public + recipient), recipient, secret)
    elif type != 0:
        kek, key = derive(passphrase, salt, *(cost or (ops, mem)))
        nonce = rnd(f"nonce {place}", 24)
        made = nonce + na.crypto_aead_xchacha20poly1305_ietf_encrypt(
            dk, b"vault1 wrap" + ctx, nonce, kek) + tail
    if type != 0:
        made_commit = blake(24, b"vault1 slot" + ctx, key)
    return (front[:96] + (made if wrapped is None else wrapped)
            + (made_commit if commit is None else commit))


def write_stream(key, ad, header, chunks):
    """The sealed chunks, one list item each. `chunks` is a list of (plaintext, tag)."""
    state = na.crypto_secretstream_xchacha20poly1305_state()
    # Both directions start from the same state; only the pulling side lets us choose the header.
    na.crypto_secretstream_xchacha20poly1305_init_pull(state, header, key)
    return [na.crypto_secretstream_xchacha20poly1305_push(state, m, ad, tag) for m, tag in chunks]


def cut(packed):
    pieces = [packed[i:i + CHUNK] for i in range(0, len(packed), CHUNK)] or [b""]
    return [(p, MESSAGE) for p in pieces[:-1]] + [(pieces[-1], FINAL)]


def zstd_pack(parts):
    """Compress an iterable of bytes; a bomb need not exist in memory to be packed."""
    with tempfile.TemporaryFile() as out:
        with subprocess.Popen(["zstd", "-qc", "-T1"], stdin=subprocess.PIPE, stdout=out) as child:
            for part in parts:
                child.stdin.write(part)
        if child.returncode != 0:
            raise OSError("zstd failed")
        out.seek(0)
        return out.read()


def write_vault(tar, slots, *, rnd=lambda label, n: os.urandom(n), dk=None, magic=MAGIC, version=1,
                hlen=None, suite=1, comp=1, nslots=None, flags=0, vault_id=None, gen=1, saved_at=0,
                fsalt=None, rescue_pk=None, sum=None, hmac=None, packed=None, chunks=None,
                stream_header=None, mark=None):
    """The bytes of a vault file. `slots` are keyword arguments for make_slot."""
    dk = dk or rnd("dk", 32)
    vault_id = vault_id or rnd("vault_id", 16)
    fsalt = fsalt or rnd(f"fsalt {gen}", 32)
    stream_header = stream_header or rnd(f"stream {gen}", 24)
    nslots = len(slots) if nslots is None else nslots
    hlen = 112 + 200 * nslots + 48 if hlen is None else hlen
    header = HEAD.pack(magic, version, hlen, suite, comp, nslots, flags, vault_id, gen, saved_at,
                       fsalt, rescue_pk or rescue_key(dk, vault_id))
    for place, slot in enumerate(slots):
        header += make_slot(dk, suite, version, vault_id, place, rnd, **slot)
    header += sum or blake(16, header)
    header += hmac or blake(32, header, header_key(dk, vault_id))
    if packed is None:
        packed = zstd_pack([tar]) if comp else tar
    sealed = write_stream(stream_key(dk, vault_id, fsalt, gen), blake(32, header), stream_header,
                          chunks or cut(packed))
    body = header + stream_header + b"".join(sealed)
    return body + (end_mark(len(body) + 16) if mark is None else mark)


# ---- reading ---------------------------------------------------------------

def read_header(data):
    """Steps 2 to 4: everything that can be said without a passphrase."""
    if data[:8] != MAGIC:
        raise VaultError("not-a-vault", "magic")
    if len(data) < 16:
        raise VaultError("truncated", "the file ends inside the header")
    version, hlen = int.from_bytes(data[8:10], "little"), int.from_bytes(data[10:12], "little")
    if version != 1:
        raise VaultError("newer-version" if version > 1 else "damaged-header", "version")
    if not 1 <= data[14] <= 8 or hlen != 112 + 200 * data[14] + 48:
        raise VaultError("damaged-header", "nslots or hlen")
    if len(data) < hlen:
        raise VaultError("truncated", "the file ends inside the header")
    head = dict(zip(HEAD_FIELDS, HEAD.unpack_from(data)))
    raw = data[:hlen]
    if blake(16, raw[:-48]) != raw[-48:-32]:
        raise VaultError("damaged-header", "sum")
    for name, fine in (("suite", head["suite"] == 1), ("comp", head["comp"] in (0, 1)),
                       ("flags", head["flags"] == 0)):
        if not fine:
            raise VaultError("altered-header", name)
    head["raw"], head["slots"] = raw, []
    for place in range(head["nslots"]):
        one = raw[112 + 200 * place:312 + 200 * place]
        slot = dict(zip(SLOT_FIELDS, SLOT.unpack(one)), raw=one)
        check_slot(slot, place)
        head["slots"].append(slot)
    for slot in head["slots"]:
        ops, mem = slot["ops"], slot["mem"]
        if slot["type"] in (1, 2) and not (1 <= ops <= 16 and 8192 <= mem <= 1 << 20
                                           and ops * mem <= 4 << 20):
            raise VaultError("kdf-limit", f"ops {ops}, mem {mem} KiB")
    return head


def check_slot(slot, place):
    kind = slot["type"]
    try:
        printable = slot["label"].rstrip(b"\0").decode("utf-8").isprintable()
    except UnicodeDecodeError:
        printable = False
    zeros = [slot["z2"], slot["z12"]]
    if kind in (1, 2):
        zeros += slot["recipient"] + slot["wrapped"][72:]
    if kind == 3:
        zeros += [slot["ops"], slot["mem"], *slot["salt"]]
    if kind == 0:
        zeros += slot["raw"][2:]
    if kind > 3 or slot["index"] != place or any(zeros) or not printable:
        raise VaultError("altered-header", f"slot {place}")


def unlock(head, passphrase):
    """Steps 5 and 6: the data key, once it has proven the header."""
    if not 1 <= len(passphrase) <= 1024:
        raise VaultError("wrong-passphrase", "length")
    for slot in head["slots"]:
        if slot["type"] not in (1, 2):     # a recovery code is its 20 bytes here
            continue
        ctx = slot_context(head["suite"], head["version"], head["vault_id"], slot["raw"])
        kek, ck = derive(passphrase, slot["salt"], slot["ops"], slot["mem"])
        if hmac_lib.compare_digest(blake(24, b"vault1 slot" + ctx, ck), slot["commit"]):
            break
    else:
        raise VaultError("wrong-passphrase", "no slot matches")
    nonce, sealed = slot["wrapped"][:24], slot["wrapped"][24:72]
    try:
        dk = na.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, b"vault1 wrap" + ctx, nonce, kek)
    except Exception:
        raise VaultError("altered-header", "wrapped key") from None
    raw, vault_id = head["raw"], head["vault_id"]
    if not hmac_lib.compare_digest(blake(32, raw[:-32], header_key(dk, vault_id)), raw[-32:]):
        raise VaultError("altered-header", "hmac")
    if head["rescue_pk"] != rescue_key(dk, vault_id):
        raise VaultError("altered-header", "rescue_pk")
    return dk


def open_stream(data, at, key, ad):
    """Step 7. The last 16 bytes are set apart if they are the right end mark."""
    marked = data[-16:] == end_mark(len(data))
    body = data[at:len(data) - 16 if marked else len(data)]
    if len(body) < 24:
        raise VaultError("truncated", "stream header")
    state = na.crypto_secretstream_xchacha20poly1305_state()
    na.crypto_secretstream_xchacha20poly1305_init_pull(state, body[:24], key)
    out, step = [], CHUNK + ABYTES
    for start in range(24, len(body), step):
        last = start + step >= len(body)
        try:
            plain, tag = na.crypto_secretstream_xchacha20poly1305_pull(
                state, body[start:start + step], ad)
        except Exception:
            raise VaultError("truncated" if last and not marked else "damaged-body",
                             f"chunk at {at + start}") from None
        if tag not in (MESSAGE, FINAL) or (tag == MESSAGE and len(plain) < CHUNK):
            raise VaultError("damaged-body", f"tag {tag}, {len(plain)} bytes")
        out.append(plain)
        if tag == FINAL:
            behind = len(body) - start - step
            if not marked and behind <= 16:
                raise VaultError("truncated", "end mark")
            if not last:
                raise VaultError("damaged-body", "bytes after the final chunk")
            return b"".join(out)
    raise VaultError("truncated", "no final chunk")


def zstd_unpack(packed, limit):
    with tempfile.TemporaryFile() as source:
        source.write(packed)
        source.seek(0)
        with subprocess.Popen(["zstd", "-dqc"], stdin=source, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL) as child:
            tar = child.stdout.read(limit + 1)
            if len(tar) > limit:
                child.kill()
    if len(tar) > limit:
        raise VaultError("no-room", f"more than {limit} bytes unpacked")
    if child.returncode != 0:
        raise VaultError("bad-entry", "not a zstd stream")
    return tar


def read_vault(data, passphrase, room=ROOM):
    """(header fields, tar bytes), or VaultError. list_tar checks what the tar holds."""
    head = read_header(data)
    dk = unlock(head, passphrase)
    key = stream_key(dk, head["vault_id"], head["fsalt"], head["gen"])
    packed = open_stream(data, head["hlen"], key, blake(32, head["raw"]))
    # Beside the content, each of 65,536 entries may have a header and a pax record.
    return head, zstd_unpack(packed, room + (256 << 20)) if head["comp"] else packed


# ---- the archive -----------------------------------------------------------

TYPES = {b"0": "file", b"5": "dir", b"2": "symlink"}
CODES = {word: code for code, word in TYPES.items()}


def tar_entry(name, type="file", mode=0o600, content=b"", linkname="", mtime=1700000000,
              size=None, pax=None, form=tarfile.PAX_FORMAT):
    """One entry; `type` is a word of TYPES or any type byte of tar."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = CODES.get(type, type), mode, mtime
    info.size = len(content) if size is None else size
    info.linkname, info.pax_headers = linkname, pax or {}
    return info.tobuf(form, "utf-8", "surrogateescape") + content + bytes(-len(content) % 512)


def make_tar(entries):
    return b"".join(tar_entry(**e) for e in entries) + bytes(1024)


def pax_records(body):
    records = {}
    while body:
        size = int(body.split(b" ", 1)[0])
        if not 0 < size <= len(body) or body[size - 1:size] != b"\n":
            raise ValueError("pax record")
        key, value = body[:size - 1].split(b" ", 1)[1].split(b"=", 1)
        records[key.decode()], body = value, body[size:]
    return records


def tar_blocks(tar):
    """(pax records, header block, size, content) for each entry."""
    pos, pax = 0, {}
    if not tar:
        raise ValueError("no archive")
    while tar:
        block = tar[pos:pos + 512]
        if len(block) < 512:
            raise ValueError("no end of archive")
        if not any(block):
            if tar[pos:].strip(b"\0"):
                raise ValueError("bytes after the end of the archive")
            return
        if int(block[148:156].strip(b" \0"), 8) != sum(block[:148]) + 256 + sum(block[156:]):
            raise ValueError("header checksum")
        size = int(pax.get("size", b"-1"))
        if size < 0:
            size = int(block[124:136].strip(b" \0") or b"0", 8)
        content = tar[pos + 512:pos + 512 + size]
        pos += 512 + size + -size % 512
        if block[156:157] == b"x":
            pax = pax_records(content)
            continue
        yield pax, block, size, content
        pax = {}


def check_name(raw, is_dir):
    name = (raw[:-1] if is_dir and raw.endswith(b"/") else raw).decode("utf-8")
    parts = name.split("/")
    if any(p in ("", ".", "..") for p in parts) or any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise ValueError("name")
    if len(name.encode()) > 1024 or len(parts) > 32 or any(len(p.encode()) > 255 for p in parts):
        raise ValueError("name too long")
    return name


def check_link(name, target):
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    if (not target or target.startswith("/") or ups > name.count("/") or ".." in parts[ups:]
            or any(ord(c) < 32 or ord(c) == 127 for c in target) or len(target.encode()) > 1024):
        raise ValueError("link leaves the vault")


def list_tar(tar, room=ROOM):
    """The entries, each a dict, in the order of the archive; section 6 holds for all of them."""
    entries, kinds, total = [], {"": "dir"}, 0
    try:
        for pax, block, size, content in tar_blocks(tar):
            kind = TYPES.get(block[156:157])
            raw = pax.get("path")
            if raw is None:
                prefix = block[345:500].split(b"\0")[0]
                raw = (prefix + b"/" if prefix else b"") + block[:100].split(b"\0")[0]
            name = check_name(raw, kind == "dir")
            mode = int(block[100:108].strip(b" \0"), 8)
            link = pax.get("linkpath", block[157:257].split(b"\0")[0]).decode("utf-8")
            if kind is None or mode & 0o7000 or any(
                    k.startswith(("SCHILY.", "LIBARCHIVE.", "GNU.sparse.")) for k in pax):
                raise ValueError("type, mode bit or attribute")
            if name in kinds or kinds.get(name.rpartition("/")[0]) != "dir":
                raise ValueError("a name twice, or without its directory")
            if len(entries) == 65536:
                raise ValueError("too many entries")
            if kind == "symlink":
                check_link(name, link)
            total += size
            if total > room:
                raise VaultError("no-room", f"more than {room} bytes")
            if len(content) != size:
                raise ValueError("content ends early")
            kinds[name] = kind
            mtime = float(pax.get("mtime", b"nan"))
            entries.append({
                "name": name, "type": kind, "mode": mode,
                "mtime": mtime if mtime == mtime else int(block[136:148].strip(b" \0"), 8),
                "size": size, "content": content, "linkname": link})
    except ValueError as error:            # UnicodeDecodeError is one too
        raise VaultError("bad-entry", str(error)) from None
    return entries


def pack_dir(root):
    """Entries of a directory on disk, in the order the specification asks for."""
    def walk(path, prefix):
        for raw in sorted(os.listdir(os.fsencode(path))):
            name, full = prefix + os.fsdecode(raw), os.path.join(path, os.fsdecode(raw))
            st = os.lstat(full)
            entry = {"name": name, "mode": stat.S_IMODE(st.st_mode), "mtime": int(st.st_mtime)}
            if stat.S_ISDIR(st.st_mode):
                yield dict(entry, type="dir")
                yield from walk(full, name + "/")
            elif stat.S_ISLNK(st.st_mode):
                yield dict(entry, type="symlink", linkname=os.readlink(full))
            elif stat.S_ISREG(st.st_mode):
                with open(full, "rb") as f:
                    yield dict(entry, content=f.read())
            else:
                raise VaultError("bad-entry", name)
    return walk(root, "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("verb", choices=("read", "write"))
    parser.add_argument("file")
    parser.add_argument("passfile", help="the passphrase; one line end after it is dropped")
    parser.add_argument("dir", nargs="?", help="write: what to pack")
    parser.add_argument("--ops", type=int, default=3, help="write: Argon2id passes")
    parser.add_argument("--mem", type=int, default=65536, help="write: Argon2id memory in KiB")
    args = parser.parse_args()
    if (args.verb == "write") != (args.dir is not None):
        parser.error("DIR belongs to write, and only to write")
    with open(args.passfile, "rb") as f:
        passphrase = f.read().removesuffix(b"\n")
    try:
        if args.verb == "read":
            with open(args.file, "rb") as f:
                entries = list_tar(read_vault(f.read(), passphrase)[1])
            for entry in entries:
                entry["sha256"] = hashlib.sha256(entry.pop("content")).hexdigest()
            json.dump(entries, sys.stdout, indent=1)
            print()
        else:
            tar = make_tar(pack_dir(args.dir))
            list_tar(tar)                  # a writer never stores what a reader would refuse
            data = write_vault(tar, [{"passphrase": passphrase, "ops": args.ops, "mem": args.mem}],
                               saved_at=int(time.time()))
            with open(os.open(args.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as f:
                f.write(data)
    except VaultError as error:
        sys.exit(f"tpv.py: {args.file}: {error}")


if __name__ == "__main__":
    main()
