"""Where a passphrase comes from: terminal, program, file, descriptor, or nowhere.

On bare pseudo-terminals, whose other end the test holds: it can close them, see the modes at any
moment, and signal the process that asks. The same by hand, through an engine, is in
tests/docker/test_hostile_terminal.py and test_askpass.py.
"""

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import termios
import time

import pytest

from nsinit import CHEAP, DEADLINE_S, OWNER, PASSPHRASE, arguments, children, is_alive, tree, until, write

RIGHT = PASSPHRASE.decode()
CONTENT = b"nothing to see"
MEGABYTE = 1 << 20

# Question -> what is answered before it is there.
TO_OPEN = {b"Passphrase: ": []}
TO_MAKE = {b"[y/N] ": [], b"New passphrase: ": [b"y"], b"Again: ": [b"y", PASSPHRASE]}
QUESTIONS = {**TO_OPEN, **TO_MAKE}
NAMES = {b"Passphrase: ": "open", b"[y/N] ": "create", b"New passphrase: ": "define", b"Again: ": "confirm"}


@pytest.fixture
def locked(start, place):
    pod = start("sleep", "infinity", place=place).ready().create_whole()
    place.write("one", CONTENT)
    pod.ok("lock")
    return pod


@pytest.fixture
def new(start, place):
    """A pod whose vault nobody has made yet."""
    return start("sleep", "infinity", place=place).ready()


@pytest.fixture
def pod_for(request):
    """The pod in which a question is asked."""
    return lambda question: request.getfixturevalue("locked" if question in TO_OPEN else "new")


