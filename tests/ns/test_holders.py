"""A lock of a vault that somebody holds open: it saves, waits a little, then refuses and names him, and
the vault is open as before. By force he is ended first. What he writes until his end is not lost.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from nsinit import (CHEAP, DEADLINE_S, OWNER, PASSPHRASE, SAVE, Client, children, is_alive, mount, programs, request,
                    status_field, until)
from test_fault import fault

PYTHON = "/usr/bin/python3"

# The command is named so in the pod.
NAME = "a holder"

# Takes hold of something, says so, and does what it is told, a line each.
HOLDER = """
import ctypes, mmap, os, signal, socket, sys
top, how, at_term, name, uid, gid = sys.argv[1:]
libc = ctypes.CDLL(None)
fd = data = None
if how == "root":
    os.chroot(top)
if os.getuid() == 0 and uid != "0":
    os.setgroups([])
    os.setresgid(int(gid), int(gid), int(gid))
    os.setresuid(int(uid), int(uid), int(uid))
    libc.prctl(4, 1, 0, 0, 0)  # as after an exec
if how in ("file", "mapped", "deleted-file"):
    fd = os.open(top + "/held", os.O_RDWR)
elif how == "read-only":
    fd = os.open(top + "/held", os.O_RDONLY)
elif how == "path":
    fd = os.open(top + "/folder", os.O_PATH)
elif how == "working-directory":
    os.chdir(top + "/folder")
    fd = os.open("/dev/null", os.O_RDWR)
elif how == "top":
    os.chdir(top)
elif how == "deleted-directory":
    os.mkdir(top + "/gone")
    os.chdir(top + "/gone")
    os.rmdir(top + "/gone")
elif how in ("socket", "datagram-socket", "elsewhere-socket"):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM if how == "datagram-socket" else socket.SOCK_STREAM)
    s.bind(top + "/bound")
elif how == "elsewhere":
    fd = os.open(top, os.O_RDONLY)
if how == "deleted-file":
    os.unlink(top + "/held")
if how == "mapped":
    data = mmap.mmap(fd, 4096)
    os.close(fd)
if how == "mapped-read-only":
    fd = os.open(top + "/held", os.O_RDONLY)
    data = mmap.mmap(fd, 4096, mmap.MAP_PRIVATE, mmap.PROT_READ)
    os.close(fd)

def say(text):
    if how == "mapped":
        data[:len(text)] = text
    elif how in ("working-directory", "top"):
        open("said", "wb").write(text)
    else:
        os.pwrite(fd, text, 0)

def term(*_):
    say(b"last words")
    os._exit(5)

signal.signal(signal.SIGTERM, {"dies": signal.SIG_DFL, "ignores": signal.SIG_IGN, "speaks": term}[at_term])
libc.prctl(15, name.encode(), 0, 0, 0)
os.write(1, f"there {os.getpid()}\\n".encode())
while True:
    word = sys.stdin.readline().strip()
    if not word:
        os._exit(0)
    say(word.encode())
    os.write(1, b"said\\n")
"""

HOLDS = ["file", "read-only", "deleted-file", "mapped", "mapped-read-only", "path", "working-directory", "top",
         "deleted-directory", "root", "socket", "datagram-socket"]

HOW = pytest.mark.parametrize("how", [{"uid": OWNER}, {"uid": 0}, {"uid": OWNER, "may_mount": True},
                                      {"uid": 0, "may_mount": True}],
                              ids=["given-owner", "given-root", "own-owner", "own-root"])
BOTH = pytest.mark.parametrize("how", [{"uid": OWNER}, {"uid": OWNER, "may_mount": True}], ids=["given", "own"])


class Holder:
    """Somebody by `docker exec`: its parent is outside."""

    def __init__(self, pod, how, at_term="dies", name=NAME, uid=OWNER, gid=None, top=None, unshare=False):
        words = ["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--"]
        if unshare:
            words += ["unshare", "--mount", "--"]
        gid = uid if gid is None else gid
        if how != "root":
            words += ["setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups"]
        words += [PYTHON, "-c", HOLDER, str(top or pod.place.secrets), how, at_term, name, str(uid), str(gid)]
        self._run(words)

    def _run(self, words):
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.number = re.fullmatch(r"there (\d+)\n", self.process.stdout.readline()).group(1)
        self.pid = next(pid for pid in [self.process.pid, *children(self.process.pid)]
                        if status_field(pid, "NSpid").split()[-1] == self.number)

    def says(self, text):
        self.process.stdin.write(text + "\n")
        assert self.process.stdout.readline() == "said\n"

    def ends(self):
        """By itself. Its exit status."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        return self.ended()

    def ended(self):
        """Its exit status, when it is gone; negative if a signal killed it."""
        until(lambda: not is_alive(self.pid), "its end")
        self.process.send_signal(signal.SIGCONT)  # nsenter stops itself with its child, and collects it then
        code = self.process.wait(DEADLINE_S)
        return 128 - code if code > 128 else code  # nsenter's way to tell, and subprocess's

    def is_there(self):
        return self.process.poll() is None and is_alive(self.pid)


