#!/usr/bin/python3
"""A second reader and writer of vault files, made from docs/vault-format.md alone.

It shares no line with the program it checks, so a mistake in one of the two
shows as a difference. Every field of a header, slot or stream can be given by
the caller: that is how a vector breaks exactly one rule.

It opens slots of all three types. The one thing left out is `kdf-memory`: it depends on the
container, not on the file.

Most rules have a name, and a reader can be told to let one of them pass (waiving). A file that opens
then, and only then, broke that rule and no other.
"""
import argparse
import collections
import contextlib
import decimal
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


EMPTY, PASSPHRASE, CODE, IDENTITY = range(4)   # types of slots
# What opens a vault: `secret` is a passphrase, the 20 bytes of a recovery code, or the 32 of an X25519
# secret key.
Credential = collections.namedtuple("Credential", "type secret")
NOT_OPENED = {PASSPHRASE: "wrong-passphrase", CODE: "wrong-recovery-code", IDENTITY: "wrong-identity"}


class VaultError(Exception):
    """A refusal; `word` is the error word of the specification, `rule` the name of what was broken."""

    def __init__(self, word, rule):
        super().__init__(f"{word}: {rule}")
        self.word, self.rule = word, rule


_waived = set()


@contextlib.contextmanager
def waiving(*rules):
    """Within it these are not held against a file."""
    _waived.update(rules)
    try:
        yield
    finally:
        _waived.difference_update(rules)


def hold(fine, word, rule):
    """The file is refused with this word where it breaks the rule."""
    if not fine and rule not in _waived:
        raise VaultError(word, rule)


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


# ---- codes as text ---------------------------------------------------------

DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CONTEXTS = {CODE: b"tazpod recovery code", IDENTITY: b"tazpod identity", "recipient": b"tazpod recipient"}
PREFIXES = {CODE: "", IDENTITY: "TAZPOD-IDENTITY-", "recipient": "tazpod-recipient-"}
SIZES = {CODE: 20, IDENTITY: 32, "recipient": 32}


def base32(data):
    count = -(-len(data) * 8 // 5)
    value = int.from_bytes(data, "big") << count * 5 - len(data) * 8
    return "".join(DIGITS[value >> 5 * n & 31] for n in reversed(range(count)))


def spell(kind, data):
    """The text of a recovery code, an identity or its public key."""
    digits, check = base32(data), base32(blake(16, CONTEXTS[kind] + data))[:4]
    return PREFIXES[kind] + "-".join([*(digits[n:n + 4] for n in range(0, len(digits), 4)), check])


def unspell(kind, text):
    """Its bytes, or ValueError."""
    if not text.startswith(PREFIXES[kind]):
        raise ValueError("another kind of code")
    digits = "".join(text.removeprefix(PREFIXES[kind]).replace("-", "").split()).upper().translate(
        str.maketrans("OIL", "011"))
    size, value = SIZES[kind], 0
    for digit in digits[:-4]:
        value = value << 5 | DIGITS.index(digit)
    spare = len(digits[:-4]) * 5 - size * 8
    if not 0 <= spare < 5 or value & (1 << spare) - 1:
        raise ValueError("length of a code")
    data = (value >> spare).to_bytes(size, "big")
    if base32(blake(16, CONTEXTS[kind] + data))[:4] != digits[-4:]:
        raise ValueError("checksum of a code")
    return data


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
                stream_header=None, mark=None, pad=b""):
    """The bytes of a vault file; `pad` is what no header has, between slots and sum. `slots` are keyword arguments for make_slot."""
    dk = dk or rnd("dk", 32)
    vault_id = vault_id or rnd("vault_id", 16)
    fsalt = fsalt or rnd(f"fsalt {gen}", 32)
    stream_header = stream_header or rnd(f"stream {gen}", 24)
    nslots = len(slots) if nslots is None else nslots
    hlen = 112 + 200 * nslots + 48 + len(pad) if hlen is None else hlen
    header = HEAD.pack(magic, version, hlen, suite, comp, nslots, flags, vault_id, gen, saved_at,
                       fsalt, rescue_pk or rescue_key(dk, vault_id))
    for place, slot in enumerate(slots):
        header += make_slot(dk, suite, version, vault_id, place, rnd, **slot)
    header += pad
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
    """Steps 2 to 4: everything that can be said without a credential."""
    hold(data[:8] == MAGIC, "not-a-vault", "magic")
    hold(len(data) >= 16, "truncated", "cut in the header")
    version, hlen = int.from_bytes(data[8:10], "little"), int.from_bytes(data[10:12], "little")
    hold(version <= 1, "newer-version", "version above 1")
    hold(version >= 1, "damaged-header", "version 0")
    hold(1 <= data[14] <= 8, "damaged-header", "nslots")
    hold(hlen == 112 + 200 * data[14] + 48, "damaged-header", "hlen")
    hold(len(data) >= hlen, "truncated", "cut in the header")
    head = dict(zip(HEAD_FIELDS, HEAD.unpack_from(data)))
    raw = data[:hlen]
    hold(blake(16, raw[:-48]) == raw[-48:-32], "damaged-header", "sum")
    hold(head["suite"] == 1, "altered-header", "suite")
    hold(head["comp"] in (0, 1), "altered-header", "comp")
    hold(head["flags"] == 0, "altered-header", "flags")
    head["raw"], head["slots"] = raw, []
    for place in range(head["nslots"]):
        one = raw[112 + 200 * place:312 + 200 * place]
        slot = dict(zip(SLOT_FIELDS, SLOT.unpack(one)), raw=one)
        check_slot(slot, place)
        head["slots"].append(slot)
    return head