class Window:
    """A pseudo-terminal, and tazpod, which has it as its controlling terminal.

    controlling=False: it is only standard input, output and error."""

    def __init__(self, pod, *words, env=None, controlling=True, stdin=None, ignored=()):
        self.master, self.slave = os.openpty()
        self.before = self.modes()
        self.seen = b""
        self.looked = 0

        def take():
            for number in ignored:
                signal.signal(number, signal.SIG_IGN)
            if controlling:
                fcntl.ioctl(1, termios.TIOCSCTTY, 0)

        argv, keywords = pod.command(*words, inside=False)
        keywords["env"] |= env or {}
        self.process = subprocess.Popen(argv, stdin=self.slave if stdin is None else stdin, stdout=self.slave,
                                        stderr=self.slave, start_new_session=True, preexec_fn=take, **keywords)

    def modes(self):
        return termios.tcgetattr(self.slave)

    def expect(self, text):
        """Waits for it, behind what was waited for before."""
        end = time.monotonic() + DEADLINE_S
        while self.seen.find(text, self.looked) < 0:
            assert select.select([self.master], [], [], max(0, end - time.monotonic()))[0], f"no {text}: {self.seen}"
            self.seen += os.read(self.master, 65536)
        self.looked = self.seen.find(text, self.looked) + len(text)

    def drain(self):
        while select.select([self.master], [], [], 0)[0]:
            self.seen += os.read(self.master, 65536)

    def type(self, data):
        """All in one go, however long; what appears meanwhile is read."""
        end = time.monotonic() + DEADLINE_S
        os.set_blocking(self.master, False)
        while data:
            readable, writable, _ = select.select([self.master], [self.master], [], max(0, end - time.monotonic()))
            assert readable or writable, f"{len(data)} bytes are not read: {self.seen[-200:]}"
            if readable:
                self.seen += os.read(self.master, 65536)
            if writable:
                with contextlib.suppress(BlockingIOError):
                    data = data[os.write(self.master, data[:4096]):]
        os.set_blocking(self.master, True)

    def line(self, data):
        self.type(data + b"\r")

    def answer(self, question, answers):
        """Up to a question, with what comes before it answered."""
        for asked, text in zip(TO_MAKE, answers):
            self.expect(asked)
            self.line(text)
        self.expect(question)
        assert self.modes() != self.before

    def ends(self):
        """The exit code; negative if a signal ended it."""
        code = self.process.wait(DEADLINE_S)
        if self.master is not None:
            self.drain()
        return code

    def close(self):
        """As a window is closed: the terminal has no other end any more."""
        os.close(self.master)
        self.master = None

    def remove(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for fd in (self.master, self.slave):
            if fd is not None:
                os.close(fd)


@pytest.fixture
def window():
    made = []

    def make(*args, **how):
        made.append(Window(*args, **how))
        return made[-1]

    yield make
    for one in made:
        print(f"--- {one.process.args}: {one.seen[-2000:]}")
        one.remove()


class Unchanged:
    """Looks before and after: locked, the RAM empty, the workspace the same."""

    def __init__(self, pod):
        self.pod = pod
        self.before = self.look()

    def look(self):
        return self.pod.status()["state"], self.pod.place.left_in_ram(), tree(self.pod.place.work)

    def check(self):
        assert self.look() == self.before
        assert self.before[:2] == ("locked", [])
        until(lambda: not self.pod.workers(), "no worker is left")


def opens(pod):
    """The control of all that must not open it."""
    pod.unlock()
    assert (pod.place.secrets / "one").read_bytes() == CONTENT
    pod.ok("lock")


every_question = pytest.mark.parametrize("question", QUESTIONS, ids=NAMES.get)


# ---- a terminal that goes away ----


@every_question
@pytest.mark.parametrize("ignored", [(), (signal.SIGHUP,)], ids=["", "under-nohup"])
def test_a_window_that_is_closed_ends_the_question(pod_for, window, question, ignored):
    pod = pod_for(question)
    same = Unchanged(pod)
    for verb in ("shell", "unlock"):
        terminal = window(pod, verb, ignored=ignored)
        terminal.answer(question, QUESTIONS[question])
        terminal.type(b"yes")
        terminal.close()
        # The kernel tells of it in two ways at once, so the second HUP may find it on its way out.
        assert terminal.ends() in (130, -signal.SIGHUP)
        same.check()


def test_a_window_that_is_closed_while_the_key_is_derived_leaves_the_vault_locked(new, window):
    new.ok("unlock", "--create", "--kdf-memory", "64M", "--kdf-time", "16", passphrase=PASSPHRASE)
    new.place.write("one", CONTENT)
    new.ok("lock")
    same = Unchanged(new)
    terminal = window(new, "shell")
    terminal.answer(b"Passphrase: ", [])
    terminal.line(PASSPHRASE)
    # Costly, so that it can be caught; and stopped, so that it can't have finished.
    opener = new.stop_worker("open")
    assert new.status()["state"] == "opening"
    terminal.close()
    assert terminal.ends() == -signal.SIGHUP
    until(lambda: not is_alive(opener), "nobody waits for the opener any more")
    until(lambda: new.status()["state"] == "locked", "the attempt is given up")
    same.check()
    opens(new)


@every_question
def test_a_signal_cancels_the_question_and_puts_the_terminal_right(pod_for, window, question):
    pod = pod_for(question)
    same = Unchanged(pod)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGALRM):
        terminal = window(pod, "shell")
        terminal.answer(question, QUESTIONS[question])
        terminal.type(b"yes")
        os.kill(terminal.process.pid, number)
        assert terminal.ends() == 130, number
        assert terminal.modes() == terminal.before, number
        assert b"[cancelled]" in terminal.seen
    same.check()


@every_question
def test_one_that_is_killed_opens_nothing(pod_for, window, question):
    pod = pod_for(question)
    same = Unchanged(pod)
    terminal = window(pod, "shell")
    terminal.answer(question, QUESTIONS[question])
    terminal.type(PASSPHRASE)
    terminal.process.kill()
    assert terminal.ends() == -signal.SIGKILL
    same.check()


def test_one_that_was_stopped_goes_on_asking(locked, window):
    terminal = window(locked, "unlock")
    terminal.answer(b"Passphrase: ", [])
    for _ in range(3):
        os.kill(terminal.process.pid, signal.SIGSTOP)
        os.waitpid(terminal.process.pid, os.WUNTRACED)
        os.kill(terminal.process.pid, signal.SIGCONT)
    terminal.line(PASSPHRASE)
    assert terminal.ends() == 0
    assert terminal.modes() == terminal.before
    assert locked.status()["state"] == "open"


# ---- what is typed ----


@every_question
def test_a_megabyte_in_one_line_is_read_to_its_end_and_refused(pod_for, window, question):
    # The other questions are read by the same lines, and a megabyte is seconds on a busy machine.
    size = MEGABYTE if question in TO_OPEN else MEGABYTE // 8
    pod = pod_for(question)
    same = Unchanged(pod)
    terminal = window(pod, "shell")
    terminal.answer(question, QUESTIONS[question])
    terminal.line(b"x" * size)
    assert terminal.ends() == (130 if question == b"[y/N] " else 77)
    assert terminal.modes() == terminal.before
    if question != b"[y/N] ":
        assert b"xxxx" not in terminal.seen
        assert b"[long-passphrase]" in terminal.seen
    same.check()