class Program(Holder):
    """Executes a file of the vault, and holds nothing else of it."""

    def __init__(self, pod, uid=OWNER):
        program = pod.secrets / "program"
        shutil.copyfile("/bin/dash", program)
        program.chmod(0o755)
        os.chown(program, OWNER, OWNER)
        self._run(["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid", str(uid),
                   "--regid", str(uid), "--clear-groups", str(pod.place.secrets / "program"), "-c",
                   "cd /; echo there $$; read x"])


@pytest.fixture
def hold():
    """Holder(...), or Program(pod) for the kind "program"; ended after the test."""
    made = []

    def make(pod, how, *args, **keywords):
        made.append(Program(pod) if how == "program" else Holder(pod, how, *args, **keywords))
        return made[-1]

    yield make
    for holder in made:
        if holder.is_there():
            os.kill(holder.pid, signal.SIGKILL)
        holder.ends()
        holder.process.stdout.close()


class Asked:
    """A command of tazpod's that runs on."""

    def __init__(self, pod, *args, **how):
        words, keywords = pod.command(*args, **how)
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords)

    def ended(self):
        """(exit status, what it said)"""
        out, err = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, err.decode()


def opened(start, place, *command, wait="100ms", env=None, options=(), **how):
    """A pod whose vault holds a file and a folder."""
    options += ("--lock-wait", wait) if wait else ()
    pod = start(*(command or ("sleep", "infinity")), place=place, options=options, env=env, **how).ready().create()
    pod.write("held", b"at first".ljust(4096, b"."))
    pod.write("key", b"a secret")
    (pod.secrets / "folder").mkdir(mode=0o700)
    os.chown(pod.secrets / "folder", OWNER, OWNER)
    return pod


def content(pod):
    """What a vault keeps of what is there: no socket."""
    found = {}
    for path in pod.secrets.rglob("*"):
        info = path.lstat()
        if not path.is_socket():
            data = path.read_bytes() if path.is_file() else None
            found[str(path.relative_to(pod.secrets))] = (info.st_mode, data and (int(info.st_mtime), data))
    return found


def saves(pod):
    return pod.log().count("tazpod-init: save ")


def waiting_lock(pod, *flags, **how):
    """A lock that has saved, and now waits for somebody."""
    before = saves(pod)
    lock = Asked(pod, "lock", *flags, **how)
    until(lambda: saves(pod) > before or lock.process.poll() is not None, f"its first save; log:\n{pod.log()}")
    assert pod.status()["state"] == "locking", pod.log()
    return lock


def assert_refused(done, *named):
    """done: (exit status, what was said). named: pid and command of each who is named, and nobody else."""
    code, text = done
    assert code == 75, (code, text)
    found = re.fullmatch(r"tazpod: can't lock \(the vault stays open\): these processes hold files in it open: (.*): end "
                         r"them, or tazpod lock --force \[held\]\n", text)
    assert found, text
    assert sorted(found.group(1).split(", ")) == sorted(f"{number} ({name})" for number, name in named)


def locked(pod, *flags, **how):
    done = pod.tazpod("lock", *flags, **how)
    return done.returncode, done.stderr.decode()


def assert_on_disk(pod, vault, wanted):
    """vault: a copy that was taken of the file. The pod's own is locked."""
    os.replace(vault, pod.place.vault)
    os.chown(pod.place.vault, OWNER, OWNER)
    pod.unlock("--accept-older")
    assert content(pod) == wanted


# ---- refused ----


