"""pods - a thin hand on the docker command, for tests that see a pod as its user does.

Everything made here carries the label of this run, so that two runs share one engine without
touching each other's containers, and the end of a run can sweep up what a failed test left.
Nothing waits for a number of seconds: every wait is for an event and has a deadline.
"""

import io
import os
import pathlib
import re
import subprocess
import tarfile
import time
import uuid

import pexpect

RUN = uuid.uuid4().hex[:10]
LABEL = f"tazpod.test.run={RUN}"

BASE = "debian:trixie-slim"
RUN_DIR = "/run/tazpod"
SECRETS = RUN_DIR + "/secrets"
VAULT = "/workspace/.tazpod/vault.tpv"
UID = 1000

PASSPHRASE = "correct horse battery staple"
# The floor of the format: for tests whose subject is not the key derivation.
CHEAP = ("--kdf-memory", "8M", "--kdf-time", "1")

# `make check-long` raises the one and sets the other.
LONG = os.environ.get("TAZPOD_LONG") == "1"


def rounds(short):
    return int(os.environ.get("TAZPOD_ROUNDS", short))


class Result:
    """What a command left: code, out, err (text), raw (bytes of out), seconds it took."""

    def __init__(self, argv, done, seconds):
        self.argv = argv
        self.code = done.returncode
        self.raw = done.stdout
        self.out = done.stdout.decode(errors="replace")
        self.err = done.stderr.decode(errors="replace")
        self.seconds = seconds

    def ok(self):
        assert self.code == 0, self
        return self

    def __repr__(self):
        return f"<{' '.join(self.argv)}: {self.code}\nout: {self.out[-2000:]}\nerr: {self.err[-2000:]}>"


def docker(*args, stdin=b"", timeout=120):
    argv = ["docker", *args]
    began = time.monotonic()
    done = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout)
    return Result(argv, done, time.monotonic() - began)


def until(condition, what, seconds=20, pause=0.02):
    """Polls where no event can be had; returns the first true value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(pause)


def tmpfs(size="64m", mode="0700", uid=UID):
    return ("--tmpfs", f"{RUN_DIR}:size={size},mode={mode},uid={uid},gid={uid}")


class Pod:
    """One container of the project's image, run as the README says. The workspace is a folder of
    the host or the name of a volume. capabilities: () leaves the engine's default ones."""

    def __init__(self, image, workspace=None, *, command=(), ram=tmpfs(), options=(),
                 capabilities=("--cap-drop", "ALL")):
        self.name = f"tazpod-test-{RUN}-{uuid.uuid4().hex[:6]}"
        self.workspace = workspace
        self.terminals = []
        self.setup = ["--name", self.name, "--label", LABEL, *capabilities, *ram]
        if workspace is not None:
            self.setup += ["-v", f"{workspace}:/workspace"]
        self.setup += [*options, image, *command]

    # --- the container ---

    def run(self, quiet=False):
        """quiet: an init without a vault says nothing to wait for."""
        docker("run", "-d", *self.setup).ok()
        if not quiet:
            self.wait_for_log("tazpod-init: start")

    def inspect(self, template):
        return docker("inspect", "--format", template, self.name).ok().out.strip()

    @property
    def pid(self):
        return int(self.inspect("{{.State.Pid}}"))

    @property
    def is_running(self):
        return self.inspect("{{.State.Running}}") == "true"

    def stop(self):
        """docker stop with the engine's own 10 s; (exit status, seconds)."""
        result = docker("stop", self.name).ok()
        return self.exit_status(), result.seconds

    def exit_status(self):
        assert not self.is_running
        return int(self.inspect("{{.State.ExitCode}}"))

    def start(self):
        lines = self.logs().count("tazpod-init: start")
        docker("start", self.name).ok()
        self.wait_for_log("tazpod-init: start", times=lines + 1)

    def kill(self, signal):
        docker("kill", "--signal", signal, self.name).ok()

    def wait(self, timeout=30):
        return int(docker("wait", self.name, timeout=timeout).ok().out)

    def logs(self):
        result = docker("logs", self.name)
        return result.out + result.err

    def wait_for_log(self, text, times=1, seconds=20):
        until(lambda: self.logs().count(text) >= times, f"{text!r} in the log of {self.name}", seconds)

    # --- inside ---

    def exec(self, *argv, stdin=None, options=(), timeout=120):
        interactive = ("-i",) if stdin is not None else ()
        return docker("exec", *interactive, *options, self.name, *argv, stdin=stdin or b"", timeout=timeout)

    def sh(self, script, *args, **more):
        return self.exec("sh", "-c", script, "sh", *args, **more)

    def tazpod(self, *argv, **more):
        return self.exec("tazpod", *argv, **more)

    def unlock(self, *flags, passphrase=PASSPHRASE):
        return self.tazpod("unlock", *flags, "--passphrase-fd", "0", stdin=passphrase.encode() + b"\n")

    def create(self, *flags):
        return self.unlock("--create", *(flags or CHEAP))

    def create_whole(self):
        """As it is made at a terminal: with a recovery code, so that none is offered there later."""
        self.create().ok()
        return self.key("recovery")

    def key(self, *words):
        """`tazpod key`, with the vault's passphrase."""
        return self.tazpod("key", *words, "--passphrase-fd", "0", stdin=PASSPHRASE.encode() + b"\n")

    def status(self):
        """`tazpod status` as a dict; answering at all is exit 0."""
        lines = self.tazpod("status").ok().out.splitlines()
        return {line.split(None, 1)[0]: (line.split(None, 1) + [""])[1] for line in lines}

    def state(self):
        return self.status()["state"]

    def write(self, path, data, mode="0600"):
        script = 'umask 077; cat > "$1" && chmod "$2" "$1"'
        return self.sh(script, path, mode, stdin=data).ok()

    def read(self, path):
        return self.exec("cat", path).ok().raw

    def put_tree(self, tree, path=SECRETS):
        """{name: (bytes, mode, mtime)}, in one go."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for name, (data, mode, mtime) in tree.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode, entry.mtime = len(data), mode, mtime
                tar.addfile(entry, io.BytesIO(data))
        # Directories that no entry names are made by tar, with the umask's mode.
        self.sh('umask 077; tar -xp -C "$1"', path, stdin=archive.getvalue()).ok()

    def get_tree(self, path=SECRETS):
        """The files of a tree as put_tree takes them; every one must be the owner's."""
        raw = self.exec("tar", "-c", "--format=pax", "-C", path, ".", timeout=300).ok().raw
        tree = {}
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            for entry in tar:
                assert (entry.uid, entry.gid) == (UID, UID), entry.name
                if entry.isfile():
                    tree[entry.name[2:]] = (tar.extractfile(entry).read(), entry.mode, entry.mtime)
        return tree

    def ram_used(self):
        """Bytes that the run directory's file system holds."""
        return int(self.exec("df", "--output=used", "-B1", RUN_DIR).ok().out.split()[-1])

    def terminal(self, *argv, options=("-it",)):
        return self._spawn(["exec", *options, self.name, *argv])

    def run_terminal(self):
        """docker run -it: the caller's terminal is the pod's own."""
        return self._spawn(["run", "-it", *self.setup])

    def start_terminal(self):
        return self._spawn(["start", "--attach", "--interactive", self.name])

    def _spawn(self, args):
        terminal = Terminal(args)
        self.terminals.append(terminal)
        return terminal

    def remove(self):
        for terminal in self.terminals:
            terminal.close()
        docker("rm", "--force", "--volumes", self.name)


