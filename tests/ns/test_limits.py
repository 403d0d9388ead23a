"""At the limits: no more processes, no memory, no room, no /proc. Each has an outcome, and none loses the vault."""

import contextlib
import os
import pathlib
import resource
import signal
import subprocess
import uuid

import pytest

from nsinit import CHEAP, OWNER, PASSPHRASE, children, is_alive, mount, programs, tree, until

GROUPS = pathlib.Path("/sys/fs/cgroup")
GATE = 50  # a descriptor of nobody's
MS_BIND, MS_REMOUNT = 0x1000, 0x20

# Of nobody's, so that all processes counted for it are ours; another for each run.
LONELY = 60000 + os.getpid() % 5000


class Group:
    """A control group with one controller, of either version, for a pod to be started in."""

    def __init__(self, controller):
        self.v2 = (GROUPS / "cgroup.controllers").exists() and controller in (GROUPS / "cgroup.controllers").read_text()
        if self.v2:
            (GROUPS / "cgroup.subtree_control").write_text(f"+{controller}")
        self.top = GROUPS if self.v2 else GROUPS / controller
        self.path = self.top / f"tazpod-test-{uuid.uuid4().hex[:8]}"
        self.path.mkdir()
        # Opened by root: process 1 is not when it goes in.
        self.door = os.open(self.path / "cgroup.procs", os.O_WRONLY)

    def set(self, name, value):
        (self.path / name).write_text(str(value))

    def get(self, name):
        return int((self.path / name).read_text())

    def how(self):
        """For a Pod."""

        def enter():
            os.write(GATE, b"0")
            os.close(GATE)

        return {"descriptors": {GATE: self.door}, "before_exec": enter}

    def close(self):
        os.close(self.door)
        until(lambda: not (self.path / "cgroup.procs").read_text(), "the last process of the group is gone")
        self.path.rmdir()


@pytest.fixture
def groups():
    """Groups, removed after the pods in them: so this comes before `start` in a test's arguments."""
    made = []

    def make(controller):
        made.append(Group(controller))
        return made[-1]

    yield make
    for group in made:
        group.close()


# ---- processes ----

# USR1: as many children as there may be. USR2: one of them ends. HUP: all do.
CROWD = """
import os, signal
COMMANDS = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP}
signal.pthread_sigmask(signal.SIG_BLOCK, COMMANDS)
crowd = []
print("armed", flush=True)
while True:
    command = signal.sigwait(COMMANDS)
    if command == signal.SIGUSR1:
        while True:
            try:
                pid = os.fork()
            except BlockingIOError:
                break
            if pid == 0:
                while True:
                    signal.pause()
            crowd.append(pid)
        print("full", flush=True)
    else:
        for pid in crowd[:1] if command == signal.SIGUSR2 else crowd:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        crowd = crowd[1:] if command == signal.SIGUSR2 else []
        print("room", flush=True)
"""
MAIN = ("/usr/bin/python3", "-c", CROWD)
MOST = 40


class Crowded:
    """A pod that can be brought to the limit of its processes and back."""

    def __init__(self, pod):
        self.pod = pod
        pod.ready().wait_out("armed")

    def _command(self, number, answer):
        before = self.pod.out().count(answer)
        self.pod.signal(number)
        until(lambda: self.pod.out().count(answer) > before, answer)

    def fill(self, but=0):
        """With room for so many."""
        # What process 1 has finished with is collected first: it counts too.
        until(lambda: children(self.pod.pid) == [self.pod.main()], "no worker")
        self._command(signal.SIGUSR1, "full")
        for _ in range(but):
            self._command(signal.SIGUSR2, "room")

    def empty(self):
        self._command(signal.SIGHUP, "room")

    def ask(self, *words, **how):
        """As root, who is not counted, and outside of the group."""
        return self.pod.tazpod(*words, uid=0, inside=False, **how)

    def ok(self, *words, **how):
        done = self.ask(*words, **how)
        assert done.returncode == 0, (done, self.pod.log())

    def unlock(self):
        return self.ask("unlock", passphrase=PASSPHRASE)

    def create(self):
        return self.ask("unlock", "--create", *CHEAP, passphrase=PASSPHRASE)

    def state(self):
        return self.pod.status(uid=0, inside=False)["state"]


