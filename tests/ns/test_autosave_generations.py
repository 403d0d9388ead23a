"""Which saves make an earlier generation of the file in place: the sealer itself, with jobs as process 1 gives
them (docs/control-protocol.md, "Worker channel"), so that the times can be anything."""

import os
import socket
import struct
import subprocess
import sys
import time

import pytest

from nsinit import MAGIC, OWNER, TOP, programs

sys.path.insert(0, str(TOP / "tests" / "vectors"))
import make_vectors as mv  # noqa: E402
import tpv  # noqa: E402

SEAL, REPLACE, AUTOSAVE = 5, 32, 64
WELL, LESS = b"\1", b"\2"
MARK, KEY, ID = b"of this process.", bytes(range(32)), b"the same vault.."
MINUTE = 60
JOB = struct.Struct("=IIIIII2048s32s16s")


def vault(gen, age, mark=MARK):
    return mv.vault(mv.ONE, dk=KEY, vault_id=ID, gen=gen, saved_at=int(time.time()) - age,
                    fsalt=mark + gen.to_bytes(16, "little"))


def seal(place, flags, interval=10 * MINUTE, keep=5, commit=WELL):
    """Saves a new content over the file in place."""
    header = place.vault.read_bytes()[:112 + 200 + 48]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader, writer = os.pipe()
    theirs.set_inheritable(True)
    worker = subprocess.Popen(["tazpod-worker", "seal", str(place.vault)], executable=programs() / "tazpod", stdin=reader,
                              stdout=subprocess.DEVNULL, close_fds=False, user=OWNER, group=OWNER, extra_groups=(), env={},
                              preexec_fn=lambda: os.dup2(theirs.fileno(), 3))
    theirs.close()
    os.close(reader)
    with ours:
        ours.settimeout(20)
        assert struct.unpack("=II", ours.recv(64)) == (MAGIC, SEAL)
        ours.send(JOB.pack(MAGIC, SEAL, flags, keep, interval * 1000, len(header), header, bytes(32), MARK) + KEY)
        os.write(writer, tpv.zstd_pack([tpv.make_tar([mv.file("token", os.urandom(20))])]))
        os.close(writer)
        ours.send(commit)
        result = ours.recv(4096)
    assert worker.wait(20) == 0, result[8:332]


@pytest.fixture
def beside(make_place):
    """Makes a place with these files: {place of a generation, 0 for the vault: content}."""

    def make(files):
        place = make_place()
        place.vault.parent.mkdir()
        for number, data in files.items():
            path = place.vault.with_name("vault.tpv" + (f".{number}" if number else ""))
            path.write_bytes(data)
            os.chown(path, OWNER, OWNER)
        os.chown(place.vault.parent, OWNER, OWNER)
        return place

    return make


def generations(place):
    """{place: generation}, 0 the vault."""
    return {int(path.name[10:] or 0): tpv.read_header(path.read_bytes())["gen"]
            for path in place.vault.parent.glob("vault.tpv*") if path.name[10:].isdigit() or path.name == "vault.tpv"}


NEW, KEPT, REPLACED = 8, {0: 8, 1: 7, 2: 6}, {0: 8, 1: 6}
CASES = {
    "within the interval": (AUTOSAVE, 9 * MINUTE, MARK, {}, REPLACED),
    "after it": (AUTOSAVE, 11 * MINUTE, MARK, {}, KEPT),
    "within another one": (AUTOSAVE, 9 * MINUTE, MARK, {"interval": 5 * MINUTE}, KEPT),
    "a kept one of the future": (AUTOSAVE, -5 * MINUTE, MARK, {}, KEPT),
    "what was found at the unlock": (AUTOSAVE, 9 * MINUTE, b"somebody else's.", {}, KEPT),
    "one that left something out": (AUTOSAVE, 9 * MINUTE, MARK, {"commit": LESS}, KEPT),
    "a save that was asked for": (0, 9 * MINUTE, MARK, {}, KEPT),
    "over one that left something out": (REPLACE, 9 * MINUTE, MARK, {}, REPLACED),
}


@pytest.mark.parametrize("case", CASES)
def test_an_autosave_makes_a_generation_now_and_then_and_every_other_save_makes_one(beside, case):
    flags, age, mark, how, wanted = CASES[case]
    place = beside({0: vault(7, 0, mark), 1: vault(6, age)})
    seal(place, flags, **how)
    assert generations(place) == wanted


def test_the_first_autosave_makes_one(beside):
    place = beside({0: vault(7, 0)})
    seal(place, AUTOSAVE)
    assert generations(place) == {0: 8, 1: 7}


def test_autosaves_each_minute_keep_one_in_ten(beside):
    """What is there grows a minute older before each."""
    place = beside({0: vault(1, 0)})
    for _ in range(34):
        for at in generations(place):
            path = place.vault.with_name("vault.tpv" + (f".{at}" if at else ""))
            old = tpv.read_header(path.read_bytes())
            path.write_bytes(vault(old["gen"], int(time.time()) - old["saved_at"] + MINUTE))
        seal(place, AUTOSAVE, interval=10 * MINUTE + 30)
    assert generations(place) == {0: 35, 1: 31, 2: 21, 3: 11, 4: 1}
