"""The workers: what they are allowed, and what is left when one of them dies."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time

import pytest

from nsinit import CHEAP, CREATE, PASSPHRASE, SAVE, UNLOCK, Client, children, request, status_field, tree, until

def big_place(make_place):
    return make_place(size="128m")


def fill(place):
    """Random, so that it does not compress: a save of this takes long enough to be caught."""
    for number in range(12):
        place.write(f"big-{number}", os.urandom(3 << 20))


# Its own filter, beside those that a container around these tests may bring.
FILTERS_HERE = int(status_field(os.getpid(), "Seccomp_filters"))


def is_filtered(pid):
    try:
        return int(status_field(pid, "Seccomp_filters")) > FILTERS_HERE
    except (OSError, KeyError):
        return False


@contextlib.contextmanager
def owners_client(place):
    """A connection whose SO_PEERCRED says uid 1000: in a user namespace no other uid has a name."""
    os.seteuid(1000)
    try:
        client = Client(place.socket)
    finally:
        os.seteuid(0)
    with client:
        yield client


class Save:
    """A `tazpod save` under way, whose workers are caught and stopped before they have finished."""

    def __init__(self, pod, kinds=("pack", "seal"), inside=True):
        words, keywords = pod.command("save", inside=inside)
        self.client = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords)
        self.workers = {}
        end = time.monotonic() + 10
        while set(self.workers) != set(kinds):
            assert time.monotonic() < end, f"not all of {kinds} seen: {self.workers}\n{pod.log()}"
            for kind, pid in pod.workers().items():
                # Only from their filter on: before it they are on their way.
                if kind in kinds and kind not in self.workers and is_filtered(pid):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGSTOP)
                        self.workers[kind] = pid

    def go_on(self):
        for pid in self.workers.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def end(self):
        """(exit code, stderr) of the client."""
        _, errors = self.client.communicate(timeout=30)
        return self.client.returncode, errors.decode()


def kill_worker(pod, kind, number=signal.SIGKILL):
    """True if there was one."""
    pid = pod.workers().get(kind)
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
    return False


def assert_confined(pid):
    assert status_field(pid, "Seccomp") == "2"
    assert status_field(pid, "NoNewPrivs") == "1"
    assert int(status_field(pid, "CapEff"), 16) == 0
    assert int(status_field(pid, "CapPrm"), 16) == 0
    assert status_field(pid, "Uid").split() == ["1000"] * 4
    assert status_field(pid, "Gid").split() == ["1000"] * 4
    assert status_field(pid, "Groups").split() in ([], ["1000"])
    assert pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"
    # Not dumpable: the kernel gives its folder to root.
    assert os.stat(f"/proc/{pid}/environ").st_uid == 0
    limits = pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines()
    core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4:6] == ["0", "0"]
    assert pathlib.Path(f"/proc/{pid}/environ").read_bytes() == b""
    command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    assert PASSPHRASE not in command


# The last has every capability in its own namespace, and no other uid to change to.
SOME = pytest.mark.parametrize(
    "how", [{"uid": 0}, {"uid": 1000}, {"user_namespace": "owner"}, {"user_namespace": "root"}],
    ids=["root", "owner", "owner-in-user-namespace", "root-in-user-namespace"],
)


def started(start, place, how):
    pod = start("sleep", "infinity", place=place, **how).ready()
    pod.ok("unlock", "--create", *CHEAP, passphrase=PASSPHRASE, inside="user_namespace" not in how)
    return pod


@SOME
def test_packer_and_sealer_are_confined(start, make_place, how):
    place = big_place(make_place)
    pod = started(start, place, how)
    fill(place)
    save = Save(pod, inside="user_namespace" not in how)
    for pid in save.workers.values():
        assert_confined(pid)
    save.go_on()
    assert save.end()[0] == 0


@SOME
def test_opener_and_unpacker_are_confined_before_the_passphrase_comes(start, place, how):
    pod = started(start, place, how)
    pod.ok("lock", inside="user_namespace" not in how)
    reader, writer = os.pipe()
    with owners_client(place) as client:
        client.send(request(UNLOCK), [reader])
        os.close(reader)
        # They wait for a passphrase that has not come, so they can be looked at in peace.
        workers = until(lambda: (found := pod.workers()) and set(found) == {"open", "unpack"} and
                        all(map(is_filtered, found.values())) and found, "both behind their filters")
        for pid in workers.values():
            assert_confined(pid)
        os.write(writer, PASSPHRASE)
        os.close(writer)
        assert client.receive()["code"] == 0


def test_the_packer_holds_no_key_and_the_sealer_no_tree(start, make_place):
    place = big_place(make_place)
    pod = start("sleep", "infinity", place=place, uid=1000).ready().create()
    fill(place)
    save = Save(pod)

    def opened(kind):
        folder = f"/proc/{save.workers[kind]}/fd"
        return [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]

    sealer = opened("seal")
    assert not any(str(place.run) in path for path in sealer), sealer
    packer = opened("pack")
    assert not any(str(place.work) in path for path in packer), packer
    for kind in save.workers:
        # Root, home and the pod's own files are out of reach by their working directory too.
        assert os.readlink(f"/proc/{save.workers[kind]}/cwd") in ("/", str(place.secrets), str(place.vault.parent))
    save.go_on()
    assert save.end()[0] == 0


def half_saved(start, make_place):
    """A pod with a saved vault and much that is not saved yet; the file's bytes, and what is in RAM."""
    place = big_place(make_place)
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("first", b"first")
    pod.ok("save")
    whole = place.vault.read_bytes()
    fill(place)
    return place, pod, whole, tree(place.secrets)


