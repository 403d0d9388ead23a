"""Watches a worker's system calls in one folder, and makes one of them go wrong.

strace can do most of this, and two things not: a write that is really short (its `retval=` says so and
writes nothing), and a fault for one worker alone, known before its first call. So this is a small
tracer of its own. It is a process beside the test, because it has to wait for whatever it traces,
and the test waits for others. It takes hold of process 1, which costs that nothing, follows the
forks, lets go of every child but the worker in question, and stops that one at each system call.

A call that is to fail is not made: getpid, which every worker's filter allows, is made in its
place, and its result replaced. So the filter stays as it is, and sees every call that is made.
A worker is killed at the entry of a call, which is then not made either.
"""

import contextlib
import ctypes
import dataclasses
import errno
import os
import pathlib
import pickle
import select
import signal
import struct
import tempfile
import traceback

import nsinit

CONT, SYSCALL, DETACH = 7, 24, 17
GETREGSET, SETREGSET, SEIZE, INTERRUPT, LISTEN, GET_SYSCALL_INFO = 0x4204, 0x4205, 0x4206, 0x4207, 0x4208, 0x420E
OPTIONS = 1 | 2 | 4 | 8 | 16  # system calls are told from signals; forks of three kinds and execs are followed
EVENT_EXEC, EVENT_STOP = 4, 128
STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
WALL = 0x40000000
PDEATHSIG = 1
AT_FDCWD = -100
O_CREAT, O_TRUNC, O_APPEND = os.O_CREAT, os.O_TRUNC, os.O_APPEND

# Where the machine keeps a call's number, its third argument and its result (NT_PRSTATUS, in words),
# and the number of getpid. aarch64 has the call's number in a set of its own.
MACHINE = {"x86_64": {"number": 15, "third": 12, "result": 10, "getpid": 39},
           "aarch64": {"number": None, "third": 2, "result": 0, "getpid": 172}}[os.uname().machine]
NT_PRSTATUS, NT_ARM_SYSTEM_CALL = 1, 0x404

# What the first arguments are. A call that is in neither list works on a descriptor.
BY_PATH = {"open", "creat", "stat", "lstat", "access", "mkdir", "rmdir", "unlink", "rename", "link", "truncate",
           "chmod", "readlink"}
BY_FOLDER = {"openat", "openat2", "newfstatat", "statx", "unlinkat", "mkdirat", "fchmodat", "readlinkat", "utimensat",
             "faccessat", "faccessat2", "renameat", "renameat2", "linkat"}
TWO_PATHS = {"rename", "link"}
TWO_FOLDERS = {"renameat", "renameat2", "linkat"}
NEVER = {"mmap", "munmap", "mremap", "mprotect", "madvise", "mlock", "munlock", "brk", "exit", "exit_group", "futex",
         "getrandom", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "prctl", "clock_gettime", "getpid", "gettid",
         "tgkill", "execveat", "execve", "setrlimit", "getrlimit", "prlimit64", "capset", "seccomp", "arch_prctl",
         "set_tid_address", "set_robust_list", "rseq", "poll", "ppoll", "restart_syscall", "sysinfo"}


@dataclasses.dataclass
class Call:
    """One system call on a path in the folder."""

    attempt: int  # 1 for the first worker of that kind, 2 for the one that tries again
    at: int  # its place among this worker's calls in the folder, from 1
    name: str
    path: str  # what it works on, by path or by descriptor
    to: str = ""  # the new name of a rename or link
    hit: str = ""  # what was done to it
    result: int | None = None  # None: it never came back
    flags: int = 0
    is_new: bool = False  # an open that made the file
    is_folder: bool = False
    inode: int = 0
    offset: int = 0
    data: bytes = b""

    def __str__(self):
        names = " ".join(filter(None, (os.path.basename(self.path), os.path.basename(self.to))))
        return f"{self.at}:{self.name}({names})" + (f" {self.hit}" if self.hit else "")


