"""The C programs against the independent writer and reader of tests/vectors.

Every vector goes through the real opener and unpacker of one process 1: a good one opens and holds
what the manifest says, a bad one is refused by its one word and leaves nothing in RAM. And what the
C writes, the Python reader opens."""

import hashlib
import json
import os
import re
import stat
import subprocess
import sys

import pytest

from nsinit import PASSPHRASE, TOP, tree

VECTORS = TOP / "tests" / "vectors"
sys.path.insert(0, str(VECTORS))
import tpv  # noqa: E402


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
            item = {"name": os.path.relpath(path, secrets), "mode": stat.S_IMODE(info.st_mode)}
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
        if "sha256" in item:
            assert other.get("sha256") == item["sha256"], item
        if "target" in item:
            assert other.get("target") == item["target"], item
        elif "mode" in item:
            assert f"{other['mode']:04o}" == item["mode"], item


def test_every_vector_opens_or_is_refused_by_its_word(start, make_place, vectors):
    out, manifest = vectors
    place = make_place(size="128m")
    pod = start(place=place).ready().create()
    pod.ok("lock")
    wrong = []
    for item in manifest:
        place.vault.write_bytes((out / item["file"]).read_bytes())
        done = pod.tazpod("unlock", inside=False, passphrase=item["passphrase"].encode())
        message = done.stderr.decode()
        word = re.search(r"\[([a-z-]+)\]\s*$", message)
        word = "ok" if done.returncode == 0 else word[1] if word else message
        if word != item["expect"]:
            wrong.append(f"{item['file']} ({item['why']}): {word}, not {item['expect']}")
        elif word == "ok":
            same(item["tree"], in_ram(place.secrets))
        if done.returncode == 0:
            pod.ok("lock", inside=False)
        if place.left_in_ram():
            wrong.append(f"{item['file']}: left {place.left_in_ram()}")
    assert len(manifest) > 200
    assert not wrong, "\n".join(wrong)


def test_the_independent_reader_opens_what_tazpod_writes(start, place):
    pod = start(place=place).ready().create()
    place.write("kubeconfig", b"apiVersion: v1\n", 0o640)
    place.write("Schlüssel-日本", b"\0" * 70000)
    os.mkdir(place.secrets / "empty")
    os.symlink("kubeconfig", place.secrets / "link")
    for name in ("empty", "link"):
        os.chown(place.secrets / name, 1000, 1000, follow_symlinks=False)
    content = tree(place.secrets)
    pod.ok("lock")
    data = place.vault.read_bytes()
    header, archive = tpv.read_vault(data, PASSPHRASE)
    entries = {e["name"].rstrip("/"): e for e in tpv.list_tar(archive)}
    assert set(entries) == set(content)
    for name, (kind, *rest) in content.items():
        entry = entries[name]
        if kind == "file":
            assert (entry["mode"], entry["content"]) == (rest[0], rest[2]), name
        elif kind == "link":
            assert entry["linkname"] == rest[0]
        else:
            assert entry["mode"] == rest[0]
    # The control: one byte of it changed, and the same reader refuses.
    with pytest.raises(tpv.VaultError):
        tpv.read_vault(data[:-40] + bytes([data[-40] ^ 1]) + data[-39:], PASSPHRASE)