@HOW
@pytest.mark.parametrize("kind", [*HOLDS, "program"])
def test_a_lock_is_refused_while_somebody_holds(start, place, hold, how, kind):
    pod = opened(start, place, **how)
    holder = hold(pod, kind)
    before, generation = content(pod), int(pod.status()["generation"])
    assert_refused(locked(pod), (holder.number, NAME if kind != "program" else "program"))
    assert pod.status()["state"] == "open"
    assert int(pod.status()["generation"]) == generation + 1, "it has been saved"
    on_disk = shutil.copy(place.vault, place.work / "copy")
    assert content(pod) == before and holder.is_there()
    pod.write("more", b"it can be written to")
    pod.ok("save")

    now = content(pod)
    holder.ends()
    pod.ok("lock")
    # The kernel lets go of a socket's place some time after its process: then the empty mount is set aside.
    assert set(place.left_in_ram()) <= ({".busy-0"} if kind == "socket" else set())
    pod.unlock()
    assert content(pod) == now
    pod.ok("lock")
    assert_on_disk(pod, on_disk, before)


@BOTH
def test_each_of_several_is_named_and_whoever_holds_nothing_is_not(start, place, hold, how):
    pod = opened(start, place, **how)
    hold(pod, "elsewhere", top=place.work, name="no holder")
    holders = [hold(pod, kind, name=f"holds {n}") for n, kind in enumerate(["file", "socket", "working-directory"])]
    assert_refused(locked(pod), *((holder.number, f"holds {n}") for n, holder in enumerate(holders)))
    holders[1].ends()
    assert_refused(locked(pod), *((holders[n].number, f"holds {n}") for n in (0, 2)))
    holders[0].ends()
    holders[2].ends()
    pod.ok("lock")


def test_what_is_held_beside_the_vault_in_the_same_ram_is_nobodys_business(start, place, hold):
    """Given RAM is a file system that is not the vault's alone."""
    pod = opened(start, place, uid=OWNER)
    beside = place.run / "secrets-of-another"
    beside.mkdir()
    os.chown(beside, OWNER, OWNER)
    (beside / "held").write_bytes(bytes(4096))
    os.chown(beside / "held", OWNER, OWNER)
    (beside / "folder").mkdir()
    os.chown(beside / "folder", OWNER, OWNER)
    holders = [hold(pod, kind, top=beside) for kind in ("file", "working-directory", "mapped", "socket")]
    pod.ok("lock")
    assert not place.secrets.exists()
    assert all(holder.is_there() for holder in holders)
    pod.unlock()
    holder = hold(pod, "file")
    assert_refused(locked(pod), (holder.number, NAME))


@BOTH
def test_the_names_of_commands_can_not_forge_a_message(start, place, hold, how):
    pod = opened(start, place, **how)
    names = {"a b": "a b", " ": " ", "two\nlines": "two?lines", "\x1b[31mred": "?[31mred", ")): 1 (init": ")): 1 (init",
             "caf\u00e9": "caf??", "fifteen letters": "fifteen letters", "": ""}
    for name, said in names.items():
        holder = hold(pod, "file", name=name)
        code, text = locked(pod)
        assert code == 75 and text.count("\n") == 1
        assert f"in it open: {holder.number} ({said}): end them" in text, (name, text)
        holder.ends()
    pod.ok("lock")


# Forks so many that hold a file each, says so when all do. They end with standard input.
CROWD = """
import os, signal, sys
top, n, speaks = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "speaks"
ready, there = os.pipe()
def hold(i):
    fd = os.open(f"{top}/held-{i:03}", os.O_RDWR | os.O_CREAT, 0o600)
    def term(*_):
        os.write(fd, b"last words")
        os._exit(5)
    if speaks:
        signal.signal(signal.SIGTERM, term)
    os.write(there, b".")
    while os.read(0, 1):
        pass
    os._exit(0)
for i in range(n):
    if os.fork() == 0:
        hold(i)
while n:
    n -= len(os.read(ready, n))
os.write(1, b"there\\n")
codes = []
try:
    while True:
        codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
except ChildProcessError:
    os.write(1, f"{sorted(set(codes))}\\n".encode())
"""


class Crowd:
    def __init__(self, pod, n, at_term="dies"):
        words = ["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid", str(OWNER),
                 "--regid", str(OWNER), "--clear-groups", PYTHON, "-c", CROWD, str(pod.place.secrets), str(n), at_term]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "there\n"

    def __enter__(self):
        return self

    def ends(self):
        """The exit statuses there were."""
        self.process.stdin.close()
        codes = self.process.stdout.readline().strip()
        self.process.wait(DEADLINE_S)
        return codes

    def __exit__(self, *_):
        if not self.process.stdin.closed:
            self.ends()
        self.process.stdout.close()