@pytest.fixture(params=["pids-cgroup", "RLIMIT_NPROC"])
def limited(request, groups, make_place, start):
    """How to start a pod that may have so many processes, process 1 among them; and its place."""

    def how(most):
        if request.param == "RLIMIT_NPROC":
            return {"uid": LONELY, "before_exec": lambda: resource.setrlimit(resource.RLIMIT_NPROC, (most, most))}
        group = groups("pids")
        group.set("pids.max", most)
        return {"uid": OWNER, **group.how()}

    how.place = make_place(owner=LONELY if request.param == "RLIMIT_NPROC" else OWNER)
    return how


@pytest.fixture
def crowded(limited, start):
    return Crowded(start(*MAIN, place=limited.place, **limited(MOST)))


@pytest.fixture
def content(start):
    """What is in the vault, through a pod without limits."""

    def look(place):
        uid = os.stat(place.work).st_uid
        start(place=place, uid=uid).ready().unlock()
        return {path.name: path.read_bytes().decode() for path in place.secrets.iterdir()}

    return look


def is_refused_as_busy(done):
    return done.returncode == 75 and b"[busy]" in done.stderr and b"try again" in done.stderr


def test_a_pod_whose_main_command_can_not_be_started_ends_with_70_and_touches_nothing(limited, start, content):
    place = limited.place
    saved = start(place=place, uid=os.stat(place.work).st_uid).ready().create()
    place.write("key", b"a secret")
    saved.signal(signal.SIGTERM)
    assert saved.wait() == 0
    whole = place.vault.read_bytes()

    pod = start("sleep", "infinity", place=place, **limited(1))
    assert pod.wait() == 70
    assert "no process" in pod.log()
    assert place.vault.read_bytes() == whole and place.left_in_ram() == []
    # One more, and it runs: so this was the limit.
    pod = start("sleep", "infinity", place=place, **limited(2)).ready()
    pod.main()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert content(place) == {"key": "a secret"}


def test_alone_at_the_limit_it_serves_and_ends(limited, start):
    pod = start(place=limited.place, **limited(1)).ready()
    done = pod.tazpod("unlock", "--create", *CHEAP, passphrase=PASSPHRASE, uid=0, inside=False)
    assert is_refused_as_busy(done), done
    assert not limited.place.vault.exists() and limited.place.left_in_ram() == []
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0


@pytest.mark.parametrize("room", [0, 1])
def test_at_the_limit_a_vault_is_neither_made_nor_opened_and_may_be_when_there_is_room(crowded, room):
    """Room for one is no room: a vault is opened by two."""
    place = crowded.pod.place
    crowded.fill(but=room)
    done = crowded.create()
    assert is_refused_as_busy(done), done
    assert crowded.state() == "locked" and place.left_in_ram() == [] and not place.vault.exists()
    crowded.empty()
    assert crowded.create().returncode == 0
    place.write("key", b"a secret")
    crowded.ok("lock")
    whole = place.vault.read_bytes()

    crowded.fill(but=room)
    done = crowded.unlock()
    assert is_refused_as_busy(done), done
    assert crowded.state() == "locked" and place.left_in_ram() == [] and place.vault.read_bytes() == whole
    crowded.empty()
    assert crowded.unlock().returncode == 0
    assert (place.secrets / "key").read_bytes() == b"a secret"


@pytest.mark.parametrize("room", [0, 1])
def test_at_the_limit_a_save_and_a_lock_fail_and_keep_the_vault_open_and_are_done_when_there_is_room(crowded, room):
    place = crowded.pod.place
    assert crowded.create().returncode == 0
    place.write("key", b"a secret")
    whole, everything = place.vault.read_bytes(), tree(place.secrets)
    crowded.fill(but=room)
    for verb in ("save", "lock", "save"):
        done = crowded.ask(verb)
        assert is_refused_as_busy(done), done
        assert crowded.state() == "open" and tree(place.secrets) == everything, "in its place, all of it"
        assert place.vault.read_bytes() == whole and not place.temporaries()
    crowded.empty()
    crowded.ok("save")
    assert place.vault.read_bytes() != whole
    crowded.ok("lock")
    assert place.left_in_ram() == []