@every_question
def test_a_line_that_is_taken_back_does_not_count(pod_for, window, question):
    """However long it was, and whatever was in it."""
    pod = pod_for(question)
    terminal = window(pod, "unlock")
    terminal.answer(question, QUESTIONS[question])
    terminal.type(b"x" * 5000 + b"\0\x15")
    answers = [b"y", PASSPHRASE, PASSPHRASE]
    rest = [PASSPHRASE] if question in TO_OPEN else answers[list(TO_MAKE).index(question):]
    for number, text in enumerate(rest):
        if number:
            terminal.expect(list(TO_MAKE)[-len(rest) + number])
        terminal.line(text)
    assert terminal.ends() == 0
    assert terminal.modes() == terminal.before
    assert pod.status()["state"] == "open"


def test_backspace_takes_back_what_was_typed_a_nul_byte_too(locked, window):
    terminal = window(locked, "unlock")
    terminal.answer(b"Passphrase: ", [])
    terminal.line(PASSPHRASE[:-1] + b"\0\x7f" + "é".encode() + b"\x08" + PASSPHRASE[-1:])
    assert terminal.ends() == 0


def test_a_passphrase_with_every_byte_that_can_be_typed_is_taken_whole(new, window):
    # None of these is a key with a meaning at the question.
    odd = bytes(byte for byte in range(1, 256) if byte not in b"\x03\x04\x08\x0a\x0d\x15\x1a\x1c\x7f")
    terminal = window(new, "unlock", "--create", *CHEAP)
    for question in (b"New passphrase: ", b"Again: "):
        terminal.expect(question)
        terminal.line(odd)
    assert terminal.ends() == 0
    new.ok("lock")
    new.ok("unlock", passphrase=odd)
    new.ok("lock")
    terminal = window(new, "unlock")
    terminal.answer(b"Passphrase: ", [])
    terminal.line(odd)
    assert terminal.ends() == 0


# ---- from a file or a descriptor ----

CREATED = b"abc"
# Content -> word; None opens. Every one of the others is 77, and never asked for again.
SOURCES = {
    "the-passphrase": (b"abc", None),
    "a-line": (b"abc\n", None),
    "nothing": (b"", "empty-passphrase"),
    "an-empty-line": (b"\n", "empty-passphrase"),
    "a-nul-byte": (b"\0", "wrong-passphrase"),
    "a-nul-byte-behind-it": (b"abc\0", "wrong-passphrase"),
    "a-nul-byte-behind-it-in-a-line": (b"abc\0\n", "wrong-passphrase"),
    "a-line-and-a-nul-byte": (b"abc\n\0", "wrong-passphrase"),
    "more-behind-a-nul-byte": (b"abc\0def", "wrong-passphrase"),
    "a-nul-byte-before-it": (b"\0abc", "wrong-passphrase"),
    "two-line-ends": (b"abc\n\n", "wrong-passphrase"),
    # One newline is dropped, and nothing else.
    "a-line-of-another-system": (b"abc\r\n", "wrong-passphrase"),
    "a-second-line": (b"abc\ndef\n", "wrong-passphrase"),
    "a-blank-behind-it": (b"abc ", "wrong-passphrase"),
    "1025-bytes": (b"x" * 1025, "long-passphrase"),
    "1025-bytes-in-a-line": (b"x" * 1025 + b"\n", "long-passphrase"),
    "many-lines": (b"abc\n" * 500, "long-passphrase"),
    "a-megabyte": (b"x" * MEGABYTE, "long-passphrase"),
    "1024-bytes": (b"x" * 1024, "wrong-passphrase"),
}


def by_descriptor(pod, folder, content, *flags):
    return pod.tazpod("unlock", *flags, passphrase=content, inside=False)


def by_file(pod, folder, content, *flags):
    file = folder / "passphrase"
    file.write_bytes(content)
    os.chown(file, OWNER, OWNER)
    return pod.tazpod("unlock", *flags, "--passphrase-file", str(file), inside=False)