@dataclasses.dataclass
class Fault:
    """at: which call. how: the name of an error, "short", or "kill" and then whom: the worker itself
    ("self"), its partner ("packer") or process 1 ("init"). every: each worker that tries again meets
    it too. always: {call: error} that all calls of a name meet, where `at` does not say otherwise."""

    at: int = 0
    how: str = ""
    whom: str = "self"
    every: bool = True
    always: dict = dataclasses.field(default_factory=dict)

    def __str__(self):
        return f"{self.how} {self.whom}" + ("" if self.every else " once") if self.how == "kill" else self.how


class _Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]


_c = ctypes.CDLL(None, use_errno=True)
_c.ptrace.restype = ctypes.c_long
_c.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def _ptrace(what, pid, address=0, data=0):
    result = _c.ptrace(what, pid, address, data)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"ptrace {what:#x} of {pid}: {os.strerror(number)}")
    return result


def _call_names():
    """{number: name} as libseccomp, which the workers' filters come from, knows them."""
    library = ctypes.CDLL("libseccomp.so.2")
    library.seccomp_syscall_resolve_num_arch.restype = ctypes.c_void_p
    names = {}
    for number in range(512):
        text = library.seccomp_syscall_resolve_num_arch(0, number)
        if text:
            names[number] = ctypes.string_at(text).decode()
            _c.free(ctypes.c_void_p(text))
    return names


class _Registers:
    """Of a tracee that stands at a system call."""

    def __init__(self, pid):
        self.pid = pid
        self.words = (ctypes.c_uint64 * 64)()
        self.vector = _Vector(ctypes.addressof(self.words), ctypes.sizeof(self.words))
        _ptrace(GETREGSET, pid, NT_PRSTATUS, ctypes.addressof(self.vector))

    def set(self, what, value):
        """Returns what was there."""
        before = self.words[MACHINE[what]]
        self.words[MACHINE[what]] = value & 0xFFFFFFFFFFFFFFFF
        _ptrace(SETREGSET, self.pid, NT_PRSTATUS, ctypes.addressof(self.vector))
        return before

    def make_it_getpid(self):
        if MACHINE["number"] is not None:
            self.set("number", MACHINE["getpid"])
            return
        number = ctypes.c_int(MACHINE["getpid"])
        vector = _Vector(ctypes.addressof(number), ctypes.sizeof(number))
        _ptrace(SETREGSET, self.pid, NT_ARM_SYSTEM_CALL, ctypes.addressof(vector))