class Terminal:
    """A person at a pseudo-terminal: types, and waits for what appears."""

    # What a shell writes for the terminal alone: colours, titles, bracketed paste.
    ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>])")
    PROMPT = "ready> "

    def __init__(self, args):
        self.seen = io.StringIO()
        self.child = pexpect.spawn("docker", args, timeout=30, encoding="utf-8", dimensions=(40, 200))
        self.child.logfile_read = self.seen
        # pexpect pauses before each line; whoever types when the prompt is there needs no pause.
        self.child.delaybeforesend = None

    def expect(self, text):
        self.child.expect_exact(text)
        return self.child.before

    def type(self, text):
        self.child.send(text + "\r")

    def press(self, letter):
        self.child.sendcontrol(letter)

    def take_prompt(self):
        """Waits for a shell and gives it a prompt that no echo of what is typed can be mistaken for."""
        self.expect("$ ")
        self.type("PS1='r''eady> '")
        self.expect(self.PROMPT)

    def command(self, text):
        """Types a command line; what it printed."""
        self.type(text)
        printed = self.ESCAPES.sub("", self.expect(self.PROMPT)).replace("\r", "")
        return printed.partition("\n")[2].rstrip("\n")

    def ends(self):
        """Waits for the end; the exit status of the docker command."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        return self.child.exitstatus

    @property
    def text(self):
        return self.ESCAPES.sub("", self.seen.getvalue())

    def close(self):
        self.child.close(force=True)


def in_base(script, *args, mounts=(), options=(), stdin=b""):
    """A root shell of the base image on the engine's side, where its folders can be seen."""
    binds = [word for mount in mounts for word in ("-v", mount)]
    return docker("run", "--rm", "-i", "--label", LABEL, *binds, *options, BASE,
                  "/bin/sh", "-c", script, "sh", *args, stdin=stdin).ok()


def snapshot(folder):
    """All there is to know about the files of a folder on the host, inode and time included."""
    found = {}
    for path in sorted(pathlib.Path(folder).rglob("*")):
        info = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (info.st_ino, info.st_mode, info.st_uid, info.st_mtime_ns, content)
    return found


def sweep():
    """Removes what carries the label of this run, and nothing else."""
    for kind, remove in (("container", ("rm", "--force", "--volumes")), ("volume", ("volume", "rm", "--force"))):
        listing = ("ps", "-aq") if kind == "container" else ("volume", "ls", "-q")
        names = docker(*listing, "--filter", f"label={LABEL}").out.split()
        if names:
            docker(*remove, *names)