@BOTH
def test_of_very_many_the_first_are_named_and_the_message_is_whole(start, place, how):
    pod = opened(start, place, **how)
    with Crowd(pod, 300) as crowd:
        before = content(pod)
        code, text = locked(pod)
        assert code == 75
        names = re.fullmatch(r"tazpod: can't lock \(the vault stays open\): these processes hold files in it open: (.*): "
                             r"end them, or tazpod lock --force \[held\]\n", text).group(1).split(", ")
        assert len(names) > 5 and names.pop() == "..."
        assert all(re.fullmatch(r"\d+ \(python3\)", name) for name in names), text
        assert pod.status()["state"] == "open" and content(pod) == before
        crowd.ends()
    pod.ok("lock")


@BOTH
def test_by_force_each_of_very_many_is_told_before_any_is_killed(start, place, how):
    pod = opened(start, place, wait="10s", **how)
    with Crowd(pod, 40, "speaks") as crowd:
        assert locked(pod, "--force")[0] == 0
        assert crowd.ends() == "[5]", "none was killed"
    pod.unlock()
    assert {path.read_bytes() for path in pod.secrets.glob("held-*")} == {b"last words"}


# ---- the client is no holder ----


def in_shell(pod, script):
    """A script in the pod, as the owner: (what it printed, what went to standard error)."""
    words, keywords = pod.command("lock", uid=OWNER)
    *before, program, _ = words
    environment = {**keywords["env"], "TAZPOD": program, "SECRETS": str(pod.place.secrets)}
    done = subprocess.run([*before, "sh", "-c", script], capture_output=True, text=True, timeout=DEADLINE_S,
                          env=environment)
    return done.stdout, done.stderr


@HOW
def test_a_shell_that_stands_in_the_vault_is_named_and_not_the_lock_it_asked_for(start, place, how):
    pod = opened(start, place, **how)
    out, err = in_shell(pod, "echo $$; cd $SECRETS && $TAZPOD lock; echo $?; cd /; $TAZPOD lock; echo $?")
    number, refused, taken = out.split()
    assert (refused, taken) == ("75", "0"), (out, err)
    assert_refused((75, err.splitlines(keepends=True)[0]), (number, "sh"))
    assert "the vault is locked" in err


CLIENTS = {
    "stands-in-it": "cd $SECRETS; exec $TAZPOD lock",
    "stands-deep-in-it": "cd $SECRETS/folder; exec $TAZPOD lock",
    "was-given-a-file": "exec 7<$SECRETS/key; exec $TAZPOD lock",
    "was-given-it-as-input": "exec $TAZPOD lock <$SECRETS/key",
    "prints-into-it": "exec $TAZPOD lock >$SECRETS/printed",
}


@BOTH
@pytest.mark.parametrize("script", CLIENTS.values(), ids=CLIENTS)
def test_the_client_is_never_a_holder(start, place, how, script):
    pod = opened(start, place, **how)
    out, err = in_shell(pod, f"({script}); echo $?")
    assert out == "0\n", err
    assert pod.status()["state"] == "locked"


# ---- who lets go in time ----


@HOW
@pytest.mark.parametrize("kind", ["file", "mapped", "working-directory", "top"])
def test_what_a_holder_writes_until_he_lets_go_is_saved(start, place, hold, how, kind):
    """The lock has saved already, and waits for him."""
    pod = opened(start, place, wait="60s", **how)
    holder = hold(pod, kind)
    before = content(pod)
    lock = waiting_lock(pod)
    assert not pod.secrets.exists(), "nobody finds it by name meanwhile"
    holder.says("last words")
    assert lock.process.poll() is None
    assert holder.ends() == 0
    code, text = lock.ended()
    assert code == 0 and text.endswith("tazpod: the vault is locked, generation 3 is on disk\n")
    assert (UNSEEN in text) == (how["uid"] == 0), "the main command is root's then"
    assert place.left_in_ram() == []
    pod.unlock()
    after = content(pod)
    where = {"working-directory": "folder/said", "top": "said"}.get(kind, "held")
    assert after.pop(where)[1][1].startswith(b"last words")
    before.pop(where, None)
    assert after == before


@BOTH
def test_a_lock_waits_no_longer_than_it_takes(start, place, hold, how):
    pod = opened(start, place, wait=None, env={"TAZPOD_LOCK_WAIT": "60s"}, **how)
    holder = hold(pod, "file")
    lock = waiting_lock(pod)
    holder.ends()
    began = time.monotonic()
    assert lock.ended()[0] == 0
    assert time.monotonic() - began < 10


@BOTH
@pytest.mark.parametrize("wait, least, most", [("100ms", 0.1, 5), ("1500ms", 1.5, 8)])
def test_a_lock_that_is_refused_has_waited_as_long_as_was_said(start, place, hold, how, wait, least, most):
    pod = opened(start, place, wait=wait, **how)
    hold(pod, "file")
    began = time.monotonic()
    assert locked(pod)[0] == 75
    assert least <= time.monotonic() - began < most


