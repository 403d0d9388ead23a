"""`tazpod status --json` and `--check`: for programs, so they hold in every state and for every name."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import pytest

from nsinit import (DEADLINE_S, MS_NODEV, MS_NOSUID, OWNER, STATES, TOP, UNLOCK, Client, mount, request, umount, until)

# ---- every state there is ----


@contextlib.contextmanager
def stopped_at(pod, verb):
    """A command under way, whose worker has been stopped."""
    pod.write("large", os.urandom(24 << 20))
    words, keywords = pod.command(verb)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, **keywords) as client:
        packer = pod.stop_worker("pack")
        try:
            yield
        finally:
            os.kill(packer, signal.SIGCONT)
        assert client.wait(DEADLINE_S) == 0


@contextlib.contextmanager
def emptying(pod):
    """A lock whose save is done and whose RAM is not empty yet: many files take their time."""
    folder = os.open(pod.secrets, os.O_RDONLY)
    for number in range(60000):
        os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=folder))
    os.close(folder)
    words, keywords = pod.command("lock", inside=False)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL, **keywords) as client:
        until(lambda: list(pod.place.run.glob(".wiping-*")), "the beginning of the end")
        # So that it stays there while it is looked at: between two looks at its clients it goes on.
        yield
        assert client.wait(DEADLINE_S) == 0


@contextlib.contextmanager
def a_pod(start, place, state):
    """One that is in that state for as long as it is looked at."""
    if state == "absent":
        umount(place.run)
        place.run.chmod(0o700)
        os.chown(place.run, OWNER, OWNER)
        yield start("sleep", "infinity", place=place).ready()
    elif state == "locked":
        yield start("sleep", "infinity", place=place).ready()
    elif state == "opening":
        pod = start("sleep", "infinity", place=place).ready().create()
        pod.ok("lock")
        reader, writer = os.pipe()
        with Client(place.socket) as client:
            client.send(request(UNLOCK), [reader])
            os.close(reader)
            until(lambda: "unpack" in pod.workers(), "an unlock that waits for its passphrase")
            yield pod
            os.close(writer)
    elif state == "open":
        yield start("sleep", "infinity", place=place).ready().create()
    elif state == "saving":
        pod = start("sleep", "infinity", place=place).ready().create()
        with stopped_at(pod, "save"):
            yield pod
    elif state == "locking":
        pod = start("sleep", "infinity", place=place).ready().create()
        with emptying(pod):
            yield pod
    elif state == "stopping":
        pod = start("sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.05; done', place=place).ready().create()
        pod.wait_out("ready")
        pod.signal(signal.SIGTERM)
        until(lambda: pod.tazpod("save", inside=False).returncode == 69, "the beginning of the stop")
        yield pod


def no_twice(pairs):
    keys = [key for key, _ in pairs]
    assert len(keys) == len(set(keys)), keys
    return dict(pairs)


def parse(data):
    """One line, UTF-8 and JSON by the letter."""
    assert data.endswith(b"\n") and data.count(b"\n") == 1
    return json.loads(data.decode("utf-8", "strict"), object_pairs_hook=no_twice, parse_constant=pytest.fail)


def status(pod, *args, code=0):
    """Asked from outside the pid namespace, where the TERM of a stop does not reach."""
    done = pod.tazpod("status", "--json", *args, inside=False)
    assert done.returncode == code, done
    assert done.stderr == b""
    return parse(done.stdout)


def kind_of(value):
    return {str: "text", bool: "boolean", int: "number", type(None): "null", dict: "object", list: "list"}[type(value)]


def flat(found, prefix=""):
    """{dotted key: kind}"""
    kinds = {}
    for key, value in found.items():
        kinds[prefix + key] = kind_of(value)
        if isinstance(value, dict):
            kinds.update(flat(value, f"{prefix}{key}."))
    return kinds


def documented():
    """{dotted key: kinds} of tazpod(1)."""
    page = (TOP / "docs" / "man" / "tazpod.1").read_text()
    section = re.search(r"^\.Ss Status as JSON$(.*?)^\.(?:Ss|Sh) ", page, re.M | re.S).group(1)
    return {key: set(kinds.split(" or "))
            for key, kinds in re.findall(r"^\.It Li ([a-z_.]+) Pq ([a-z ]+)$", section, re.M)}


def assert_documented(found):
    """Every key is there and of a kind that the manual gives, and there is no other."""
    wanted, kinds = documented(), flat(found)
    assert len(wanted) > 15, "the page was not understood"
    if found["problem"] is None:
        wanted = {key: kind for key, kind in wanted.items() if not key.startswith("problem.")}
    assert set(kinds) == set(wanted)
    for key, kind in kinds.items():
        assert kind in wanted[key], key


@pytest.mark.parametrize("state", STATES)
def test_json_has_every_documented_key_in_every_state(start, place, state):
    with a_pod(start, place, state) as pod:
        found = status(pod)
        assert found["state"] == state
        assert_documented(found)


def test_every_value_is_what_the_text_says(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    place.write("other", b"more")
    os.mkfifo(place.secrets / "fifo")
    before = int(time.time())
    pod.ok("save")
    found, words = status(pod), pod.status()
    assert found["version"] == 1
    assert found["vault"] == str(place.vault) == words["vault"]
    assert found["secrets"] == str(place.secrets) == words["secrets"]
    assert found["owner"] == OWNER
    assert found["ram"]["backend"] == "given"
    assert words["ram"] == "given: " + found["ram"]["why"]
    assert found["generation"] == 2 == int(words["generation"])
    assert before <= found["saved_at"] <= time.time()
    assert time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found["saved_at"])) == words["saved"]
    assert (found["files"], found["bytes"]) == (2, 12) == (int(words["files"]), int(words["bytes"]))
    assert (found["skipped"], found["left_out"], found["stale"]) == (1, 0, 0)
    assert found["problem"] is None


def test_before_the_first_unlock_numbers_are_zero_and_nothing_is_made_up(start, place):
    found = status(start("sleep", "infinity", place=place).ready())
    for key in ("generation", "saved_at", "files", "bytes", "skipped", "left_out", "stale"):
        assert found[key] == 0, key
    assert found["ram"]["swap"] == "unknown"


def test_why_is_null_where_there_is_no_question(start, place):
    found = status(start("sleep", "infinity", place=place, may_mount=True).ready())
    assert found["ram"] == {"backend": "own", "why": None, "swap": "unknown", "exceeds_memory": False}


def test_a_place_that_can_not_be_used_is_a_problem_with_its_code(start, place):
    with a_pod(start, place, "absent") as pod:
        found = status(pod)
        assert (found["problem"]["code"], found["problem"]["word"]) == (69, "not-ram")
        assert pod.status()["problem"] == f"not-ram: {found['problem']['text']}"


def test_trees_kept_aside_are_counted(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    pod.signal(signal.SIGKILL)
    pod.wait()
    assert status(start("sleep", "infinity", place=place).ready())["stale"] == 1


# ---- names that are not for printing ----


ODD = {
    "a-quote-and-a-backslash": b'a"b\\c\\',
    "control-bytes": b"a\x01\b\x1b[31mb\tc\x7f",
    "a-line-end": b'a\n"state":"open"\nb',
    "not-utf8": b"\xff\xfe\"\xc3(\xa0\xe2\x28\xed\xa0\x80",
    "a-cut-character": b"\xe2\x82",
    "utf8": "grüße-日本-\U0001f512".encode(),
    "a-control-character-of-two-bytes": b"a\xc2\x9b31mb",
    "what-ends-a-line-in-javascript": "a\u2028b\u2029".encode(),
    "long-and-cut-inside-a-character": b"x" + "é".encode() * 100,
}
ANY_NAME = pytest.mark.parametrize("name", ODD.values(), ids=ODD)


def readable(name):
    """What of a name any account of it must still show: its plain letters, as far as they were kept."""
    return [letter for letter in "abc" if letter.encode() in name]


@ANY_NAME
def test_a_name_that_was_left_out_does_not_break_the_json(start, place, name):
    """Below 32 folders of that name no entry is stored: every name can be left out."""
    pod = start("sleep", "infinity", place=place).ready().create()
    folder = os.fsencode(place.secrets)
    for _ in range(33):
        folder += b"/" + name[:20].ljust(1, b"n")
        os.mkdir(folder)
    for folder, folders, files in os.walk(os.fsencode(place.secrets)):
        for each in [b"."] + folders:
            os.chown(os.path.join(folder, each), OWNER, OWNER)
    assert pod.tazpod("save").returncode == 74
    found = status(pod)
    assert_documented(found)
    assert (found["problem"]["code"], found["problem"]["word"]) == (74, "left-out")
    assert found["left_out"] >= 1
    assert found["state"] == "open"
    for letter in readable(name[:20]):
        assert letter in found["problem"]["text"]


@ANY_NAME
def test_a_name_that_can_not_be_read_does_not_break_the_json(start, place, name):
    """Another user's file stops a save; names that are left out anyway are not even opened."""
    pod = start("sleep", "infinity", place=place).ready().create()
    path = os.path.join(os.fsencode(place.secrets), name)
    with open(path, "wb"):
        os.chmod(path, 0o600)  # root's
    assert pod.tazpod("save").returncode == 74
    found = status(pod)
    assert_documented(found)
    assert found["problem"]["word"] in ("unreadable", "left-out")