@pytest.mark.parametrize("source", [by_descriptor, by_file])
def test_a_file_is_the_passphrase_whole_or_not_at_all(new, place, source):
    new.ok("unlock", "--create", *CHEAP, passphrase=CREATED)
    place.write("one", CONTENT)
    new.ok("lock")
    same = Unchanged(new)
    for name, (content, word) in SOURCES.items():
        done = source(new, place.top, content)
        if word is None:
            assert done.returncode == 0, (name, done)
            assert (place.secrets / "one").read_bytes() == CONTENT
            new.ok("lock")
        else:
            assert done.returncode == 77 and done.stderr.decode().endswith(f"[{word}]\n"), (name, done)
            same.check()


@pytest.mark.parametrize("source", [by_descriptor, by_file])
def test_no_vault_is_locked_with_less_than_what_was_given(new, place, source):
    same = Unchanged(new)
    for content in (b"", b"\n", b"\0", b"abc\0def", b"abc\0", b"x" * 1025, b"x" * MEGABYTE):
        done = source(new, place.top, content, "--create", *CHEAP)
        assert done.returncode == 77, (content[:20], done)
        same.check()
    # The longest there can be: not one byte of it is left out.
    longest = b"x" * 1023 + b"y"
    assert source(new, place.top, longest + b"\n", "--create", *CHEAP).returncode == 0
    new.ok("lock")
    for wrong in (longest[:-1], b"x" * 1024):
        assert source(new, place.top, wrong).returncode == 77
    assert source(new, place.top, longest).returncode == 0


def test_what_can_not_be_read_is_a_matter_of_usage(locked, place):
    same = Unchanged(locked)
    for path in (place.top / "absent", place.top):
        done = locked.tazpod("unlock", "--passphrase-file", str(path), inside=False)
        assert done.returncode == 64 and b"[usage]" in done.stderr, done
    done = locked.tazpod("unlock", "--passphrase-fd", "17", inside=False)
    assert done.returncode == 64 and b"[usage]" in done.stderr, done
    same.check()


# ---- nobody to ask ----


@contextlib.contextmanager
def null():
    yield subprocess.DEVNULL, None


@contextlib.contextmanager
def closed():
    yield subprocess.DEVNULL, lambda: os.close(0)


@contextlib.contextmanager
def held_open():
    reader, writer = os.pipe()
    try:
        yield reader, None
    finally:
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def a_terminal_of_others():
    """A terminal, but not the one that this process may ask on."""
    master, slave = os.openpty()
    try:
        yield slave, None
    finally:
        os.close(master)
        os.close(slave)


def ask(pod, *words, stdin=subprocess.DEVNULL, prepare=None, env=None):
    """Without a terminal; whoever waits for one fails the test."""
    argv, keywords = pod.command(*words, inside=False)
    keywords["env"] |= env or {}
    return subprocess.run(argv, stdin=stdin, capture_output=True, timeout=DEADLINE_S, start_new_session=True,
                          preexec_fn=prepare, **keywords)


def assert_needs_terminal(done):
    assert done.returncode == 4, done
    assert done.stdout == b"" and done.stderr.count(b"\n") == 1, done
    assert done.stderr.endswith(b" [needs-terminal]\n"), done


@pytest.mark.parametrize("stdin", [null, closed, held_open, a_terminal_of_others], ids=lambda way: way.__name__)
def test_without_a_terminal_it_ends_at_once_and_says_what_to_do(locked, window, stdin):
    same = Unchanged(locked)
    vault = str(locked.place.vault)
    for words in (["unlock"], ["shell"], ["unlock", "--create"], ["verify", vault]):
        with stdin() as (fd, prepare):
            done = ask(locked, *words, stdin=fd, prepare=prepare)
        assert_needs_terminal(done)
        assert b"docker exec -it" in done.stderr and b"--passphrase-file" in done.stderr, done
    same.check()
    # The control: with a terminal it asks there, whatever standard input is.
    with stdin() as (fd, prepare):
        terminal = window(locked, "unlock", stdin=fd)
        terminal.answer(b"Passphrase: ", [])
        terminal.line(PASSPHRASE)
        assert terminal.ends() == 0


def test_without_a_terminal_a_missing_vault_is_not_made(new):
    same = Unchanged(new)
    for words in (["unlock"], ["shell"], ["unlock", "--create"]):
        assert_needs_terminal(ask(new, *words))
    same.check()


