"""Starts the real tazpod-init in namespaces of its own, for the tests beside this file.

A Pod is what a container is to TazPod: process 1 of a new pid and mount namespace, a workspace on
disk and a run directory on tmpfs. Process 1 is a direct child of the test (clone(2), no unshare
in between), so signals go to it and its wait status comes from it.

The tmpfs outlives a Pod, as a Kubernetes volume outlives a container: it is mounted in the test
run's own mount namespace (made once, see private_mounts), so nothing is left on the machine
whatever way the run ends, and the test sees the run directory at the same path as the pod does.

As in the image, the programs are installed 0711 and tazpod-init's file carries its capabilities. As an
engine does it, process 1 may have no more than its bounding set: uid 1000 has none (`--cap-drop ALL`),
root the engine's default ones, and both SYS_ADMIN beside them with may_mount (`--cap-add SYS_ADMIN`).
Without it the RAM is what was given. With it the open vault is a mount that only the pod sees: the
test then looks at pod.secrets, not at place.secrets.
"""

import contextlib
import ctypes
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import traceback

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TAZPOD_BUILD") or TOP / "build")

OWNER = 1000
PASSPHRASE = b"correct horse battery staple"
# The lowest cost there is: these tests are not about the strength of a passphrase.
CHEAP = ("--kdf-memory", "8M", "--kdf-time", "1")

# Long enough for a busy machine, and never waited out by a program that works.
DEADLINE_S = 20

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 2, 4, 0x4000, 1 << 18
MNT_DETACH = 2
SYS_SIGTIMEDWAIT = {"x86_64": "128", "aarch64": "137"}[os.uname().machine]
SYS_CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 24, 38

SYS_CHROOT, SYS_ADMIN = 18, 21
# Docker's default set, by number: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
# NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
ENGINE_DEFAULT = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, SYS_CHROOT, 27, 29, 31}
# cap_sys_admin,cap_sys_chroot=p as setcap writes it: revision 2, not effective.
FILE_CAPABILITIES = struct.pack("<5I", 0x02000000, 1 << SYS_ADMIN | 1 << SYS_CHROOT, 0, 0, 0)

# PyDLL keeps the interpreter's lock over the call: the child of clone() must find it held by itself.
_libc = ctypes.PyDLL(None, use_errno=True)


def libc(name, *args):
    """A function of the C library; OSError where it fails."""
    result = getattr(_libc, name)(*args)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def mount(source, target, kind, flags=0, data=None):
    encode = lambda text: None if text is None else os.fsencode(text)
    libc("mount", encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), encode(data))


def umount(target):
    libc("umount2", os.fsencode(target), MNT_DETACH)


_mounts_are_private = False


def private_mounts():
    global _mounts_are_private
    if not _mounts_are_private:
        libc("unshare", CLONE_NEWNS)
        mount(None, "/", None, MS_REC | MS_PRIVATE)
        _mounts_are_private = True


def until(is_true, what, seconds=DEADLINE_S):
    """Waits for what has no descriptor to wait on. Returns the first true value."""
    end = time.monotonic() + seconds
    while True:
        value = is_true()
        if value:
            return value
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.002)


# ---- /proc, of the test's own pid namespace ----


def status_field(pid, name):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    raise KeyError(name)