@BOTH
def test_a_holder_that_comes_while_it_waits_is_waited_for_too(start, place, hold, how):
    """By a relative path from where he stands."""
    pod = opened(start, place, wait="60s", **how)
    first = hold(pod, "top")
    lock = waiting_lock(pod)
    second = hold(pod, "file", top=f"/proc/{first.number}/cwd")
    first.ends()
    second.says("the second's")
    assert lock.process.poll() is None
    second.ends()
    assert lock.ended()[0] == 0
    pod.unlock()
    assert (pod.secrets / "held").read_bytes().startswith(b"the second's")


# ---- by force ----


@HOW
@pytest.mark.parametrize("kind", ["file", "mapped", "working-directory"])
def test_by_force_he_is_told_and_his_last_words_are_saved(start, place, hold, how, kind):
    pod = opened(start, place, wait="60s", **how)
    bystander = hold(pod, "elsewhere", top=place.work)
    holder = hold(pod, kind, "speaks")
    assert locked(pod, "--force")[0] == 0
    assert holder.ended() == 5, "he ended by himself"
    assert bystander.is_there(), "who holds nothing is not signalled"
    assert place.left_in_ram() == []
    assert re.findall(r"end-holders signal=(\d+)", pod.log()) == ["15"]
    pod.unlock()
    assert (pod.secrets / ("folder/said" if kind == "working-directory" else "held")).read_bytes().startswith(b"last words")


@BOTH
@pytest.mark.parametrize("kind", [*HOLDS, "program"])
def test_by_force_who_does_not_mind_term_is_killed(start, place, hold, how, kind):
    pod = opened(start, place, wait="200ms", **how)
    holder = hold(pod, kind, "ignores")
    if kind in ("file", "mapped"):
        holder.says("what he wrote before")
    code, text = locked(pod, "--force")
    assert code == 0, text
    assert holder.ended() == (-signal.SIGTERM if kind == "program" else -signal.SIGKILL)
    assert place.left_in_ram() == []
    pod.unlock()
    if kind in ("file", "mapped"):
        assert (pod.secrets / "held").read_bytes().startswith(b"what he wrote before")
    assert (pod.secrets / "key").read_bytes() == b"a secret"


@BOTH
def test_by_force_he_has_the_time_that_was_said_between_term_and_kill(start, place, hold, how):
    pod = opened(start, place, wait="1s", **how)
    holder = hold(pod, "file", "ignores")
    lock = Asked(pod, "lock", "--force")
    until(lambda: "end-holders signal=15" in pod.log(), "TERM")
    began = time.monotonic()
    until(lambda: "end-holders signal=9" in pod.log(), "KILL")
    assert time.monotonic() - began > 0.8
    assert lock.ended()[0] == 0
    assert holder.ended() == -signal.SIGKILL


@BOTH
def test_by_force_who_is_stopped_gets_to_see_the_term(start, place, hold, how):
    pod = opened(start, place, wait="60s", **how)
    holder = hold(pod, "file", "speaks")
    os.kill(holder.pid, signal.SIGSTOP)
    until(lambda: status_field(holder.pid, "State")[0] == "T", "a stop")
    assert locked(pod, "--force")[0] == 0
    assert holder.ended() == 5
    pod.unlock()
    assert (pod.secrets / "held").read_bytes().startswith(b"last words")


@BOTH
def test_force_where_nobody_holds_signals_nobody(start, place, hold, how):
    pod = opened(start, place, **how)
    bystander = hold(pod, "elsewhere", top=place.work)
    pod.ok("lock", "--force")
    assert bystander.is_there() and "end-holders" not in pod.log()


@BOTH
def test_a_lock_that_waits_becomes_one_by_force(start, place, hold, how):
    pod = opened(start, place, wait="1s", **how)
    holder = hold(pod, "file", "speaks")
    first = waiting_lock(pod)
    assert locked(pod, "--force")[0] == 0
    assert first.ended()[0] == 0
    assert holder.ended() == 5