@pytest.mark.parametrize("verb", [["unlock"], ["shell"], ["unlock", "--create"], ["verify"]], ids=" ".join)
def test_no_input_asks_nobody(locked, window, place, verb):
    words = [*verb, str(place.vault)] if verb == ["verify"] else verb
    same = Unchanged(locked)
    program = Program(place, f"echo '{RIGHT}'")
    for env in ({}, program.env, program.env | {"TAZPOD_ASKPASS_REQUIRE": "force"}):
        assert_needs_terminal(ask(locked, *words, "--no-input", env=env))
        terminal = window(locked, *words, "--no-input", env=env)
        assert terminal.ends() == 4
        assert b"assphrase: " not in terminal.seen and terminal.seen.endswith(b" [needs-terminal]\r\n")
        assert terminal.modes() == terminal.before
    assert program.asked == []
    same.check()
    # The controls: it is the flag that keeps it from asking, and a file needs no asking.
    terminal = window(locked, *words)
    terminal.expect(b"assphrase: ")
    terminal.type(b"\x03")
    assert terminal.ends() == 130
    assert ask(locked, *words, env=program.env).returncode == (73 if "--create" in verb else 0)
    assert program.asked
    if verb in (["unlock"], ["shell"]):
        locked.ok("lock")
        file = write(place.work / "passphrase", PASSPHRASE)
        assert ask(locked, *words, "--no-input", "--passphrase-file", str(file)).returncode == 0


def test_no_input_makes_no_vault_and_offers_none(new, window):
    same = Unchanged(new)
    terminal = window(new, "shell", "--no-input")
    assert terminal.ends() == 4
    assert b"[y/N]" not in terminal.seen
    same.check()


# ---- a program that is asked ----