def assert_kept(start, place, pod, content):
    """Nothing of it is left behind, nothing is lost."""
    assert not place.temporaries()
    assert "problem" not in pod.status()
    assert tree(place.secrets) == content
    until(lambda: children(pod.pid) == [pod.main()], "no worker left over")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    again = start(place=place).ready().unlock()
    assert tree(place.secrets) == content
    again.signal(signal.SIGTERM)
    assert again.wait() == 0


@pytest.mark.parametrize("victim", ["pack", "seal"])
def test_a_save_whose_worker_is_killed_is_tried_again(start, make_place, victim):
    """A KILL is what the OOM killer sends, and the next try has the reserve."""
    place, pod, whole, content = half_saved(start, make_place)
    save = Save(pod)
    os.kill(save.workers[victim], signal.SIGKILL)
    assert place.vault.read_bytes() == whole
    save.go_on()
    assert save.end()[0] == 0, pod.log()
    assert place.vault.read_bytes() != whole
    assert_kept(start, place, pod, content)


def test_a_file_that_its_sealer_had_no_time_to_tell_of_is_known_as_our_own(start, place):
    """Killed after the rename, at the fsync of the folder that follows it, and so is each that tries
    again. Nobody else wrote there, so nothing may be called a conflict, then or later."""
    pod = start("sleep", "infinity", place=place).ready().create()
    place.write("key", b"a secret")
    pod.ok("save")
    whole = place.vault.read_bytes()
    place.write("key", b"another")
    folder_synced = 2  # the first one is the new file's
    tracer = subprocess.Popen(["strace", "-f", "-p", str(pod.pid), "-o", "/dev/null", "-e", "trace=fsync", "-e",
                               f"inject=fsync:signal=KILL:when={folder_synced}"], stderr=subprocess.PIPE, text=True)
    assert "attached" in tracer.stderr.readline()
    failed = pod.tazpod("save")
    assert failed.returncode == 70 and b"[worker-died]" in failed.stderr, failed
    tracer.send_signal(signal.SIGINT)
    tracer.communicate(timeout=30)
    assert place.vault.read_bytes() != whole, "it was killed too early to matter"

    place.write("key", b"a secret")  # what the file known last holds, but not the one in place
    pod.ok("save")
    assert sorted(path.name for path in place.vault.parent.glob("*conflict*")) == []
    assert not place.temporaries()
    content = tree(place.secrets)
    pod.ok("lock")
    pod.unlock()
    assert tree(place.secrets) == content


@pytest.mark.parametrize("victim", ["pack", "seal"])
def test_a_worker_killed_before_its_job_reaches_it_is_one_that_was_killed(start, make_place, victim):
    """It has said that it is ready, and is gone when process 1 gets to answer."""
    place, pod, whole, content = half_saved(start, make_place)
    caught = None
    while not caught:
        words, keywords = pod.command("save")
        client = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords)
        while client.poll() is None and not caught:
            pid = pod.workers().get(victim)
            if pid and not is_filtered(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)
                    until(lambda: status_field(pid, "State").startswith("T"), "the worker stands still")
                    caught = None if is_filtered(pid) else pid
                    if not caught:
                        os.kill(pid, signal.SIGCONT)
        if not caught:  # too late: another save, with something to write
            client.communicate()
            place.write("again", os.urandom(16))
            content, whole = tree(place.secrets), place.vault.read_bytes()
    os.kill(pod.pid, signal.SIGSTOP)
    os.kill(caught, signal.SIGCONT)
    until(lambda: is_filtered(caught) and status_field(caught, "State").startswith("S"), "it waits for its job")
    os.kill(caught, signal.SIGKILL)
    until(lambda: status_field(caught, "State").startswith("Z"), "it is dead")
    os.kill(pod.pid, signal.SIGCONT)
    errors = client.communicate(timeout=30)[1].decode()
    assert client.returncode == 0, (errors, pod.log())
    assert place.vault.read_bytes() != whole
    assert_kept(start, place, pod, content)