def test_a_stop_at_the_limit_saves_when_all_the_others_are_gone(crowded, content):
    """Its first save can't be done, and the last one is."""
    place, pod = crowded.pod.place, crowded.pod
    assert crowded.create().returncode == 0
    place.write("key", b"a secret")
    whole = place.vault.read_bytes()
    crowded.fill()
    assert is_refused_as_busy(crowded.ask("save"))
    assert place.vault.read_bytes() == whole
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM, pod.log()
    assert content(place) == {"key": "a secret"}


# Everybody makes more as long as anybody is there, and nobody listens.
BOMB = """
import os, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
print("armed", flush=True)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
signal.sigwait({signal.SIGUSR1})
told = False
while True:
    try:
        if os.fork() == 0:
            told = True
    except BlockingIOError:
        if not told:
            print("full", flush=True)
            told = True
    for _ in range(20):
        os.sched_yield()
"""


def test_a_stop_with_a_fork_bomb_at_the_limit_kills_it_and_saves(limited, start, content):
    place = limited.place
    pod = start("/usr/bin/python3", "-c", BOMB, place=place, options=("--stop-timeout", "4s"), **limited(MOST)).ready()
    pod.wait_out("armed")
    ask = lambda *words, **how: pod.tazpod(*words, uid=0, inside=False, **how)
    assert ask("unlock", "--create", *CHEAP, passphrase=PASSPHRASE).returncode == 0
    place.write("key", b"a secret")
    pod.signal(signal.SIGUSR1)
    pod.wait_out("full")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGKILL, pod.log()
    assert content(place) == {"key": "a secret"}


def test_room_for_the_two_workers_of_a_save_is_room_for_a_lock_and_for_an_unlock(crowded):
    """The worker before (look, config) has told its result and is killed, and counts until it is collected."""
    assert crowded.create().returncode == 0
    crowded.pod.place.write("key", b"a secret")
    crowded.fill(but=2)
    crowded.ok("save")
    until(lambda: children(crowded.pod.pid) == [crowded.pod.main()], "no worker")
    done = crowded.ask("lock")
    locked = done.returncode
    if locked:
        print(done.stderr)
        crowded.empty()
        crowded.ok("lock")
        crowded.fill(but=2)
    until(lambda: children(crowded.pod.pid) == [crowded.pod.main()], "no worker")
    done = crowded.unlock()
    print(done.stderr)
    assert (locked, done.returncode) == (0, 0)


def test_a_save_that_found_no_process_is_logged_and_told(crowded):
    assert crowded.create().returncode == 0
    crowded.pod.place.write("key", b"a secret")
    crowded.fill()
    assert crowded.ask("save").returncode == 75
    told = crowded.pod.status(uid=0, inside=False)
    assert "error in=save error=busy" in crowded.pod.log() and told.get("problem", "").startswith("busy"), (
        told, crowded.pod.log())


def test_the_word_of_a_last_save_that_found_no_process_is_in_the_last_line(groups, start, place):
    """A limit that has no room for a save at all."""
    group = groups("pids")
    pod = start("sleep", "infinity", place=place, **group.how()).ready().create()
    place.write("key", b"a secret")
    group.set("pids.max", 2)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 74
    assert "error=busy" in pod.log().splitlines()[-1], pod.log()