class _Worker:
    """A process whose calls are watched."""

    def __init__(self, pid, attempt):
        self.pid = pid
        self.attempt = attempt
        self.calls = 0
        self.now = None  # the call it is in
        self.undo = None  # of its registers, at the end of that call

    def word(self, address):
        """A C string in its memory."""
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            text = b""
            while b"\0" not in text:
                memory.seek(address + len(text))
                text += memory.read(4096 - (address + len(text)) % 4096)  # the next page may not be there
        return os.fsdecode(text.split(b"\0", 1)[0])

    def memory(self, address, size):
        with open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(size)

    def descriptor(self, number):
        try:
            return os.readlink(f"/proc/{self.pid}/fd/{number}").removesuffix(" (deleted)")
        except OSError:
            return ""

    def below(self, folder, address):
        """The path that a call names relative to a folder."""
        name = self.word(address)
        number = ctypes.c_int(folder & 0xFFFFFFFF).value
        if name.startswith("/"):
            return name
        base = os.readlink(f"/proc/{self.pid}/cwd") if number == AT_FDCWD else self.descriptor(number)
        return os.path.normpath(os.path.join(base, name))

    def paths(self, name, args):
        """The one or two that a call works on; "" where there is none."""
        if name in NEVER:
            return "", ""
        if name in BY_PATH:
            return (self.below(AT_FDCWD, args[0]), self.below(AT_FDCWD, args[1]) if name in TWO_PATHS else "")
        if name in BY_FOLDER:
            return (self.below(args[0], args[1]), self.below(args[2], args[3]) if name in TWO_FOLDERS else "")
        return self.descriptor(ctypes.c_int(args[0] & 0xFFFFFFFF).value), ""

    def enter(self, name, args, folder):
        """The call, with what has to be known of it before it is made. None outside the folder."""
        path, to = self.paths(name, args)
        if path != folder and not path.startswith(folder + "/"):
            return None
        self.calls += 1
        call = Call(self.attempt, self.calls, name, path, to)
        self.undo = None
        if name in ("open", "openat"):
            call.flags = args[1 if name == "open" else 2]
            call.is_new = bool(call.flags & O_CREAT) and not os.path.lexists(path)
        elif name in ("write", "pwrite64"):
            call.data = self.memory(args[1], args[2])
            call.offset = args[3] if name == "pwrite64" else self.position(args[0])
        elif name == "ftruncate":
            call.offset = args[1]
        elif name == "renameat2":
            call.flags = args[4]
        with contextlib.suppress(OSError):
            info = os.stat(f"/proc/{self.pid}/fd/{args[0]}") if name not in BY_PATH | BY_FOLDER else os.lstat(path)
            call.inode, call.is_folder = info.st_ino, os.path.isdir(path)
        return call

    def position(self, number):
        fields = dict(line.split(":", 1) for line in
                      pathlib.Path(f"/proc/{self.pid}/fdinfo/{number}").read_text().splitlines())
        if int(fields["flags"], 8) & O_APPEND:
            return os.stat(f"/proc/{self.pid}/fd/{number}").st_size
        return int(fields["pos"])