@BOTH
@pytest.mark.parametrize("at_term", ["speaks", "ignores"])
def test_a_main_command_that_holds_and_is_ended_by_force_ends_the_pod_with_all_saved(start, place, how, at_term):
    """Nobody else would notice that it is gone."""
    wait_for_it = f"until [ -e {place.secrets}/held ]; do sleep 0.01; done; exec {PYTHON} -c \"$0\" {place.secrets} file " \
                  f"{at_term} main {OWNER} {OWNER}"
    reader, writer = os.pipe()
    pod = opened(start, place, "sh", "-c", wait_for_it, HOLDER, wait="500ms", descriptors={0: reader}, **how)
    pod.wait_out("there ")
    lock = Asked(pod, "lock", "--force")
    assert pod.wait() == (5 if at_term == "speaks" else 128 + signal.SIGKILL)
    code, text = lock.ended()
    assert code in (0, 69, 75, -signal.SIGTERM), text  # a stop tells it as well
    os.close(reader)
    os.close(writer)
    assert place.left_in_ram() == [] and not place.temporaries()
    again = start("sleep", "infinity", place=place, **how).ready().unlock()
    assert (again.secrets / "held").read_bytes().startswith(b"last words" if at_term == "speaks" else b"at first")


# ---- who can't be looked at ----

UNSEEN = "some processes could not be looked at"


@BOTH
def test_roots_processes_can_not_be_looked_at_and_the_lock_says_so(start, place, hold, how):
    pod = opened(start, place, **how)
    holder = hold(pod, "file", uid=0)
    code, text = locked(pod)
    assert code == 0 and UNSEEN in text and "generation 2 is on disk" in text, text
    assert pod.status()["state"] == "locked" and holder.is_there()
    pod.unlock()
    holder.ends()
    assert locked(pod) == (0, "tazpod: the vault is locked, generation 2 is on disk\n"), "the control"


@BOTH
def test_another_group_hides_a_process_of_the_same_user_and_the_lock_says_so(start, place, hold, how):
    """The kernel shows what a process holds to who has all its ids."""
    pod = opened(start, place, **how)
    holder = hold(pod, "file", gid=OWNER + 1)
    code, text = locked(pod)
    assert code == 0 and UNSEEN in text, text
    holder.ends()