def test_of_an_owner_at_his_limit_a_root_process_1_loses_nothing(start, make_place, content):
    """The limit is not root's: its workers are started, and then they become the owner, who has too many."""
    place = make_place(owner=LONELY)
    main = ("prlimit", f"--nproc={MOST}", "setpriv", "--reuid", str(LONELY), "--regid", str(LONELY), "--clear-groups", *MAIN)
    crowded = Crowded(start(*main, place=place, uid=0, options=("--owner", str(LONELY)),
                            before_exec=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (MOST // 2, MOST))))
    assert crowded.create().returncode == 0
    place.write("key", b"a secret")
    whole, everything = place.vault.read_bytes(), tree(place.secrets)
    crowded.fill()
    for verb in ("save", "lock"):
        assert is_refused_as_busy(crowded.ask(verb))
        assert crowded.state() == "open" and tree(place.secrets) == everything and place.vault.read_bytes() == whole
    crowded.empty()
    crowded.ok("save")
    place.write("key", b"another")
    crowded.fill()
    crowded.pod.signal(signal.SIGTERM)
    assert crowded.pod.wait() == 128 + signal.SIGTERM, crowded.pod.log()
    assert content(place) == {"key": "another"}


# ---- memory ----

# Takes so many bytes for each line, and gives all back for a 0. In files that have no name and that it has
# not mapped: then it is not the largest process, and the kernel ends a worker in its place, as it is to.
HOG = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = []
print("armed", flush=True)
for line in sys.stdin:
    if int(line):
        held.append(os.memfd_create("held"))
        os.posix_fallocate(held[-1], 0, int(line))
    else:
        while held:
            os.close(held.pop())
    print("done", flush=True)
"""
LIMIT = 128 << 20
# Room for a process to begin, and not for it to pack or seal.
SPARE = 1500 << 10


class Squeezed:
    """A pod in a group whose memory can be used up and given back. Root's, for it mounts its own group where
    a container sees it."""

    def __init__(self, groups, start, place):
        self.group = groups("memory")
        names = ("memory.max", "memory.current", "inactive_file", "active_file", "memory.swap.max", "0") if self.group.v2 \
            else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "total_active_file",
                  "memory.memsw.limit_in_bytes", str(LIMIT))
        self.usage, *self.cache = names[1:4]
        self.group.set(names[0], LIMIT)
        with contextlib.suppress(FileNotFoundError):  # where swap is not counted
            self.group.set(*names[4:])
        how = self.group.how()
        enter = how["before_exec"]

        def mount_and_enter():
            mount(self.group.path, self.group.top, None, MS_BIND)
            enter()

        reader, self.writer = os.pipe()
        how["descriptors"][0] = reader
        self.pod = start("/usr/bin/python3", "-c", HOG, place=place, uid=0, options=("--stop-timeout", "4s"),
                         **{**how, "before_exec": mount_and_enter}).ready()
        os.close(reader)
        self.pod.wait_out("armed")

    def left(self):
        """What is in no use; the cache of files makes way."""
        stat = dict(line.split() for line in (self.group.path / "memory.stat").read_text().splitlines())
        return LIMIT - self.group.get(self.usage) + sum(int(stat[name]) for name in self.cache)

    def kills(self):
        text = (self.group.path / ("memory.events" if self.group.v2 else "memory.oom_control")).read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def take(self, size):
        before = self.pod.out().count("done")
        os.write(self.writer, b"%d\n" % size)
        until(lambda: self.pod.out().count("done") > before, "the hog")

    def use_up(self):
        until(lambda: children(self.pod.pid) == [self.pod.main()], "no worker")
        while self.left() > SPARE + (256 << 10):
            self.take(self.left() - SPARE)

    def give_back(self):
        self.take(0)


@pytest.fixture
def squeezed(groups, start, make_place):
    place = make_place(size="128m")
    pod = Squeezed(groups, start, place)
    yield pod
    os.close(pod.writer)


def fill(place):
    """More than can be packed in no room."""
    for number in range(8):
        place.write(f"big-{number}", os.urandom(3 << 20))
    return tree(place.secrets)


def test_at_the_memory_limit_a_save_has_the_reserve_and_without_it_keeps_all_until_there_is_room(squeezed):
    pod, place = squeezed.pod, squeezed.pod.place
    before = squeezed.left()
    pod.create()
    assert before - squeezed.left() > 14 << 20, "the reserve is taken"
    fill(place)
    squeezed.use_up()
    pod.ok("save")
    assert squeezed.kills() > 0 and "error in=save error=worker-died" in pod.log(), "the first try had no room"

    # The reserve went with it.
    squeezed.use_up()
    place.write("big-0", os.urandom(3 << 20))
    whole, everything = place.vault.read_bytes(), tree(place.secrets)
    for verb in ("save", "lock"):
        done = pod.tazpod(verb)
        assert done.returncode == 70 and b"[worker-died]" in done.stderr, done
        assert pod.status()["state"] == "open" and tree(place.secrets) == everything
        assert place.vault.read_bytes() == whole and not place.temporaries()
    assert pod.status()["problem"].startswith("worker-died")
    squeezed.give_back()
    pod.ok("lock")
    assert "problem" not in pod.status()
    assert place.left_in_ram() == []

    squeezed.use_up()
    done = pod.tazpod("unlock", passphrase=PASSPHRASE)
    assert done.returncode == 71 and b"[kdf-memory]" in done.stderr, done
    assert pod.status()["state"] == "locked" and place.left_in_ram() == []
    squeezed.give_back()
    pod.unlock()
    assert tree(place.secrets) == everything


def test_a_stop_at_the_memory_limit_saves_when_those_who_hold_it_are_gone(squeezed, start):
    pod, place = squeezed.pod, squeezed.pod.place
    pod.create()
    fill(place)
    squeezed.use_up()
    pod.ok("save")  # with the reserve, which is gone now
    squeezed.use_up()
    place.write("key", b"a secret")
    everything, tries = tree(place.secrets), pod.log().count("error in=save")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGKILL, pod.log()
    assert pod.log().count("error in=save") > tries, "its first save had no room"
    start(place=place).ready().unlock()
    assert tree(place.secrets) == everything


# ---- room in the run directory ----


def use_up_bytes(folder):
    """Returns how to give them back."""
    other = folder / "other"
    with open(other, "wb", buffering=0) as f, pytest.raises(OSError):
        while True:
            f.write(bytes(4096))
    return other.unlink


def use_up_files(folder):
    made = []
    with pytest.raises(OSError):
        while True:
            path = folder / f"other-{len(made)}"
            path.touch(exist_ok=False)
            made.append(path)
    return lambda: [path.unlink() for path in made]


USED_UP = pytest.mark.parametrize("use_up", [use_up_bytes, use_up_files])


@pytest.fixture
def small_place(make_place):
    place = make_place(size="4m")
    mount(None, place.run, None, MS_REMOUNT | 6, "nr_inodes=60")
    return place


def test_where_the_socket_has_no_room_the_main_command_runs_without_a_vault(start, small_place):
    give_back = use_up_files(small_place.run)
    pod = start("sh", "-c", "trap 'exit 3' TERM; echo armed; while :; do sleep 0.02; done", place=small_place).ready()
    assert "refuse error=bad-run-dir" in pod.log() and "state=absent" in pod.log()
    pod.wait_out("armed")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 3
    give_back()
    start(place=small_place).ready().create()


@USED_UP
def test_in_a_full_run_directory_nothing_is_opened_and_all_else_works(start, small_place, use_up):
    place = small_place
    pod = start("sleep", "infinity", place=place).ready().create()
    # What fits and no more: neither its files nor its bytes would fit a second time.
    for number in range(10):
        place.write(f"key-{number}", os.urandom(20_000))
    others = lambda: [name for name in place.left_in_ram() if not name.startswith("other")]

    give_back = use_up(place.run)
    everything = tree(place.secrets)
    pod.ok("save")
    pod.ok("lock")
    assert others() == [] and pod.status()["state"] == "locked"
    give_back()

    give_back = use_up(place.run)
    whole = place.vault.read_bytes()
    for _ in range(2):
        done = pod.tazpod("unlock", passphrase=PASSPHRASE)
        assert done.returncode == 74 and b"[no-room]" in done.stderr, done
        assert others() == [] and pod.status()["state"] == "locked"
    assert place.vault.read_bytes() == whole
    give_back()
    pod.unlock()
    assert tree(place.secrets) == everything

    place.write("key-0", b"another")
    everything = tree(place.secrets)
    give_back = use_up(place.run)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    assert others() == []
    give_back()
    start(place=place).ready().unlock()
    assert tree(place.secrets) == everything


def test_in_a_run_directory_without_a_file_to_spare_no_vault_is_made(start, small_place):
    pod = start("sleep", "infinity", place=small_place).ready()
    give_back = use_up_files(small_place.run)
    done = pod.tazpod("unlock", "--create", *CHEAP, passphrase=PASSPHRASE)
    assert done.returncode == 74 and b"[no-room]" in done.stderr, done
    assert not small_place.vault.exists() and pod.status()["state"] == "locked"
    give_back()
    pod.create()


# ---- /proc ----

# Two who write down their last word when they are told; the daemon is in a session of its own.
LAST_WORDS = """
secrets=$1
setsid sh -c 'trap "echo daemon > $0/daemon; exit" TERM; echo armed; while :; do sleep 0.02; done' "$secrets" &
trap 'echo main > "$secrets/main"; exit 3' TERM
echo armed
while :; do sleep 0.02; done
"""


def whole_life(start, place, content, *, inside=True, **how):
    """Made, saved, locked, opened, and stopped with everybody's last word."""
    pod = start("sh", "-c", LAST_WORDS, "sh", str(place.secrets), place=place, **how).ready()
    until(lambda: pod.out().count("armed") == 2, "both")
    ok = lambda *words, **more: pod.ok(*words, inside=inside, **more)
    ok("unlock", "--create", *CHEAP, passphrase=PASSPHRASE)
    place.write("key", b"a secret")
    ok("save")
    ok("lock")
    assert place.left_in_ram() == []
    ok("unlock", passphrase=PASSPHRASE)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 3, pod.log()
    assert content(place) == {"key": "a secret", "main": "main\n", "daemon": "daemon\n"}


def no_proc():
    mount("tmpfs", "/proc", "tmpfs")


def test_without_proc_and_without_the_programs_name_there_is_no_vault_and_a_good_init(start, place):
    pod = start("sh", "-c", LAST_WORDS, "sh", str(place.work), place=place, uid=0, before_exec=no_proc).ready()
    assert "refuse error=no-program" in pod.log()
    until(lambda: pod.out().count("armed") == 2, "both")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 3
    assert (place.work / "main").exists()


def test_without_proc_a_vault_has_its_whole_life(start, place, content):
    whole_life(start, place, content, uid=0, before_exec=no_proc, inside=False,
               options=("--program", str(programs() / "tazpod")))


@pytest.mark.parametrize("vault", ["open", "locked", "absent"])
def test_without_proc_and_not_as_process_1_the_main_command_and_its_group_are_told(start, place, content, vault):
    """Whom no /proc shows is waited for, but neither told nor killed: its number could be a neighbour's."""
    folder = place.secrets if vault == "open" else place.work
    inside = LAST_WORDS.replace("setsid", "")
    outside = "(setsid sh -c 'echo armed; trap \"\" TERM; while :; do sleep 0.02; done' &)\n"
    options = ["--stop-timeout", "800ms"] + ([] if vault == "absent" else ["--program", str(programs() / "tazpod")])
    pod = start("sh", "-c", outside + inside, "sh", str(folder), place=place, uid=0, beside=True, before_exec=no_proc,
                options=options).ready()
    until(lambda: pod.out().count("armed") == 3, "all")
    if vault == "open":
        pod.ok("unlock", "--create", *CHEAP, passphrase=PASSPHRASE, inside=False)
    alone = next(pid for pid in children(pod.pid) if pid != pod.main())
    main = pod.main()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 3, pod.log()
    assert is_alive(pod.neighbour) and is_alive(alone) and not is_alive(main)
    if vault == "open":
        assert content(place) == {"main": "main\n", "daemon": "daemon\n"}


@pytest.mark.parametrize("hidden", ["invisible", "ptraceable"])
@pytest.mark.parametrize("beside", [False, True], ids=["process-1", "not-process-1"])
def test_with_a_proc_that_shows_no_more_than_ones_own_a_vault_has_its_whole_life(start, place, content, hidden, beside):
    there, say_there = os.pipe()
    gate, open_gate = os.pipe()

    def wait_until_it_is_hidden():
        os.write(GATE + 1, b"x")
        os.read(GATE, 1)
        for fd in (GATE, GATE + 1):
            os.close(fd)

    def hidden_start(*command, **how):
        if "descriptors" not in how:  # the pod that only reads
            return start(*command, **how)
        pod = start(*command, **how)
        assert os.read(there, 1) == b"x"
        subprocess.run(["nsenter", "--target", str(pod.host), "--mount", "--pid", "mount", "-o",
                        f"remount,hidepid={hidden}", "/proc"], check=True)
        os.write(open_gate, b"x")
        return pod

    whole_life(hidden_start, place, content, beside=beside, before_exec=wait_until_it_is_hidden,
               descriptors={GATE: gate, GATE + 1: say_there})
    for fd in (there, say_there, gate, open_gate):
        os.close(fd)