class _Tracer:
    def __init__(self, pid, folder, kind, fault, out):
        self.init, self.folder, self.kind, self.fault, self.out = pid, str(folder), kind, fault, out
        self.names = _call_names()
        self.workers = {}
        self.packers = []  # one for each attempt
        self.attempts = 0

    def attach(self):
        _ptrace(SEIZE, self.init, 0, OPTIONS)
        if self.kind is None:
            self.watch(self.init)
            _ptrace(INTERRUPT, self.init)

    def watch(self, pid):
        self.attempts += 1
        self.workers[pid] = _Worker(pid, self.attempts)

    def run(self):
        with contextlib.suppress(ChildProcessError):  # none is left
            while True:
                self.one_event()

    def one_event(self):
        pid, status = os.waitpid(-1, WALL)
        if os.WIFSTOPPED(status):
            with contextlib.suppress(ProcessLookupError):  # it may be killed at any moment
                self.stopped(pid, os.WSTOPSIG(status), status >> 16)
            return
        worker = self.workers.pop(pid, None)
        if worker and worker.now:
            self.tell(worker.now)

    def stopped(self, pid, number, event):
        if event == EVENT_STOP and number in STOPPING:
            _ptrace(LISTEN, pid)
            return
        if event == EVENT_EXEC and pid not in self.workers:
            words = nsinit.arguments(pid)
            if words[:2] == [b"tazpod-worker", b"pack"]:
                self.packers.append(pid)
            if words[:2] != [b"tazpod-worker", os.fsencode(self.kind)]:
                _ptrace(DETACH, pid)
                return
            self.watch(pid)
        worker = self.workers.get(pid)
        if number == signal.SIGTRAP | 0x80:
            if not self.at_call(worker):
                return
            number = 0
        elif event or number == signal.SIGTRAP:
            number = 0
        _ptrace(SYSCALL if worker else CONT, pid, 0, number)

    def at_call(self, worker):
        """False if it is not to go on."""
        info = (ctypes.c_char * 88)()
        _ptrace(GET_SYSCALL_INFO, worker.pid, 88, ctypes.addressof(info))
        if info.raw[0] == 1:
            number, *args = struct.unpack_from("=7Q", info.raw, 24)
            worker.now = worker.enter(self.names.get(number, str(number)), args, self.folder)
            return worker.now is None or self.begin(worker)
        if worker.now:
            self.end(worker, struct.unpack_from("=q", info.raw, 24)[0])
        return True

    def begin(self, worker):
        call, fault = worker.now, self.fault
        how = fault.always.get(call.name, "")
        if call.at == fault.at and (fault.every or worker.attempt == 1):
            how = fault.how
        if how == "kill":
            return self.kill(worker)
        if how == "short":
            if len(call.data) > 1:
                registers, less = _Registers(worker.pid), len(call.data) // 2
                worker.undo = ("third", registers.set("third", less))
                call.data = call.data[:less]
                call.hit = how
        elif how:
            _Registers(worker.pid).make_it_getpid()
            worker.undo = ("result", -getattr(errno, how))
            call.hit = how
        return True

    def end(self, worker, result):
        call = worker.now
        if worker.undo:
            what, value = worker.undo
            if what == "third":
                _Registers(worker.pid).set(what, value)
                assert result == len(call.data), (call, result)
            else:
                assert result == int(nsinit.status_field(worker.pid, "NSpid").split()[-1]), (call, result)
                _Registers(worker.pid).set(what, value)
                result = value
            worker.undo = None
        call.result = result
        if result >= 0 and call.name in ("open", "openat"):
            call.inode = os.stat(f"/proc/{worker.pid}/fd/{result}").st_ino
        call.data = call.data[:max(result, 0)]
        worker.now = None
        self.tell(call)

    def kill(self, worker):
        """The call waits until the victim is dead."""
        victim = {"self": worker.pid, "init": self.init}.get(self.fault.whom)
        if self.fault.whom == "packer":
            while len(self.packers) < worker.attempt:  # it started first, which says nothing
                self.one_event()
            victim = self.packers[worker.attempt - 1]
        if not nsinit.is_alive(victim):
            return True  # not hit, and the case will say so
        worker.now.hit = f"kill {self.fault.whom}"
        if self.fault.whom != "packer":
            self.tell(worker.now)  # first: with process 1 goes all that the test waits for
            worker.now = None
        handle = os.pidfd_open(victim)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        if self.fault.whom == "packer":
            select.select([handle], [], [], nsinit.DEADLINE_S)
        os.close(handle)
        return self.fault.whom == "packer"

    def tell(self, call):
        pickle.dump(call, self.out)
        self.out.flush()


class Watch:
    """As a context: the calls that process 1's workers of that kind make in folder (kind None: that
    `pid` itself makes) while it lasts; afterwards `calls` has them."""

    def __init__(self, pid, folder, kind, fault=None):
        self.calls = []
        self._file = tempfile.TemporaryFile()
        reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._trace(writer, pid, folder, kind, fault or Fault())
        os.close(writer)
        said = os.read(reader, 1) if select.select([reader], [], [], nsinit.DEADLINE_S)[0] else b""
        os.close(reader)
        if not said:
            self.stop()
            raise AssertionError(f"no hold of {pid}")

    def _trace(self, writer, *what):
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            nsinit.libc("prctl", PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            tracer = _Tracer(*what, self._file)
            tracer.attach()
            os.write(writer, b"x")
            os.close(writer)
            tracer.run()
        except BaseException:
            pickle.dump(traceback.format_exc(), self._file)
            self._file.flush()
        finally:
            os._exit(0)

    def stop(self):
        """Whoever is still traced goes on by himself."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0
            self._file.seek(0)
            with contextlib.suppress(EOFError, pickle.UnpicklingError):
                while True:
                    self.calls.append(pickle.load(self._file))
            self._file.close()
            wrong = [call for call in self.calls if isinstance(call, str)]
            assert not wrong, wrong[0]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