@ANY_NAME
def test_a_vault_and_a_run_directory_with_such_names_do_not_break_the_json(start, place, name):
    umount(place.run)
    odd = os.fsdecode(name[:40])
    place.vault = place.work / ".tazpod" / odd
    place.run = place.top / odd
    place.run.mkdir()
    place.secrets, place.socket = place.run / "secrets", place.run / "control.sock"
    mount("tmpfs", place.run, "tmpfs", MS_NOSUID | MS_NODEV, "size=64m,mode=0700,uid=1000,gid=1000")
    pod = start("sleep", "infinity", place=place).ready().create()
    found = status(pod)
    assert_documented(found)
    expected = {}
    for key, path in (("vault", place.vault), ("secrets", place.secrets)):
        try:
            expected[key] = os.fsencode(path).decode()
        except UnicodeDecodeError:
            assert "\ufffd" in found[key], "shown as what it is: not text"
            continue
        assert found[key] == expected[key]
    place.write("key", b"a secret")
    pod.ok("lock")


# ---- --check ----


CHECKS = {"absent": 69, "locked": 3, "opening": 3, "open": 0, "saving": 0, "locking": 3, "stopping": 69}


@pytest.mark.parametrize("state, code", CHECKS.items(), ids=CHECKS)
def test_check_answers_by_exit_status_and_says_nothing(start, place, state, code):
    with a_pod(start, place, state) as pod:
        done = pod.tazpod("status", "--check", inside=False)
        assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")
        assert status(pod, "--check", code=code)["state"] == state, "with --json, both"