def is_label(label):
    try:
        text = label.rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return not any(ord(c) < 32 or ord(c) == 127 for c in text)     # a zero inside is one of them


def check_slot(slot, place):
    """Step 4 for one slot: its form, then its cost."""
    kind, ops, mem = slot["type"], slot["ops"], slot["mem"]
    hold(kind <= 3, "altered-header", "slot type")
    hold(slot["index"] == place, "altered-header", "slot index")
    zeros = [slot["z2"], slot["z12"]]
    if kind in (PASSPHRASE, CODE):
        zeros += slot["recipient"] + slot["wrapped"][72:]
    if kind == IDENTITY:
        zeros += [ops, mem, *slot["salt"]]
    if kind == EMPTY:
        zeros += slot["raw"][2:]
    hold(not any(zeros), "altered-header", "slot zeros")
    hold(kind == EMPTY or is_label(slot["label"]), "altered-header", "slot label")
    if kind in (PASSPHRASE, CODE):
        hold(1 <= ops <= 16, "kdf-limit", "ops")
        hold(8192 <= mem <= 1 << 20, "kdf-limit", "mem")
        hold(ops * mem <= 4 << 20, "kdf-limit", "ops times mem")


def open_slot(head, slot, credential):
    """The data key, or None where the slot is not this credential's."""
    ctx = slot_context(head["suite"], head["version"], head["vault_id"], slot["raw"])
    if credential.type == IDENTITY:
        if slot["recipient"] != na.crypto_scalarmult_base(credential.secret):
            return None
        try:
            dk = na.crypto_box_seal_open(slot["wrapped"], slot["recipient"], credential.secret)
        except Exception:
            raise VaultError("altered-header", "sealed box") from None
        hold(hmac_lib.compare_digest(blake(24, b"vault1 slot" + ctx, dk), slot["commit"]),
             "altered-header", "commit of an identity slot")
        return dk
    kek, ck = derive(credential.secret, slot["salt"], slot["ops"], slot["mem"])
    if not hmac_lib.compare_digest(blake(24, b"vault1 slot" + ctx, ck), slot["commit"]):
        return None
    try:
        return na.crypto_aead_xchacha20poly1305_ietf_decrypt(
            slot["wrapped"][24:72], b"vault1 wrap" + ctx, slot["wrapped"][:24], kek)
    except Exception:
        raise VaultError("altered-header", "wrapped key") from None


def unlock(head, credential):
    """Steps 5 and 6: the data key, once it has proven the header."""
    if credential.type == PASSPHRASE:
        hold(len(credential.secret) > 0, "empty-passphrase", "length of the passphrase")
        hold(len(credential.secret) <= 1024, "long-passphrase", "length of the passphrase")
        hold(b"\0" not in credential.secret, "wrong-passphrase", "NUL in the passphrase")
    for slot in head["slots"]:
        dk = open_slot(head, slot, credential) if slot["type"] == credential.type else None
        if dk is not None:
            break
    else:
        raise VaultError(NOT_OPENED[credential.type], "no slot matches")
    raw, vault_id = head["raw"], head["vault_id"]
    hold(hmac_lib.compare_digest(blake(32, raw[:-32], header_key(dk, vault_id)), raw[-32:]),
         "altered-header", "hmac")
    hold(head["rescue_pk"] == rescue_key(dk, vault_id), "altered-header", "rescue_pk")
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