class Program:
    """A shell script to be asked. It writes down what it was asked, and what it could see."""

    made = 0

    def __init__(self, place, body, mode=0o755, first="#!/bin/sh"):
        Program.made += 1
        self.folder = place.top / f"program-{Program.made}"
        self.folder.mkdir()
        os.chown(self.folder, OWNER, OWNER)
        self.path = self.folder / "askpass"
        self.path.write_text(f"{first}\nprintf '%s\\n' \"$#\" \"$@\" >> {self.folder}/asked\n{body}\n")
        self.path.chmod(mode)
        self.env = {"TAZPOD_ASKPASS": str(self.path)}

    @property
    def asked(self):
        """Arguments of every call; each had exactly one."""
        file = self.folder / "asked"
        lines = file.read_text().splitlines() if file.exists() else []
        assert lines[::2] == ["1"] * (len(lines) // 2), lines
        return lines[1::2]


ASK = ["Passphrase: "]

# Body -> exit code, word, calls.
PROGRAMS = {
    "the-right-one": (f"echo '{RIGHT}'", 0, None, 1),
    "the-right-one-without-a-line-end": (f"printf '%s' '{RIGHT}'", 0, None, 1),
    "the-right-one-bit-by-bit": (f"printf '%s' '{RIGHT[:5]}'; sleep 0.05; echo '{RIGHT[5:]}'", 0, None, 1),
    "a-wrong-one": ("echo wrong", 77, "wrong-passphrase", 3),
    "nothing": ("", 77, "empty-passphrase", 1),
    "an-empty-line": ("echo", 77, "empty-passphrase", 1),
    "the-right-one-and-failure": (f"echo '{RIGHT}'; exit 1", 130, "cancelled", 1),
    "nothing-and-failure": ("exit 1", 130, "cancelled", 1),
    "the-right-one-and-a-signal": (f"echo '{RIGHT}'; kill -TERM $$", 130, "cancelled", 1),
    "the-right-one-and-126": (f"echo '{RIGHT}'; exit 126", 130, "cancelled", 1),
    "127-counts-as-not-there": (f"echo '{RIGHT}'; exit 127", 4, "needs-terminal", 1),
    "a-nul-byte-behind-it": (f"printf '%s\\0def' '{RIGHT}'", 77, "wrong-passphrase", 3),
    "a-nul-byte-at-its-end": (f"printf '%s\\0' '{RIGHT}'", 77, "wrong-passphrase", 3),
    "a-blank-behind-it": (f"echo '{RIGHT} '", 77, "wrong-passphrase", 3),
    "on-standard-error": (f"echo '{RIGHT}' >&2", 77, "empty-passphrase", 1),
    "1024-bytes": ("printf '%01024d' 0", 77, "wrong-passphrase", 3),
    "1025-bytes": ("printf '%01025d' 0", 77, "long-passphrase", 1),
    "5000-bytes": ("printf '%05000d' 0", 77, "long-passphrase", 1),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_program_prints_and_how_it_ends(locked, place, name):
    body, code, word, calls = PROGRAMS[name]
    same = Unchanged(locked)
    program = Program(place, body)
    done = ask(locked, "unlock", env=program.env)
    assert done.returncode == code, done
    assert program.asked == ASK * calls
    if word is None:
        assert (place.secrets / "one").read_bytes() == CONTENT
    else:
        assert done.stderr.decode().endswith(f" [{word}]\n"), done
        same.check()
    if name != "on-standard-error":
        assert PASSPHRASE not in done.stdout + done.stderr
    assert RIGHT not in locked.log()


@pytest.mark.parametrize("body", ["head -c 1048576 /dev/zero | tr '\\0' x", "exec yes", "trap '' PIPE; yes; exit 0",
                                  f"echo '{RIGHT}'; exec yes"],
                         ids=["a-megabyte", "without-end", "whatever-it-is-told", "behind-the-right-one"])
def test_one_that_talks_too_much_is_not_listened_to(locked, place, body):
    same = Unchanged(locked)
    program = Program(place, body)
    done = ask(locked, "unlock", env=program.env)
    # Cut off, it fails or not, as it likes.
    assert done.returncode in (77, 130), done
    assert len(done.stderr) < 300
    assert set(program.asked) == set(ASK) and len(program.asked) <= 3
    same.check()


def test_a_program_that_is_right_the_third_time_opens(locked, place):
    program = Program(place, f'[ $(wc -l < "${{0%/*}}/asked") -lt 6 ] && echo no || echo "{RIGHT}"')
    assert ask(locked, "unlock", env=program.env).returncode == 0
    assert program.asked == ASK * 3


@pytest.mark.parametrize("make", [
    lambda place: place.top / "absent",
    lambda place: place.top,
    lambda place: Program(place, f"echo '{RIGHT}'", mode=0o644).path,
    lambda place: Program(place, f"echo '{RIGHT}'", first="#!/nowhere/sh").path,
    lambda place: "",
], ids=["absent", "a-folder", "not-executable", "no-interpreter", "no-name"])
def test_one_that_can_not_be_executed_leaves_the_terminal_to_be_asked(locked, window, place, make):
    env = {"TAZPOD_ASKPASS": str(make(place))}
    same = Unchanged(locked)
    assert_needs_terminal(ask(locked, "unlock", env=env))
    same.check()
    terminal = window(locked, "unlock", env=env)
    terminal.answer(b"Passphrase: ", [])
    terminal.line(PASSPHRASE)
    assert terminal.ends() == 0


def test_a_program_without_a_slash_is_looked_for_in_path(locked, place):
    program = Program(place, f"echo '{RIGHT}'")
    env = {"TAZPOD_ASKPASS": "askpass", "PATH": f"{program.folder}:/usr/bin:/bin"}
    assert ask(locked, "unlock", env=env).returncode == 0
    assert program.asked == ASK
    locked.ok("lock")
    assert_needs_terminal(ask(locked, "unlock", env=env | {"PATH": "/usr/bin:/bin"}))


def test_require_says_whether_program_or_terminal_is_asked(locked, window, place):
    right = Program(place, f"echo '{RIGHT}'")
    refuses = Program(place, "exit 1")
    missing = {"TAZPOD_ASKPASS": str(place.top / "absent")}
    force, never = {"TAZPOD_ASKPASS_REQUIRE": "force"}, {"TAZPOD_ASKPASS_REQUIRE": "never"}

    def asks(env):
        """"terminal", or how it ends without."""
        terminal = window(locked, "unlock", env=env)
        until(lambda: terminal.drain() or b"Passphrase: " in terminal.seen or terminal.process.poll() is not None,
              "a question or the end")
        terminal.drain()
        if b"Passphrase: " not in terminal.seen:
            assert terminal.modes() == terminal.before
            return terminal.ends()
        terminal.type(b"\x03")
        assert terminal.ends() == 130
        return "terminal"

    same = Unchanged(locked)
    assert asks(refuses.env) == 130, "who refuses is not gone behind"
    assert asks(refuses.env | force) == 130
    assert asks(refuses.env | never) == "terminal"
    assert asks(missing) == "terminal"
    assert asks(missing | never) == "terminal"
    assert asks(missing | force) == 4
    assert asks({"TAZPOD_ASKPASS_REQUIRE": "never"}) == "terminal"
    same.check()
    assert len(refuses.asked) == 2
    for how in ({}, force, {"TAZPOD_ASKPASS_REQUIRE": ""}, {"TAZPOD_ASKPASS_REQUIRE": "prefer"}):
        assert asks(right.env | how) == 0
        locked.ok("lock")
    assert right.asked == ASK * 4
    assert_needs_terminal(ask(locked, "unlock", env=right.env | never))
    assert_needs_terminal(ask(locked, "unlock", env=missing | force))
    assert right.asked == ASK * 4


def test_a_new_passphrase_is_asked_of_the_program_twice(new, place):
    same = Unchanged(new)
    differs = Program(place, 'case $1 in New*) echo one ;; *) echo other ;; esac')
    done = ask(new, "unlock", "--create", *CHEAP, env=differs.env)
    assert done.returncode == 77 and b"[wrong-passphrase]" in done.stderr, done
    assert differs.asked == ["New passphrase: ", "Again: "] * 3
    gives_up = Program(place, 'case $1 in New*) echo one ;; *) exit 1 ;; esac')
    assert ask(new, "unlock", "--create", *CHEAP, env=gives_up.env).returncode == 130
    same.check()

    program = Program(place, f"echo '{RIGHT}'")
    assert ask(new, "unlock", "--create", *CHEAP, env=program.env).returncode == 0
    assert program.asked == ["New passphrase: ", "Again: "]
    new.ok("lock")
    new.unlock()


def test_whether_a_vault_is_to_be_made_is_not_asked_of_the_program(new, window, place):
    same = Unchanged(new)
    program = Program(place, f"echo '{RIGHT}'")
    done = ask(new, "unlock", env=program.env | {"TAZPOD_ASKPASS_REQUIRE": "force"})
    assert done.returncode == 66, done
    assert "y/N" not in "".join(program.asked)
    same.check()
    terminal = window(new, "unlock", env=program.env)
    terminal.answer(b"[y/N] ", [])
    terminal.line(b"y")
    assert terminal.ends() == 0
    assert program.asked[-2:] == ["New passphrase: ", "Again: "]


def test_the_program_sees_the_question_and_what_its_caller_gave_and_no_more(new, place):
    look = """
        tr '\\0' '\\n' < /proc/$$/environ > "$seen/environment"
        tr '\\0' '\\n' < /proc/$PPID/cmdline > "$seen/caller"
        ls -l /proc/self/fd > "$seen/descriptors"
    """
    program = Program(place, look + f"echo '{RIGHT}'")
    env = program.env | {"seen": str(program.folder)}
    assert ask(new, "unlock", "--create", *CHEAP, env=env).returncode == 0
    # At the second question the first answer is known.
    assert program.asked == ["New passphrase: ", "Again: "]
    seen = {name: (program.folder / name).read_text() for name in ("environment", "caller", "descriptors")}
    # What the listing inherited, and the folder that it lists.
    found = dict(re.findall(r" (\d+) -> (.*)", seen["descriptors"]))
    assert {number for number, target in found.items() if not target.startswith("/proc/")} == {"0", "1", "2"}, found
    assert f"seen={program.folder}" in seen["environment"] and "--create" in seen["caller"], seen
    assert RIGHT not in "".join(seen.values())


def test_a_program_that_never_ends_is_given_up_with_ctrl_c(locked, window, place):
    same = Unchanged(locked)
    program = Program(place, "echo > $(dirname $0)/there; exec sleep infinity")
    for verb in ("shell", "unlock"):
        terminal = window(locked, verb, env=program.env)
        until((program.folder / "there").exists, "the program was started")
        until(lambda: any(arguments(pid)[:1] == [b"sleep"] for pid in children(terminal.process.pid)), "it waits")
        [asked] = children(terminal.process.pid)
        terminal.type(b"\x03")
        assert terminal.ends() == -signal.SIGINT
        until(lambda: not is_alive(asked), "the program was interrupted as well")
        assert terminal.modes() == terminal.before
        same.check()
        # It holds nobody else up.
    terminal = window(locked, "unlock", env=program.env)
    until(lambda: children(terminal.process.pid), "the program was started")
    opens(locked)
    terminal.close()
    assert terminal.ends() == -signal.SIGHUP


def test_a_shell_is_given_to_who_is_right_only(locked, window, place):
    same = Unchanged(locked)
    for body, code in (("exit 1", 130), ("echo wrong", 77), ("", 77)):
        assert window(locked, "shell", env=Program(place, body).env).ends() == code
        same.check()
    env = Program(place, f"echo '{RIGHT}'").env | {"SHELL": "/bin/dash", "PS1": "in> "}
    terminal = window(locked, "shell", env=env)
    terminal.expect(b"in> ")
    terminal.line(b"exit 5")
    assert terminal.ends() == 5
    assert PASSPHRASE not in terminal.seen


def test_what_is_typed_while_a_key_is_derived_is_not_shown(new, window):
    """The start of the next try, or the rest of a paste."""
    new.ok("unlock", "--create", "--kdf-memory", "64M", "--kdf-time", "16", passphrase=PASSPHRASE)
    new.ok("lock")
    terminal = window(new, "unlock")
    terminal.answer(b"Passphrase: ", [])
    terminal.line(b"mistyped")
    new.stop_worker("open")
    terminal.type(PASSPHRASE)
    opener = new.workers()["open"]
    os.kill(opener, signal.SIGCONT)
    terminal.expect(b"try again")
    assert PASSPHRASE not in terminal.seen


def test_who_inherited_an_ignored_sigchld_still_notices_a_refusal(locked, place):
    """Its child would leave no status, and a program that declined would count as one that answered."""
    same = Unchanged(locked)
    program = Program(place, f"echo '{RIGHT}'; exit 1")

    def prepare():
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    done = ask(locked, "unlock", env=program.env, prepare=prepare)
    assert done.returncode == 130, done
    same.check()


def test_a_program_is_heard_by_a_caller_without_standard_input_and_output(locked, place):
    """A pipe would else land on these numbers."""
    program = Program(place, f"echo '{RIGHT}'")

    def prepare():
        os.close(0)
        os.close(1)

    done = ask(locked, "unlock", env=program.env, prepare=prepare)
    assert done.returncode == 0, done


@pytest.mark.parametrize("more", ["\\n", "\\nmore", "\\n\\n", "\\n\\nmore"])
def test_of_an_answer_of_more_lines_the_first_counts(new, place, more):
    """As of SSH_ASKPASS, whatever the length of the passphrase."""
    opened = set()
    for length in (10, 1024):
        new.ok("unlock", "--create", *CHEAP, passphrase=b"x" * length)
        new.ok("lock")
        program = Program(place, f"printf '%0{length}d' 0 | tr 0 x; printf '{more}\\n'")
        opened.add(ask(new, "unlock", env=program.env).returncode == 0)
        new.ok("lock")
        new.place.vault.unlink()
    assert opened == {True}


def test_no_input_says_what_to_do_instead(locked):
    done = ask(locked, "unlock", "--no-input")
    assert done.returncode == 4
    assert b"--passphrase-file" in done.stderr, done.stderr


def test_an_answer_with_a_nul_byte_is_not_yes(new, window):
    terminal = window(new, "unlock")
    terminal.answer(b"[y/N] ", [])
    terminal.line(b"y\0no")
    assert terminal.ends() == 130, terminal.seen


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGXCPU, signal.SIGVTALRM])
def test_any_signal_that_can_be_caught_leaves_the_terminal_right(locked, window, number):
    terminal = window(locked, "unlock")
    terminal.answer(b"Passphrase: ", [])
    os.kill(terminal.process.pid, number)
    terminal.ends()
    assert terminal.modes() == terminal.before


def test_a_program_that_never_ends_does_not_outlive_who_asked(locked, place):
    """Without a terminal nobody interrupts it: a script with a timeout would leave it in the pod."""
    program = Program(place, "exec sleep infinity")
    argv, keywords = locked.command("unlock", inside=False)
    keywords["env"] |= program.env
    client = subprocess.Popen(argv, stdin=subprocess.DEVNULL, start_new_session=True, **keywords)
    until(lambda: program.asked and children(client.pid), "it waits")
    [asked] = children(client.pid)
    client.terminate()
    client.wait()
    try:
        until(lambda: not is_alive(asked), "it is gone", seconds=2)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(asked, signal.SIGKILL)