def test_check_knows_all_states_there_are():
    assert set(CHECKS) == set(STATES)


def test_during_the_save_of_a_lock_the_vault_is_not_called_open(start, place):
    """It is out of its place from the beginning: who is told 0 finds no ~/secrets."""
    pod = start("sleep", "infinity", place=place).ready().create()
    with stopped_at(pod, "lock"):
        assert not place.secrets.exists()
        assert pod.tazpod("status", "--check").returncode == 3
        assert status(pod)["state"] == "locking"


def test_check_is_0_for_an_open_vault_whose_save_failed(start, make_place):
    place = make_place(work_size="1m")
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("large", os.urandom(2 << 20))
    assert pod.tazpod("save").returncode == 74
    assert pod.tazpod("status", "--check").returncode == 0
    assert status(pod)["problem"]["word"] == "disk-full"


def test_without_a_process_1_check_is_69_and_silent_and_the_others_say_why(start, place):
    pod = start("sleep", "infinity", place=place).ready()
    pod.signal(signal.SIGKILL)
    pod.wait()
    done = pod.tazpod("status", "--check", inside=False)
    assert (done.returncode, done.stdout, done.stderr) == (69, b"", b"")
    for words in (["status"], ["status", "--json"], ["status", "--json", "--check"]):
        done = pod.tazpod(*words, inside=False)
        assert done.returncode == 69 and done.stdout == b"" and b"[no-init]" in done.stderr, (words, done)


@pytest.mark.parametrize("words", [["status"], ["status", "--json"], ["config"], ["help"], ["version"]], ids="-".join)
def test_output_that_can_not_be_written_is_no_success(start, place, words):
    pod = start("sleep", "infinity", place=place).ready()
    argv, keywords = pod.command(*words)
    assert subprocess.run(argv, capture_output=True, **keywords).returncode == 0
    with open("/dev/full", "wb") as full:
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, **keywords)
    assert done.returncode == 74 and b"can't write the output: No space left" in done.stderr, done


@pytest.mark.parametrize("words", [["--all"], ["open"], ["--json=yes"], ["--check", "--create"]], ids="-".join)
def test_what_status_does_not_know_is_a_usage_error(start, place, words):
    done = start("sleep", "infinity", place=place).ready().tazpod("status", *words)
    assert (done.returncode, done.stdout) == (64, b"")