def read_vault(data, credential, room=ROOM):
    """(header fields, tar bytes), or VaultError. list_tar checks what the tar holds. A credential
    that is bytes is a passphrase."""
    head = read_header(data)
    dk = unlock(head, credential if isinstance(credential, Credential)
                else Credential(PASSPHRASE, credential))
    key = stream_key(dk, head["vault_id"], head["fsalt"], head["gen"])
    packed = open_stream(data, head["hlen"], key, blake(32, head["raw"]))
    # Beside the content, each of 65,536 entries may have a header and a pax record.
    return head, zstd_unpack(packed, room + (256 << 20)) if head["comp"] else packed


# ---- the archive -----------------------------------------------------------

ATTRIBUTES = ("SCHILY.xattr.", "LIBARCHIVE.xattr.", "SCHILY.acl.", "SCHILY.fflags")
TYPES = {b"0": "file", b"5": "dir", b"2": "symlink"}
CODES = {word: code for code, word in TYPES.items()}


def tar_entry(name, type="file", mode=0o600, content=b"", linkname="", mtime_ns=1700000000 * 10**9,
              size=None, pax=None, form=tarfile.PAX_FORMAT):
    """One entry; `type` is a word of TYPES or any type byte of tar."""
    mtime, fraction = divmod(mtime_ns, 10**9)
    if fraction or mtime < 0:
        mtime, pax = 0, {"mtime": f"{decimal.Decimal(mtime_ns).scaleb(-9):f}", **(pax or {})}
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


def number(field):
    """Octal; a writer that needs more digits puts the number into a pax record."""
    return int(field.strip(b" \0") or b"0", 8)


def tar_blocks(tar):
    """(pax records, header block, size, content) for each entry."""
    pos, pax = 0, {}
    hold(tar, "bad-entry", "empty P")
    while tar:
        block = tar[pos:pos + 512]
        if len(block) < 512:
            raise ValueError("no end of archive")
        if not any(block):
            if tar[pos:].strip(b"\0"):
                raise ValueError("bytes after the end of the archive")
            return
        if number(block[148:156]) != sum(block[:148]) + 256 + sum(block[156:]):
            raise ValueError("header checksum")
        size = int(pax.get("size", b"-1"))
        if size < 0:
            size = number(block[124:136])
        content = tar[pos + 512:pos + 512 + size]
        pos += 512 + size + -size % 512
        if block[156:157] == b"x":
            pax = pax_records(content)
            continue
        yield pax, block, size, content
        pax = {}


def utf8(raw, rule):
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        hold(False, "bad-entry", rule)
        return raw.decode("utf-8", "surrogateescape")


def has_control(name):
    return any(ord(c) < 32 or ord(c) == 127 for c in name)


def check_name(raw, is_dir):
    name = utf8(raw[:-1] if is_dir and raw.endswith(b"/") else raw, "name in UTF-8")
    parts = name.split("/")
    hold(not has_control(name), "bad-entry", "control byte in a name")
    hold(not any(p in ("", ".", "..") for p in parts), "bad-entry", "components of a name")
    hold(len(raw.rstrip(b"/")) <= 1024, "bad-entry", "length of a name")
    hold(all(len(os.fsencode(p)) <= 255 for p in parts), "bad-entry", "length of a component")
    hold(len(parts) <= 32, "bad-entry", "number of components")
    return name


def check_link(name, raw):
    target = utf8(raw, "target in UTF-8")
    parts = [part for part in target.split("/") if part not in ("", ".")]
    ups = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    hold(target != "", "bad-entry", "empty target")
    hold(not target.startswith("/"), "bad-entry", "absolute target")
    hold(len(raw) <= 1024, "bad-entry", "length of a target")
    hold(not has_control(target), "bad-entry", "control byte in a target")
    hold(".." not in parts[ups:], "bad-entry", "target that goes up after going down")
    hold(ups <= name.count("/"), "bad-entry", "target above the root")
    return target


def pax_time(value):
    """Nanoseconds of a decimal number of seconds, exactly."""
    return int(decimal.Decimal(value.decode("ascii")) * 10**9)


