"""Debian's own kernels, booted under QEMU, each with its own Docker engine: one test a story.

The stories are scripts in guest/: they run in the guest, as root, beside the built programs, and
print TAP. Each has a machine of its own, and as many run at once as this computer has room for.

TAZPOD_VM_SUITES names the kernels, "trixie" by default; TAZPOD_VM_STORIES the stories, by default
all that the programs are up to; TAZPOD_VM_AT_ONCE how many run at once.
"""

import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
TOP = HERE.parents[1]
BUILD = pathlib.Path(os.environ.get("TAZPOD_BUILD") or TOP / "build")

sys.path.insert(0, str(TOP / "tests/vectors"))
import tpv  # noqa: E402

SUITES = (os.environ.get("TAZPOD_VM_SUITES") or "trixie").split()
KERNELS = {"trixie": "6.12", "bookworm": "6.1", "bullseye": "5.10"}

# The machine first, which the others rest on, then the longest: what runs at once then ends at once.
STORIES = ["the-machine", "memory-limit", "swap", "status", "memory-limit-own", "first-light",
           "memory-limit-small-writer", "memory-limit-noswap", "own-docker-default", "own-unconfined", "user-0", "killed",
           "noswap-volume"]

# Stories that today's programs fail, and why. Whoever mends that moves the name up. Until then
# they run when they are named.
NOT_YET = {
    "swap-workers": "what workers hold in their own memory is swapped out",
}

stories = (os.environ.get("TAZPOD_VM_STORIES") or " ".join(STORIES)).split()
unknown = set(stories) - set(STORIES) - set(NOT_YET)
if unknown or not set(SUITES) <= set(KERNELS):
    raise pytest.UsageError(f"no such suite or story: {SUITES} {unknown}")

# Seconds a story may take: a guest without hardware help is slow, and more so beside other work.
# Four times that with waiting for who else makes the machine.
LIMIT = 900


def at_once():
    """A machine takes a processor, and 1 GB and a bit for the disks it changes."""
    with open("/proc/meminfo", encoding="ascii") as lines:
        kib = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return max(1, min(len(os.sched_getaffinity(0)), kib // (1536 * 1024), 4))


AT_ONCE = int(os.environ.get("TAZPOD_VM_AT_ONCE") or at_once())

PASSPHRASE = b"correct horse battery staple"
PAGES = 4096


def draw(length, derived=lambda drawn: drawn):
    """Random bytes; what is derived from them can be one line of a file of patterns."""
    while True:
        drawn = os.urandom(length)
        if not set(derived(drawn)) & set(b"\n\0"):
            return drawn


def known_vault(folder):
    """A vault whose content and keys are known, and the patterns to look for them with."""
    canary, key = draw(32), draw(32)
    vault_id, generation, passes, kib = os.urandom(16), 1, 1, 16384

    def wrapping_key(salt):
        return tpv.derive(PASSPHRASE, salt, passes, kib)[0]

    def file_key(salt):
        return tpv.stream_key(key, vault_id, salt, generation)

    salt, file_salt = draw(16, wrapping_key), draw(32, file_key)
    # The canary is at the head of each page of the file, so of each page of RAM. A quarter of it can't
    # be compressed, so that a save is writing from its beginning to its end.
    content = b"".join((canary + os.urandom(1024)).ljust(4096, b"\0") for _ in range(PAGES))
    vault = tpv.write_vault(tpv.make_tar([{"name": "canaries", "content": content}]),
                            [{"passphrase": PASSPHRASE, "salt": salt, "ops": passes, "mem": kib}],
                            dk=key, vault_id=vault_id, gen=generation, fsalt=file_salt)
    (folder / "vault.tpv").write_bytes(vault)
    (folder / "canary").write_bytes(canary + b"\n")
    (folder / "witness").write_text(os.urandom(32).hex())
    (folder / "keys").write_bytes(b"".join(k + b"\n" for k in (key, wrapping_key(salt), file_key(file_salt), PASSPHRASE)))


def make_content(folder, suite):
    """What a guest gets."""
    for name in ("tazpod-init", "tazpod"):
        shutil.copy(BUILD / name, folder)
    for path in (HERE / "guest").glob("*.sh"):
        shutil.copy(path, folder)
    (folder / "kernel").write_text(KERNELS[suite])
    (folder / "passphrase").write_bytes(PASSPHRASE + b"\n")
    known_vault(folder)
    # The pod's user reads some of it.
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode | 0o444)


def run(suite, script, content):
    """Exit status and output."""
    done = subprocess.run([HERE / "vm", "run", suite, script, content], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=4 * LIMIT,
                          env={**os.environ, "TAZPOD_VM_LIMIT": str(LIMIT)})
    return done.returncode, done.stdout.decode(errors="replace")


@pytest.fixture(scope="session", params=SUITES)
def suite(request):
    """A machine that is built: no story's time is spent with that."""
    subprocess.run([HERE / "vm", "build", request.param], check=True, timeout=4 * LIMIT)
    return request.param


@pytest.fixture(scope="session")
def runs(request, suite, tmp_path_factory):
    """The stories that pytest is to run on this kernel, all under way: a test waits for its own."""
    content = tmp_path_factory.mktemp(suite)
    make_content(content, suite)
    chosen = {item.callspec.params["story"] for item in request.session.items
              if "runs" in item.fixturenames and item.callspec.params["suite"] == suite}
    pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    yield {story: pool.submit(run, suite, HERE / "guest" / f"{story}.sh", content)
           for story in stories if story in chosen}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("story", stories)
def test_story(runs, story):
    status, output = runs[story].result()
    print(output)
    failed = re.findall(r"^not ok - .*(?:\n#   .*)*", output, re.MULTILINE)
    assert not failed, "\n".join(failed)
    assert status == 0, f"the story ended with {status}"
    planned = re.search(r"^1\.\.(\d+)$", output, re.MULTILINE)
    passed = re.findall(r"^ok - ", output, re.MULTILINE)
    assert planned and len(passed) == int(planned[1]) > 0


def test_the_status_of_a_script_is_that_of_the_run(suite, tmp_path):
    script = tmp_path / "seven"
    script.write_text("#!/bin/sh\ncat word\nexit 7\n")
    script.chmod(0o755)
    (tmp_path / "word").write_text("from the host\n")
    assert run(suite, script, tmp_path) == (7, "from the host\n")