def children(pid):
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def is_alive(pid):
    try:
        return status_field(pid, "State")[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def arguments(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except (FileNotFoundError, ProcessLookupError):
        return []


def context_switches(pid):
    return sum(int(status_field(pid, key)) for key in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"))


def wakeups(pid, seconds):
    """How often it woke in that time, once what went before has ended."""
    count = context_switches(pid)
    end = time.monotonic() + DEADLINE_S
    while True:
        time.sleep(0.2)  # nothing tells that nothing happens any more
        before, count = count, context_switches(pid)
        if count == before:
            break
        assert time.monotonic() < end, "it never comes to rest"
    time.sleep(seconds)  # the measurement itself
    return context_switches(pid) - count


def capabilities(pid):
    """{set: bits}"""
    return {name: int(status_field(pid, name), 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}


def mounts(pid):
    """{mount id: (point, options of the mount, type, options of the file system)}"""
    found = {}
    for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        left, right = (half.split() for half in line.split(" - "))
        found[int(left[0])] = (left[4], left[5].split(","), right[0], right[2].split(","))
    return found


def mount_id(path):
    """Of the mount that path is on."""
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        info = pathlib.Path(f"/proc/self/fdinfo/{fd}").read_text()
    finally:
        os.close(fd)
    return int(re.search(r"^mnt_id:\s*(\d+)$", info, re.M).group(1))


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ---- the place: a workspace and a run directory ----


class Place:
    """work_size: a workspace that can be full, a tmpfs of that size; else a folder on disk."""

    def __init__(self, owner=OWNER, size="64m", run_mode="0700", run_owner=None, work_size=None):
        private_mounts()
        # Not pytest's own folder: that is 0700, and the owner must get through.
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="tazpod-ns-"))
        self.top.chmod(0o755)
        self.run = self.top / "run"
        self.work = self.top / "work"
        self.run.mkdir()
        self.work.mkdir()
        if work_size:
            mount("tmpfs", self.work, "tmpfs", MS_NOSUID | MS_NODEV, f"size={work_size}")
        os.chown(self.work, owner, owner)
        uid = owner if run_owner is None else run_owner
        mount("tmpfs", self.run, "tmpfs", MS_NOSUID | MS_NODEV, f"size={size},mode={run_mode},uid={uid},gid={uid}")
        self.vault = self.work / ".tazpod" / "vault.tpv"
        self.secrets = self.run / "secrets"
        self.socket = self.run / "control.sock"

    def close(self):
        for path in (self.run, self.work):
            with contextlib.suppress(OSError):  # not mounted, or not any more
                umount(path)
        shutil.rmtree(self.top)

    def left_in_ram(self):
        """Names in the run directory; the socket, which holds nothing, is always there."""
        return sorted(set(os.listdir(self.run)) - {"control.sock"})

    def temporaries(self):
        return sorted(self.vault.parent.glob("vault.tpv.tmp-*"))

    def write(self, name, data, mode=0o600):
        """A file in the open vault, the owner's."""
        return write(self.secrets / name, data, mode)


def write(path, data, mode=0o600):
    path.write_bytes(data)
    path.chmod(mode)
    os.chown(path, os.stat(path.parent).st_uid, os.stat(path.parent).st_gid)
    return path


def tree(top):
    """Everything below top that a vault keeps: {name: (kind, mode, mtime, content)}."""
    found = {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            path = pathlib.Path(folder) / name
            info = path.lstat()
            if path.is_symlink():
                found[str(path.relative_to(top))] = ("link", os.readlink(path))
            elif path.is_dir():
                found[str(path.relative_to(top))] = ("folder", info.st_mode & 0o7777)
            else:
                found[str(path.relative_to(top))] = ("file", info.st_mode & 0o7777, int(info.st_mtime), path.read_bytes())
    return found


# ---- the programs, as they are installed ----

_programs = None


def programs():
    """The folder with tazpod-init and tazpod, 0711 as in the image, where every uid gets to them."""
    global _programs
    if _programs is None:
        _programs = pathlib.Path(tempfile.mkdtemp(prefix="tazpod-ns-bin-"))
        _programs.chmod(0o755)
        for name in ("tazpod-init", "tazpod"):
            shutil.copyfile(BUILD / name, _programs / name)
            (_programs / name).chmod(0o711)
        os.setxattr(_programs / "tazpod-init", "security.capability", FILE_CAPABILITIES)
    return _programs


def forget_programs():
    global _programs
    if _programs is not None:
        shutil.rmtree(_programs)
        _programs = None


# ---- the pod ----


def _reset_signals():
    """What a container engine hands to process 1: default dispositions (Python ignores two), no mask."""
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _bound(wanted):
    """The bounding set becomes no more than wanted: what the next exec may bring, be it root's."""
    last = int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text())
    for number in set(range(last + 1)) - wanted:
        libc("prctl", PR_CAPBSET_DROP, number, 0, 0, 0)


def _become(uid):
    if uid != os.getuid():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


class Pod:
    """tazpod-init with a main command.

    place      a Place: its vault is configured; None: `--vault none`
    options    further options of tazpod-init
    uid        what process 1 runs as
    descriptors {number in process 1: descriptor here}, beside 0 to 2
    before_exec  called in the child when all is set, last before exec
    beside     a sleeping neighbour runs in the same pid namespace, and neither of the two is process 1
    user_namespace  one more namespace, made by uid 1000: "owner" as `unshare --user
               --map-current-user` makes it, "root" as `unshare --user --map-root-user` does
    may_mount  SYS_ADMIN is in the bounding set
    mounts     descriptor of a mount namespace that outlived another pod, to use in place of a new one
    """

    def __init__(self, *command, place=None, options=(), env=None, uid=OWNER, cwd="/", descriptors=None,
                 before_exec=None, beside=False, user_namespace=None, may_mount=False, mounts=None):
        private_mounts()
        self.place = place
        self.uid = uid
        self._code = None
        self._folder = pathlib.Path(tempfile.mkdtemp(prefix="tazpod-ns-log-"))
        self._folder.chmod(0o755)
        self._out = self._folder / "out"
        self._log = self._folder / "log"
        self.neighbour = None

        if place is None:
            configured = ["--vault", "none"]
        else:
            configured = ["--vault", str(place.vault), "--run-dir", str(place.run)]
        argv = [str(programs() / "tazpod-init"), *configured, *options, "--", *command]
        environ = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", **(env or {})}

        def become_init():
            _reset_signals()
            os.chdir(cwd)
            if before_exec:
                before_exec()
            os.execve(argv[0], argv, environ)

        def set_up():
            os.setsid()
            if mounts is not None:
                libc("setns", mounts, CLONE_NEWNS)
            mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV)
            _bound((ENGINE_DEFAULT if uid == 0 else set()) | ({SYS_ADMIN} if may_mount else set()))
            self._set_descriptors(descriptors or {})
            if beside:
                self._be_the_crowd(become_init)
            else:
                if not user_namespace:
                    _become(uid)
                become_init()

        if user_namespace:
            self._clone_in_user_namespace(set_up, 0 if user_namespace == "root" else OWNER)
        else:
            self.host = self._clone(CLONE_NEWPID | (CLONE_NEWNS if mounts is None else 0), set_up)
        self._pidfd = os.pidfd_open(self.host)
        self.pid = self.host
        if beside:
            both = until(lambda: len(children(self.host)) == 2 and children(self.host), "both neighbours")
            self.neighbour = next(pid for pid in both if status_field(pid, "NSpid").split()[-1] == "2")
            self.pid = next(pid for pid in both if pid != self.neighbour)

    def _clone(self, flags, set_up):
        pid = libc("syscall", SYS_CLONE, ctypes.c_ulong(flags | signal.SIGCHLD), None, None, None, None)
        if pid == 0:
            try:
                set_up()
            except BaseException:
                with open(self._log, "a") as log:
                    traceback.print_exc(file=log)
            os._exit(121)
        return pid

    def _clone_in_user_namespace(self, set_up, inner):
        """The namespace must be made by an ordinary user, so a helper in between becomes one. It
        tells the pid of process 1 and hands its wait status on as its own exit status."""
        reader, writer = os.pipe()
        self._middle = os.fork()
        if self._middle == 0:
            try:
                os.chown(self._folder, OWNER, OWNER)
                _become(OWNER)
                # A process that changed its uid is not dumpable, so /proc/self would be root's.
                libc("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)

                def map_and_set_up():
                    pathlib.Path("/proc/self/setgroups").write_text("deny")
                    pathlib.Path("/proc/self/gid_map").write_text(f"{inner} {OWNER} 1")
                    pathlib.Path("/proc/self/uid_map").write_text(f"{inner} {OWNER} 1")
                    set_up()

                pid = self._clone(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS, map_and_set_up)
                os.write(writer, struct.pack("i", pid))
                os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)
            finally:
                os._exit(122)
        os.close(writer)
        data = os.read(reader, 4)
        os.close(reader)
        assert len(data) == 4, f"no user namespace: {self.log()}"
        self.host = struct.unpack("i", data)[0]

    def _set_descriptors(self, wanted):
        write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        sources = {0: os.open("/dev/null", os.O_RDONLY), 1: os.open(self._out, write, 0o644),
                   2: os.open(self._log, write, 0o644), **wanted}
        # First out of the way, then to their numbers: one source may be at another's number.
        high = {number: os.dup2(fd, 200 + number) for number, fd in sources.items()}
        for number, fd in high.items():
            os.dup2(fd, number)
        for number in range(3, 1024):
            if number not in high:
                with contextlib.suppress(OSError):
                    os.close(number)

    def _be_the_crowd(self, become_init):
        """Process 1 of the namespace: starts two neighbours, reaps, and stays when they end. The
        exit code of tazpod-init goes to a file by rename, so it is there as a whole or not at all."""
        if os.fork() == 0:
            _become(self.uid)
            _reset_signals()
            os.execv("/bin/sleep", ["sleep", "infinity"])
        init = os.fork()
        if init == 0:
            _become(self.uid)
            become_init()
        while True:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                signal.pause()
                continue
            if pid == init:
                (self._folder / "code.tmp").write_text(str(os.waitstatus_to_exitcode(status)))
                (self._folder / "code.tmp").rename(self._folder / "code")

    # ---- its life ----

    def signal(self, number):
        os.kill(self.pid, number)

    def has_ended(self):
        return bool(select.select([self._pidfd], [], [], 0)[0])

    def wait(self, seconds=DEADLINE_S):
        """The exit code of tazpod-init; negative if a signal killed it."""
        if self._code is not None:
            return self._code
        if self.neighbour:
            until((self._folder / "code").exists, f"the end of tazpod-init; its log:\n{self.log()}", seconds)
            self._code = int((self._folder / "code").read_text())
            return self._code
        assert select.select([self._pidfd], [], [], seconds)[0], f"still there after {seconds} s:\n{self.log()}"
        self._code = self._collect()
        return self._code

    def _collect(self):
        pid = getattr(self, "_middle", self.host)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def close(self):
        """Whatever state it is in: process 1 of the namespace takes all others with it."""
        if self._code is None or self.neighbour:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            select.select([self._pidfd], [], [], DEADLINE_S)
            self._collect()
        os.close(self._pidfd)
        shutil.rmtree(self._folder)

    def log(self):
        """Standard error of tazpod-init and its main command."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def out(self):
        return self._out.read_text(errors="replace") if self._out.exists() else ""

    def wait_out(self, text, seconds=DEADLINE_S):
        until(lambda: text in self.out(), f"{text!r} from the main command; log:\n{self.log()}", seconds)

    def signals_are_blocked(self):
        """True from process 1's first lines on. Not before exec: the test starts it with none blocked. While it
        waits for one by sigtimedwait the kernel shows none, and keeps what comes all the same."""
        try:
            return bool(int(status_field(self.pid, "SigBlk"), 16) >> (signal.SIGTERM - 1) & 1) or (
                pathlib.Path(f"/proc/{self.pid}/syscall").read_text().split()[0] == SYS_SIGTIMEDWAIT)
        except (FileNotFoundError, ProcessLookupError):
            return False

    def ready(self):
        """It answers, or, where no vault is configured, has its signals blocked and sleeps."""
        if self.place:
            # It says so once it listens.
            until(lambda: "tazpod-init: start " in self.log() or self.has_ended(), f"a start; log:\n{self.log()}")
        else:
            until(lambda: self.signals_are_blocked() and status_field(self.pid, "State")[0] == "S", "a loop at rest")
        assert not self.has_ended(), self.log()
        return self

    def main(self):
        """The outer pid of the main command, once it is not tazpod-init any more."""

        def found():
            for pid in children(self.pid):
                words = arguments(pid)
                if words and words[0] != b"tazpod-worker" and not words[0].endswith(b"tazpod-init"):
                    return pid
            return None

        return until(found, "a main command")

    def workers(self):
        """{kind: pid} of the workers that run now."""
        found = {}
        for pid in children(self.pid):
            words = arguments(pid)
            if words and words[0] == b"tazpod-worker":
                found[words[1].decode()] = pid
        return found

    def stop_worker(self, kind):
        """The pid of a worker, caught on its way and stopped there. No pause between two looks: it
        lives for milliseconds."""
        end = time.monotonic() + DEADLINE_S
        while True:
            pid = self.workers().get(kind)
            if pid:
                os.kill(pid, signal.SIGSTOP)
                return pid
            assert time.monotonic() < end, f"no {kind} worker was seen:\n{self.log()}"

    def at(self, path):
        """path as process 1 sees it: mounts of its own are nobody else's."""
        return pathlib.Path(f"/proc/{self.pid}/root{path}")

    @property
    def secrets(self):
        return self.at(self.place.secrets)

    def write(self, name, data, mode=0o600):
        """A file in the open vault, wherever it is mounted."""
        return write(self.secrets / name, data, mode)

    # ---- what a user does ----

    def command(self, *args, uid=None, inside=True):
        """argv and keywords for subprocess: as `docker exec -u uid` would run it, or (inside=False)
        outside the pid namespace, which spares two forks."""
        words = [str(programs() / "tazpod"), *args]
        keywords = {"env": {"PATH": "/usr/bin:/bin", "TAZPOD_RUN_DIR": str(self.place.run)}}
        user = self.uid if uid is None else uid
        if inside:
            words = ["nsenter", "--target", str(self.pid), "--mount", "--pid", "--",
                     "setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups", *words]
        elif user:
            keywords.update(user=user, group=user, extra_groups=())
        return words, keywords

    def tazpod(self, *args, passphrase=None, seconds=DEADLINE_S, **how):
        words, keywords = self.command(*args, **how)
        if passphrase is not None:
            words += ["--passphrase-fd", "0"]
        return subprocess.run(words, input=passphrase or b"", capture_output=True, timeout=seconds, **keywords)

    def ok(self, *args, **how):
        done = self.tazpod(*args, **how)
        assert done.returncode == 0, f"{args}: {done.returncode} {done.stderr.decode()}\n{self.log()}"
        return done.stdout.decode()

    def create(self):
        self.ok("unlock", "--create", *CHEAP, passphrase=PASSPHRASE)
        return self

    def create_whole(self):
        """As it is made at a terminal: with a recovery code, so that none is offered there later."""
        self.create()
        self.ok("key", "recovery", passphrase=PASSPHRASE)
        return self

    def unlock(self, *flags):
        self.ok("unlock", *flags, passphrase=PASSPHRASE)
        return self

    def status(self, **how):
        """What `tazpod status` prints, as a dictionary."""
        lines = self.ok("status", **how).splitlines()
        return dict(line.split(None, 1) if " " in line.strip() else (line.strip(), "") for line in lines)


# ---- the control socket, by hand (docs/control-protocol.md) ----

MAGIC, VERSION = 0x31505A54, 1
STATUS, UNLOCK, CREATE, SAVE, LOCK, KEY = 1, 2, 3, 4, 5, 6
REQUEST = struct.Struct("=IHHIII12s")
REPLY_SIZE = 1408
STATES = ("absent", "locked", "opening", "open", "saving", "locking", "stopping")


def request(kind, magic=MAGIC, version=VERSION, flags=0, ops=0, memory=0, rest=bytes(12)):
    return REQUEST.pack(magic, version, kind, flags, ops, memory, rest)


def text(data):
    return data.split(b"\0", 1)[0].decode()


class Client:
    """One connection. Ends of connection read as None."""

    def __init__(self, path, seconds=DEADLINE_S):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Not settimeout before connect: that makes it non-blocking, and a full backlog an error.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, 0))
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise
        self.socket.settimeout(seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data, descriptors=()):
        socket.send_fds(self.socket, [data], list(descriptors))

    def receive(self):
        try:
            data = self.socket.recv(REPLY_SIZE + 1)
        except ConnectionError:
            return None
        if not data:
            return None
        assert len(data) == REPLY_SIZE
        return {
            "type": struct.unpack_from("=H", data, 6)[0],
            "code": struct.unpack_from("=i", data, 8)[0],
            "word": text(data[12:36]),
            "state": STATES[struct.unpack_from("=I", data, 336)[0]],
            "flags": struct.unpack_from("=I", data, 344)[0],
            "generation": struct.unpack_from("=Q", data, 336 + 40)[0],
        }

    def ask(self, kind, descriptors=(), **fields):
        try:
            self.send(request(kind, **fields), descriptors)
        except ConnectionError:
            return None
        return self.receive()