@pytest.mark.parametrize("victim", ["pack", "seal"])
def test_a_save_whose_worker_crashes_fails_and_costs_nothing(start, make_place, victim):
    place, pod, whole, content = half_saved(start, make_place)
    save = Save(pod)
    os.kill(save.workers[victim], signal.SIGSEGV)
    save.go_on()
    code, errors = save.end()
    assert code == 70 and "[worker-died]" in errors, (code, errors)
    assert place.vault.read_bytes() == whole, "the old file is whole"
    assert pod.status()["state"] == "open"
    assert "problem" in pod.status()
    pod.ok("save")
    assert_kept(start, place, pod, content)


@pytest.mark.parametrize("victim", ["pack", "seal"])
def test_a_save_whose_worker_is_killed_every_time_gives_up(start, make_place, victim):
    place, pod, whole, content = half_saved(start, make_place)
    words, keywords = pod.command("save")
    with subprocess.Popen(words, stderr=subprocess.PIPE, **keywords) as client:
        until(lambda: kill_worker(pod, victim) and False or client.poll() is not None, "an end of the tries")
        errors = client.stderr.read().decode()
    assert client.returncode == 70 and "[worker-died]" in errors, (client.returncode, errors)
    assert place.vault.read_bytes() == whole
    assert pod.status()["state"] == "open"
    pod.ok("save")
    assert_kept(start, place, pod, content)


@pytest.mark.parametrize("victim", ["pack", "seal"])
def test_a_lock_whose_worker_crashes_leaves_the_vault_open(start, make_place, victim):
    place, pod, whole, content = half_saved(start, make_place)
    words, keywords = pod.command("lock")
    with subprocess.Popen(words, stderr=subprocess.PIPE, **keywords) as client:
        until(lambda: kill_worker(pod, victim, signal.SIGSEGV), f"a worker to end: {victim}")
        errors = client.communicate(timeout=30)[1].decode()
    assert client.returncode == 70 and "[worker-died]" in errors, (client.returncode, errors)
    assert pod.status()["state"] == "open"
    assert place.vault.read_bytes() == whole
    assert tree(place.secrets) == content, "in its place again, all of it"
    pod.ok("lock")
    assert not place.temporaries()
    assert place.left_in_ram() == []
    pod.unlock()
    assert tree(place.secrets) == content


@pytest.mark.parametrize("victim", ["open", "unpack"])
def test_a_worker_killed_during_an_unlock_leaves_the_vault_locked(start, make_place, victim):
    place = big_place(make_place)
    pod = start("sleep", "infinity", place=place).ready().create()
    fill(place)
    content = tree(place.secrets)
    pod.ok("lock")
    before = place.vault.read_bytes()
    words, keywords = pod.command("unlock", "--passphrase-fd", "0")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, **keywords) as client:
        client.stdin.write(PASSPHRASE)
        client.stdin.close()
        until(lambda: kill_worker(pod, victim), f"a worker to kill: {victim}")
        errors = client.stderr.read().decode()
    assert client.returncode == 70 and "[worker-died]" in errors, (client.returncode, errors)
    assert pod.status()["state"] == "locked"
    assert place.left_in_ram() == [], "nothing half unpacked"
    assert place.vault.read_bytes() == before
    pod.unlock()
    assert tree(place.secrets) == content


def test_a_worker_killed_during_a_creation_leaves_no_vault(start, place):
    pod = start("sleep", "infinity", place=place).ready()
    reader, writer = os.pipe()
    with Client(place.socket) as client:
        client.send(request(CREATE, ops=1, memory=8192), [reader])
        os.close(reader)
        # It waits for its passphrase, so it can't have ended before.
        until(lambda: kill_worker(pod, "create"), "a worker to kill")
        assert client.receive()["word"] == "worker-died"
    os.close(writer)
    assert not place.vault.exists()
    assert place.left_in_ram() == []
    pod.create()


def test_a_main_command_called_like_a_worker_is_not_one(start, place):
    """Workers are known by their pid, so a name means nothing."""
    pod = start("bash", "-c", "exec -a tazpod-worker sleep infinity", place=place).ready().create()
    place.write("key", b"a secret")
    pod.ok("save")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM


def test_two_saves_at_once_are_both_answered(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    with Client(place.socket) as one, Client(place.socket) as two:
        place.write("key", os.urandom(1 << 20))
        one.send(request(SAVE))
        two.send(request(SAVE))
        answers = [one.receive(), two.receive()]
    assert all(answer["code"] in (0, 75) for answer in answers), answers
    assert any(answer["code"] == 0 for answer in answers)