@BOTH
def test_a_process_with_a_capability_is_hidden_too_and_the_lock_says_so(start, place, how):
    pod = opened(start, place, **how)
    words = ["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid", str(OWNER), "--regid",
             str(OWNER), "--clear-groups", "--inh-caps", "+net_raw", "--ambient-caps", "+net_raw", "sh", "-c",
             f"exec 3<{place.secrets}/key; echo there; read x"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "there\n"
        code, text = locked(pod)
        assert code == 0 and UNSEEN in text, text
        holder.stdin.close()


def test_under_a_root_process_1_roots_processes_are_not_looked_at_either(start, place, hold):
    """The look is done as the vault's owner."""
    pod = opened(start, place, uid=0)
    assert UNSEEN in locked(pod)[1], "the main command is root's"


# ---- not process 1 ----


@pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
@pytest.mark.parametrize("at_term", ["speaks", "dies"])
def test_a_neighbour_that_holds_is_named_and_not_signalled_by_force(start, place, hold, uid, at_term):
    pod = opened(start, place, uid=uid, beside=True)
    neighbour = hold(pod, "file", at_term)
    before = content(pod)
    assert_refused(locked(pod), (neighbour.number, NAME))
    assert_refused(locked(pod, "--force"), (neighbour.number, NAME))
    assert neighbour.is_there() and is_alive(pod.neighbour)
    assert pod.status()["state"] == "open" and content(pod) == before
    neighbour.says("as ever")
    assert neighbour.ends() == 0
    pod.ok("lock")
    pod.unlock()
    assert (pod.secrets / "held").read_bytes().startswith(b"as ever")


@pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
def test_its_own_descendant_is_and_the_neighbour_is_not(start, place, hold, uid):
    """The control of the one above."""
    script = f"({PYTHON} -c \"$0\" {place.secrets} file speaks descendant {OWNER} {OWNER}) & exec sleep infinity"
    waits = f"until [ -e {place.secrets}/held ]; do sleep 0.01; done; "
    reader, writer = os.pipe()
    pod = opened(start, place, "sh", "-c", waits + script.replace("&", f"<&3 3<&- &"), HOLDER, wait="300ms", uid=uid,
                 beside=True, descriptors={3: reader})
    pod.wait_out("there ")
    number = re.search(r"there (\d+)", pod.out()).group(1)
    assert_refused(locked(pod), (number, "descendant"))
    neighbour = hold(pod, "read-only")
    assert_refused(locked(pod, "--force"), (neighbour.number, NAME))
    assert neighbour.is_there() and is_alive(pod.neighbour)
    neighbour.ends()
    pod.ok("lock")
    os.close(reader)
    os.close(writer)
    pod.unlock()
    assert (pod.secrets / "held").read_bytes().startswith(b"last words")


# ---- what else happens while a lock waits ----


@BOTH
@pytest.mark.parametrize("then", ["he lets go", "it is refused"])
def test_a_save_that_is_asked_for_meanwhile_is_answered(start, place, hold, how, then):
    pod = opened(start, place, wait="60s" if then == "he lets go" else "1s", **how)
    holder = hold(pod, "file")
    lock = waiting_lock(pod)
    with Client(pod.at(place.socket) if how.get("may_mount") else place.socket) as client:
        holder.says("before the save")
        client.send(request(SAVE))
        if then == "he lets go":
            holder.ends()
        reply = client.receive()
        assert reply is not None and reply["type"] == SAVE and (reply["code"], reply["word"]) == (0, ""), reply
    on_disk = shutil.copy(place.vault, place.work / "copy")
    assert lock.ended()[0] == (0 if then == "he lets go" else 75)
    if then == "it is refused":
        assert pod.status()["state"] == "open"
        holder.ends()
        pod.ok("lock")
    os.replace(on_disk, place.vault)
    os.chown(place.vault, OWNER, OWNER)
    pod.unlock()
    assert (pod.secrets / "held").read_bytes().startswith(b"before the save")


@BOTH
def test_a_status_says_locking_and_an_unlock_is_told_to_try_again(start, place, hold, how):
    pod = opened(start, place, wait="60s", **how)
    holder = hold(pod, "file")
    lock = waiting_lock(pod)
    assert pod.status()["state"] == "locking"
    done = pod.tazpod("unlock", passphrase=b"whatever it is")
    assert done.returncode == 75 and b"[busy]" in done.stderr
    holder.ends()
    assert lock.ended()[0] == 0


@HOW
def test_a_stop_while_a_lock_waits_saves_what_the_holder_wrote(start, place, hold, how):
    """He is told by the stop, as everybody is."""
    pod = opened(start, place, wait="60s", options=("--stop-timeout", "2s"), **how)
    holder = hold(pod, "file", "speaks")
    other = hold(pod, "mapped", "ignores", name="another")
    lock = waiting_lock(pod, inside=False)
    other.says("another's")
    pod.signal(signal.SIGTERM)
    code, text = lock.ended()
    assert code in (69, 75), text
    assert pod.wait() == 128 + signal.SIGTERM, pod.log()
    assert holder.ended() == 5 and other.ended() == -signal.SIGKILL
    assert place.left_in_ram() == [] and not place.temporaries()
    again = start("sleep", "infinity", place=place, **how).ready().unlock()
    assert (again.secrets / "held").read_bytes().startswith(b"last words")


@HOW
@pytest.mark.parametrize("then", ["he lets go", "it is refused"])
def test_a_fault_of_process_1_while_a_lock_waits_changes_nothing(start, place, hold, how, then):
    pod = opened(start, place, wait="60s" if then == "he lets go" else "1s", **how)
    holder = hold(pod, "file")
    lock = waiting_lock(pod)
    holder.says("before the fault")
    fault(pod)
    assert lock.ended()[0] != 0, "its connection is gone"
    holder.says("after the fault")
    if then == "he lets go":
        holder.ends()
        until(lambda: pod.status()["state"] == "locked", "the end of the lock")
        assert place.left_in_ram() == []
    else:
        until(lambda: pod.status()["state"] == "open", "the end of the lock")
        assert holder.is_there()
        holder.ends()
        pod.ok("lock")
    pod.unlock()
    assert (pod.secrets / "held").read_bytes().startswith(b"after the fault")


@BOTH
def test_a_fault_of_process_1_while_it_ends_somebody_by_force(start, place, hold, how):
    pod = opened(start, place, wait="1s", **how)
    holder = hold(pod, "file", "ignores")
    lock = Asked(pod, "lock", "--force")
    until(lambda: "end-holders signal=15" in pod.log(), "TERM")
    fault(pod)
    lock.ended()
    assert holder.ended() == -signal.SIGKILL
    until(lambda: pod.status()["state"] == "locked", "the end of the lock")


@BOTH
def test_a_lock_whose_first_save_fails_ends_nobody(start, place, hold, how):
    pod = opened(start, place, **how)
    holder = hold(pod, "file", "speaks")
    os.chown(place.vault.parent, 0, 0)
    place.vault.parent.chmod(0o755)
    code, text = locked(pod, "--force")
    assert code == 74, text
    assert holder.is_there() and pod.status()["state"] == "open" and pod.secrets.exists()
    os.chown(place.vault.parent, OWNER, OWNER)
    pod.ok("lock", "--force")
    assert holder.ended() == 5


# ---- other namespaces, threads ----


def test_who_unshared_his_mounts_and_holds_a_file_is_a_holder(start, place, hold):
    pod = opened(start, place, uid=OWNER, may_mount=True)
    holder = hold(pod, "file", unshare=True)
    assert os.readlink(f"/proc/{holder.pid}/ns/mnt") != os.readlink(f"/proc/{pod.pid}/ns/mnt")
    assert_refused(locked(pod), (holder.number, NAME))
    assert holder.is_there()
    holder.ends()
    pod.ok("lock")


def test_who_unshared_his_mounts_and_holds_nothing_is_none_and_keeps_nothing(start, place, hold):
    pod = opened(start, place, uid=OWNER, may_mount=True)
    other = hold(pod, "elsewhere", top=place.work, unshare=True)
    seen = f"/proc/{other.pid}/root{place.secrets}"
    assert os.path.exists(f"{seen}/key"), "a copy of the mount is there"
    pod.ok("lock")
    assert not os.path.exists(f"{seen}/key")
    assert other.is_there()


THREADS = {
    "whose-first-thread-has-ended": """
import ctypes, os, threading
libc = ctypes.CDLL(None)
main = threading.main_thread()
def other():
    fd = os.open(top + "/held", os.O_RDWR)
    while status() != "Z": pass
    os.write(1, f"there {os.getpid()}\\n".encode())
    os.read(0, 1)
    os._exit(0)
def status():
    return open(f"/proc/self/task/{os.getpid()}/stat").read().rsplit(")", 1)[1].split()[0]
threading.Thread(target=other).start()
libc.syscall(60, 0)
""",
    "one-of-whose-threads-stands-in-it": """
import ctypes, os, threading
def other():
    ctypes.CDLL(None).unshare(0x200)  # CLONE_FS: a directory of its own
    os.chdir(top)
    os.write(1, f"there {os.getpid()}\\n".encode())
    os.read(0, 1)
    os._exit(0)
threading.Thread(target=other).start()
""",
    "one-of-whose-threads-has-its-own-files": """
import ctypes, os, threading
def other():
    ctypes.CDLL(None).unshare(0x400)  # CLONE_FILES
    fd = os.open(top + "/held", os.O_RDWR)
    os.write(1, f"there {os.getpid()}\\n".encode())
    os.read(0, 1)
    os._exit(0)
threading.Thread(target=other).start()
""",
}


@BOTH
@pytest.mark.parametrize("script", THREADS.values(), ids=THREADS)
def test_a_process_one_of_whose_threads_holds(start, place, how, script):
    pod = opened(start, place, **how)
    words = ["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid", str(OWNER), "--regid",
             str(OWNER), "--clear-groups", PYTHON, "-c", f"top = {str(place.secrets)!r}" + script]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        number = re.fullmatch(r"there (\d+)\n", holder.stdout.readline()).group(1)
        assert_refused(locked(pod), (number, "python3"))
        holder.stdin.close()
        holder.wait(DEADLINE_S)
    pod.ok("lock")


def test_a_proc_that_hides_processes_counts_them_as_not_looked_at(start, place, hold):
    pod = opened(start, place, uid=OWNER)
    subprocess.run(["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "mount", "-o", "remount,hidepid=1",
                    "/proc"], check=True)
    holder = hold(pod, "file", uid=0)
    code, text = locked(pod)
    assert code == 0 and UNSEEN in text, text
    holder.ends()


def test_a_pod_without_proc_can_be_locked(start, place):
    """Nobody can be looked at there."""
    pod = start("sleep", "infinity", place=place, uid=0, options=("--program", str(programs() / "tazpod")),
                before_exec=lambda: mount("tmpfs", "/proc", "tmpfs")).ready()
    pod.ok("unlock", "--create", *CHEAP, passphrase=PASSPHRASE, inside=False)
    place.write("key", b"a secret")
    done = pod.tazpod("lock", inside=False)
    assert done.returncode == 0 and UNSEEN in done.stderr.decode(), done.stderr
    assert place.left_in_ram() == []


@BOTH
def test_a_lock_that_is_broken_off_by_a_stop_says_that(start, place, hold, how):
    """Whom it waited for is not the reason any more."""
    pod = opened(start, place, wait="60s", **how)
    hold(pod, "file")
    lock = waiting_lock(pod, inside=False)
    pod.signal(signal.SIGTERM)
    code, text = lock.ended()
    assert code == 69 and "[stopping]" in text, (code, text)