def directory_of(name):
    """The directory an entry stands in. Only with a rule waived is there anything to resolve."""
    return os.path.normpath(name.rpartition("/")[0] or "/").lstrip("/").removeprefix(".").lstrip("/")


def read_entry(pax, block, size, content):
    """The fields of one entry as they are stored, its own rules held."""
    kind = TYPES.get(block[156:157])
    raw = pax.get("path")
    if raw is None:
        prefix = block[345:500].split(b"\0")[0]
        raw = (prefix + b"/" if prefix else b"") + block[:100].split(b"\0")[0]
    name = check_name(raw, kind == "dir")
    mode = number(block[100:108])
    hold(kind is not None, "bad-entry", "type")
    hold(not mode & 0o7000, "bad-entry", "setuid, setgid, sticky")
    hold(not any(k.startswith("GNU.sparse.") for k in pax), "bad-entry", "sparse")
    hold(not any(k.startswith(ATTRIBUTES) for k in pax), "bad-entry", "attribute")
    hold(len(content) == size, "bad-entry", "content of another size")
    link = ""
    if kind == "symlink":
        link = check_link(name, pax.get("linkpath", block[157:257].split(b"\0")[0]))
    return {"name": name, "type": kind, "mode": mode, "size": size, "content": content, "linkname": link,
            "mtime_ns": pax_time(pax["mtime"]) if "mtime" in pax else number(block[136:148]) * 10**9,
            "uid": int(pax.get("uid", number(block[108:116]))), "gid": int(pax.get("gid", number(block[116:124]))),
            "names": block[265:329].strip(b"\0"), "pax": pax}


def list_tar(tar, room=ROOM):
    """The entries, each a dict, in the order of the archive; section 6 holds for all of them."""
    entries, kinds, total = [], {"": "dir"}, 0
    try:
        for pax, block, size, content in tar_blocks(tar):
            total += size
            hold(total <= room, "no-room", "sum of sizes")
            entry = read_entry(pax, block, size, content)
            name = entry["name"]
            hold(name not in kinds, "bad-entry", "a name twice")
            hold(kinds.get(directory_of(name)) == "dir", "bad-entry", "an entry without its directory")
            hold(len(entries) < 65536, "bad-entry", "number of entries")
            kinds[name] = entry["type"]
            entries.append(entry)
    except (ValueError, decimal.InvalidOperation) as error:
        raise VaultError("bad-entry", str(error)) from None
    return entries


def pack_dir(root):
    """Entries of a directory on disk, in the order the specification asks for."""
    def walk(path, prefix):
        for raw in sorted(os.listdir(os.fsencode(path))):
            name, full = prefix + os.fsdecode(raw), os.path.join(path, os.fsdecode(raw))
            st = os.lstat(full)
            entry = {"name": name, "mode": stat.S_IMODE(st.st_mode), "mtime_ns": st.st_mtime_ns}
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
    parser.add_argument("passfile", help="the passphrase, or what --code and --identity say; one line end "
                                         "after it is dropped")
    parser.add_argument("dir", nargs="?", help="write: what to pack")
    parser.add_argument("--ops", type=int, default=3, help="write: Argon2id passes")
    parser.add_argument("--mem", type=int, default=65536, help="write: Argon2id memory in KiB")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--code", dest="kind", action="store_const", const=CODE, default=PASSPHRASE,
                       help="read: PASSFILE holds a recovery code")
    kinds.add_argument("--identity", dest="kind", action="store_const", const=IDENTITY,
                       help="read: PASSFILE is an identity file")
    args = parser.parse_args()
    if (args.verb == "write") != (args.dir is not None):
        parser.error("DIR belongs to write, and only to write")
    with open(args.passfile, "rb") as f:
        passphrase = f.read().removesuffix(b"\n")
    secret = passphrase
    if args.kind != PASSPHRASE:
        lines = [line for line in passphrase.decode().splitlines() if line.startswith(PREFIXES[args.kind])]
        secret = unspell(args.kind, lines[0])
    try:
        if args.verb == "read":
            with open(args.file, "rb") as f:
                entries = list_tar(read_vault(f.read(), Credential(args.kind, secret))[1])
            for entry in entries:
                entry["sha256"] = hashlib.sha256(entry.pop("content")).hexdigest()
                del entry["pax"], entry["names"]
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
