"""`make try` without Docker: tests/try in a copy of the tree, as root and as an ordinary user.

The copy is what a fresh clone is after `make`. Docker is kept from answering by a command of that
name in front of it, or by naming the mode.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import tempfile

import pexpect
import pytest

from nsinit import BUILD, DEADLINE_S, TOP, children, mount, private_mounts, umount, until

# Of nobody on this machine, as a user without a name has to do as well.
USER = 23456
OWNER_OF_ROOTS = 1000
NAMESPACE, SUBREAPER = "namespace", "subreaper"

USERS = pytest.mark.parametrize("uid", [0, USER], ids=["root", "user"])
MODES = pytest.mark.parametrize("mode", [NAMESPACE, SUBREAPER])

PASSPHRASE = "correct horse battery staple"
CANARY = "canary-4f1c9a7d"

# The subreaper's folder on a tmpfs, as `tazpod` names what is in it.
RAM = r"/\S*/tazpod-try-\w{6}(?=/run)"

NO_ENGINE = "exit 1"
# An engine without a network behind it: it answers, and has no image.
NO_IMAGE = """case "$1" in info) exit 0 ;; *) echo 'no such host' >&2; exit 1 ;; esac"""
NO_NAMESPACES = "echo 'unshare failed: Operation not permitted' >&2; exit 1"
NO_USER_NAMESPACES = f'case " $* " in *" --user "*) {NO_NAMESPACES} ;; esac; exec /usr/bin/unshare "$@"'


class Tree:
    def __init__(self, uid):
        self.uid = uid
        self.outer = pathlib.Path(tempfile.mkdtemp(prefix="tazpod-try-test-"))
        self.home = self.outer / "home"
        self.top = self.home / "clone"
        self.terminals = []

    def fill(self, closed=False):
        """closed: the home is its user's alone."""
        self.outer.chmod(0o755)
        for folder in ("build", "tests", "../bin", "../tmp"):
            (self.top / folder).mkdir(parents=True)
        for name in ("build/tazpod-init", "build/tazpod"):
            shutil.copy(BUILD / pathlib.Path(name).name, self.top / name)
        for name in ("tests/try", "Dockerfile.base"):
            shutil.copy(TOP / name, self.top / name)
        for folder, folders, files in os.walk(self.home):
            for name in [".", *folders, *files]:
                os.chown(pathlib.Path(folder) / name, self.uid, self.uid)
        self.home.chmod(0o700 if closed else 0o755)
        return self

    def close(self):
        for terminal in self.terminals:
            terminal.close(force=True)
        shutil.rmtree(self.outer)

    def stub(self, name, script):
        """A command that comes first in PATH."""
        path = self.home / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def how(self, mode, env):
        words = [str(self.top / "tests/try")]
        if self.uid:
            words = ["setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups", *words]
        env = {"PATH": f"{self.home}/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.home), "TERM": "dumb", **env}
        return words, {**env, "TAZPOD_TRY": mode} if mode else env

    def play(self, mode=None, **env):
        """Without a terminal: (exit status, all that it said)."""
        words, env = self.how(mode, env)
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, env=env, cwd="/", timeout=60)
        print(done.stdout)
        return done.returncode, done.stdout

    def terminal(self, mode, guard=False, **env):
        """guard: behind a shell, which keeps the session when the script has gone."""
        words, env = self.how(mode, env)
        if guard:
            words = ["sh", "-c", '"$@"; sleep infinity', "guard", *words]
        child = pexpect.spawn(words[0], words[1:], env=env, cwd="/", encoding="utf-8", timeout=DEADLINE_S,
                              dimensions=(24, 200))
        self.terminals.append(child)
        return child

    def place(self, attended):
        return self.top / "build/try" / ("" if attended else "unattended")

    def vault(self, attended=False):
        return self.place(attended) / "workspace/.tazpod/vault.tpv"

    def processes(self):
        """Of this tree: by a word of theirs, or what was handed to them."""
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                text = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
                if int(folder.name) != os.getpid() and str(self.top).encode() in text:
                    found.append((int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ")))
        return found

    def nothing_is_left(self, said):
        until(lambda: not self.processes(), f"an end of {self.processes()}")
        assert str(self.home) not in pathlib.Path("/proc/self/mounts").read_text()
        for attended in (True, False):
            ram = self.place(attended) / "ram"
            assert not ram.exists() or os.listdir(ram) == []
        for ram in re.findall(RAM, said):
            assert not os.path.exists(ram)

    def holds(self, *texts):
        """Files below the clone with one of these texts in them."""
        found = []
        for path in self.home.rglob("*"):
            if path.is_file() and any(text.encode() in path.read_bytes() for text in texts):
                found.append(path)
        return found


@pytest.fixture
def make_tree():
    made = []

    def make(uid, **how):
        made.append(Tree(uid))
        return made[-1].fill(**how)

    yield make
    for tree in made:
        tree.close()


def to_the_shell(terminal, new):
    """All up to the shell's first prompt; what was said."""
    said = ""
    for prompt in ["New passphrase: ", "Again: "] if new else ["Passphrase: "]:
        terminal.expect_exact(prompt)
        said += terminal.before
        terminal.sendline(PASSPHRASE)
    terminal.expect(r"[$#] ")
    return said + terminal.before


def type_to(terminal, line, answer):
    terminal.sendline(line)
    terminal.expect(answer)
    terminal.expect(r"[$#] ")


def to_the_end(terminal):
    """(exit status, what was said). None if a signal ended it."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    return terminal.exitstatus, terminal.before


def lines_of(said):
    return [line.removeprefix("try: ") for line in said.splitlines() if line.startswith("try: ")]


# ---- without a terminal ----

STORY = ["create", "write", "save", "status", "write", "stop", "start it again", "unlock", "compare", "stop",
         "every step worked"]


@USERS
@MODES
def test_the_story_plays_by_itself_and_says_each_step(make_tree, uid, mode):
    tree = make_tree(uid)
    code, said = tree.play(mode)
    assert code == 0
    steps = iter(lines_of(said))
    assert all(any(line.startswith(step) for line in steps) for step in STORY), "each step, in this order"
    assert re.search(r"^state +open$", said, re.M) and re.search(r"^files +1$", said, re.M), "the status"
    holds = [line for line in lines_of(said) if line.startswith(str(tree.vault()))]
    assert len(holds) == 2, "one line for each stop"
    assert all(re.fullmatch(r"\S+ holds 2 files, saved [0-9]{4}(-[0-9]{2}){2} [0-9:]{8} \S+", line) for line in holds)
    info = tree.vault().stat()
    assert tree.vault().read_bytes()[:8] == b"\x89VLT\r\n\x1a\n" and stat.S_IMODE(info.st_mode) == 0o600
    assert info.st_uid == (OWNER_OF_ROOTS if uid == 0 and mode == SUBREAPER else uid)
    tree.nothing_is_left(said)


@USERS
@MODES
def test_each_story_has_a_workspace_of_its_own(make_tree, uid, mode):
    tree = make_tree(uid)
    vaults = set()
    for _ in range(2):
        code, _ = tree.play(mode)
        assert code == 0
        vaults.add(tree.vault().read_bytes()[16:32])
    assert len(vaults) == 2, "each vault has its own number"


SABOTAGE = {
    "create": 'case "$*" in *--create*) exit 74 ;; esac',
    "save": '[ "$1" != save ] || exit 74',
    "status": '[ "$1" != status ] || exit 69',
    "unlock": 'case "$*" in "unlock --passphrase-file"*) exit 77 ;; esac',
    "compare": '"$real" "$@"; [ "$1" != unlock ] || ! [ -e "$secrets/second" ] || echo else >"$secrets/second"; exit 0',
    "stop": '"$real" "$@"; [ "$1" != status ] || rm -rf "$secrets"; exit 0',
}


@MODES
@pytest.mark.parametrize("step", SABOTAGE)
def test_a_step_that_fails_fails_the_story(make_tree, mode, step):
    tree = make_tree(USER)
    build, real = tree.top / "build", tree.top / "real"
    build.rename(real)
    build.mkdir()
    os.chown(build, USER, USER)
    # The workers are executed by PID 1, from the real file; a person types this one's name.
    wrappers = {
        "tazpod-init": f'exec {real}/tazpod-init --program {real}/tazpod "$@"',
        "tazpod": f'real={real}/tazpod secrets=$TAZPOD_RUN_DIR/secrets\n{SABOTAGE[step]}\nexec {real}/tazpod "$@"',
    }
    for name, script in wrappers.items():
        (build / name).write_text(f"#!/bin/sh\n{script}\n")
        (build / name).chmod(0o755)
    code, said = tree.play(mode)
    assert code != 0 and "every step worked" not in said
    assert f"the pod's log is {tree.place(False)}/log" in said
    tree.nothing_is_left(said)


# ---- on a terminal ----


@USERS
@MODES
def test_a_person_gets_a_shell_with_the_vault_open_and_finds_the_file_again(make_tree, uid, mode):
    tree = make_tree(uid)
    terminal = tree.terminal(mode)
    said = to_the_shell(terminal, new=True)
    assert [line[:2] for line in lines_of(said)[-3:]] == ["1.", "2.", "3."], "what to do next, last before the shell"
    type_to(terminal, f"printf '%s\\n' {CANARY} >~/secrets/note; cat note", rf"\n{CANARY}")
    type_to(terminal, "tazpod status", r"state +open")
    assert tree.holds(CANARY, PASSPHRASE) == [], "clear text on disk while the vault is open"
    terminal.sendline("false; exit")
    code, said = to_the_end(terminal)
    assert code == 0, "the shell's status is not the story's"
    closing = lines_of(said)
    assert len(closing) == 1 and re.match(rf"{tree.vault(True)} holds 1 file, saved [0-9]{{4}}-", closing[0])
    assert tree.holds(CANARY, PASSPHRASE) == [], "clear text on disk after the stop"
    tree.nothing_is_left(said)

    terminal = tree.terminal(mode)
    to_the_shell(terminal, new=False)
    type_to(terminal, "cat ~/secrets/note", rf"\n{CANARY}")
    terminal.sendline("exit")
    assert to_the_end(terminal)[0] == 0
    assert tree.home.joinpath(".bash_history").exists() is False


@MODES
def test_the_shell_has_job_control(make_tree, mode):
    tree = make_tree(USER)
    terminal = tree.terminal(mode)
    to_the_shell(terminal, new=True)
    terminal.sendline("sh -c 'echo sle\"\"eps; exec sleep 1000'")
    terminal.expect_exact("\nsleeps")
    terminal.sendintr()
    terminal.expect(r"[$#] ")
    type_to(terminal, "echo $?", r"\n130")
    terminal.sendline("exit")
    assert to_the_end(terminal)[0] == 0


@MODES
def test_three_wrong_passphrases_give_no_shell_and_change_nothing(make_tree, mode):
    tree = make_tree(USER)
    terminal = tree.terminal(mode)
    to_the_shell(terminal, new=True)
    terminal.sendline("exit")
    to_the_end(terminal)
    before = tree.vault(True).read_bytes()
    terminal = tree.terminal(mode)
    for _ in range(3):
        terminal.expect_exact("Passphrase: ")
        terminal.sendline("something else")
    code, said = to_the_end(terminal)
    assert code == 77 and "1. this shell" not in said
    assert tree.vault(True).read_bytes() == before
    tree.nothing_is_left(said)


@MODES
def test_ctrl_c_at_the_prompt_gives_no_shell_and_no_vault(make_tree, mode):
    tree = make_tree(USER)
    terminal = tree.terminal(mode)
    terminal.expect_exact("New passphrase: ")
    terminal.sendintr()
    code, said = to_the_end(terminal)
    assert code == 130 and "1. this shell" not in said
    assert not tree.vault(True).exists()
    tree.nothing_is_left(said)


def the_canary_is_there(tree, mode):
    terminal = tree.terminal(mode)
    to_the_shell(terminal, new=False)
    type_to(terminal, "cat note", rf"\n{CANARY}")
    terminal.sendline("exit")
    assert to_the_end(terminal)[0] == 0


def end_by_term(terminal):
    os.kill(terminal.pid, signal.SIGTERM)
    code, _ = to_the_end(terminal)
    assert code == 128 + signal.SIGTERM


def end_by_closing_the_terminal(terminal):
    """As a window does, which sends nothing itself: pexpect's own close() would."""
    terminal.ptyproc.fileobj.close()
    until(lambda: not terminal.isalive(), "an end of the script")


@USERS
@MODES
@pytest.mark.parametrize("end", [end_by_term, end_by_closing_the_terminal])
def test_whatever_ends_the_script_the_vault_is_saved_and_nothing_is_left(make_tree, uid, mode, end):
    tree = make_tree(uid)
    terminal = tree.terminal(mode)
    said = to_the_shell(terminal, new=True)
    type_to(terminal, f"printf '%s\\n' {CANARY} >note; cat note", rf"\n{CANARY}")
    end(terminal)
    tree.nothing_is_left(said)
    the_canary_is_there(tree, mode)


@USERS
@MODES
def test_a_script_that_is_killed_takes_the_pod_with_it_saved(make_tree, uid, mode):
    """No trap sees it, and nobody hangs the terminal up."""
    tree = make_tree(uid)
    terminal = tree.terminal(mode, guard=True)
    said = to_the_shell(terminal, new=True)
    type_to(terminal, f"printf '%s\\n' {CANARY} >note; cat note", rf"\n{CANARY}")
    script = children(terminal.pid)[0]
    os.kill(script, signal.SIGKILL)
    until(lambda: {pid for pid, _ in tree.processes()} <= {terminal.pid, *children(terminal.pid)} - {script},
          f"an end of all but the guard and its sleep: {tree.processes()}")
    terminal.close(force=True)
    for ram in set(re.findall(RAM, said)):
        # Nobody was there to take the folders away, but there is nothing in them.
        assert {path.name for path in pathlib.Path(ram).rglob("*")} <= {"run", "control.sock", "home", "secrets"}
        shutil.rmtree(ram)
    tree.nothing_is_left(said)
    the_canary_is_there(tree, mode)


@MODES
def test_a_stop_that_can_not_save_fails_and_destroys_nothing(make_tree, mode):
    tree = make_tree(USER)
    terminal = tree.terminal(mode)
    to_the_shell(terminal, new=True)
    type_to(terminal, f"printf '%s\\n' {CANARY} >note; cat note", rf"\n{CANARY}")
    before = tree.vault(True).read_bytes()
    tree.vault(True).parent.chmod(0o500)
    terminal.sendline("exit")
    code, said = to_the_end(terminal)
    assert code == 74 and f"the pod's log is {tree.place(True)}/log" in said
    assert tree.vault(True).read_bytes() == before
    if mode == NAMESPACE:
        tree.nothing_is_left(said)
    else:
        ram = re.search(r"what could not be saved is still in (\S+)", said)[1]
        assert (pathlib.Path(ram) / "secrets/note").read_text() == CANARY + "\n"
        shutil.rmtree(pathlib.Path(ram).parent)


def test_a_second_try_is_turned_away_while_the_first_is_open(make_tree):
    tree = make_tree(USER)
    first = tree.terminal(NAMESPACE)
    to_the_shell(first, new=True)
    code, said = to_the_end(tree.terminal(NAMESPACE))
    assert code == 1 and "under way" in said
    type_to(first, "tazpod status", r"state +open")
    first.sendline("exit")
    assert to_the_end(first)[0] == 0


# ---- which mode, and why ----


@USERS
def test_without_an_engine_it_takes_namespaces_and_says_why(make_tree, uid):
    tree = make_tree(uid)
    tree.stub("docker", NO_ENGINE)
    code, said = tree.play()
    assert code == 0
    assert lines_of(said)[0] == "the pod runs in namespaces of this user's own, since no Docker engine answers"


def test_an_engine_that_can_not_make_the_image_is_left_out_in_one_line(make_tree):
    tree = make_tree(USER)
    tree.stub("docker", NO_IMAGE)
    code, said = tree.play()
    assert code == 0
    assert len([line for line in lines_of(said) if "can't make the image" in line]) == 1
    assert "in namespaces" in said and "no such host" not in said


@USERS
def test_without_namespaces_it_is_a_subreaper(make_tree, uid):
    tree = make_tree(uid)
    tree.stub("docker", NO_ENGINE)
    tree.stub("unshare", NO_NAMESPACES)
    tree.stub("sudo", "exit 1")
    code, said = tree.play()
    assert code == 0
    assert lines_of(said)[0] == ("the pod runs as a subreaper, with its RAM in /dev/shm, since no Docker engine "
                                 "answers, and no namespaces can be had")
    tree.nothing_is_left(said)


def test_root_without_user_namespaces_gives_the_pod_to_an_ordinary_user(make_tree):
    tree = make_tree(0)
    tree.stub("unshare", NO_USER_NAMESPACES)
    code, said = tree.play(NAMESPACE)
    assert code == 0 and "in namespaces, as uid 1000" in said
    assert tree.vault().stat().st_uid == OWNER_OF_ROOTS
    tree.nothing_is_left(said)


@pytest.mark.parametrize("mode", [NAMESPACE, SUBREAPER])
def test_a_clone_in_roots_closed_home_works(make_tree, mode):
    """Uid 1000 owns the pod in both, and must not be kept out by root's home."""
    tree = make_tree(0, closed=True)
    tree.stub("unshare", NO_USER_NAMESPACES)
    outside = tree.outer / "tmp"
    outside.mkdir(0o1777)
    code, said = tree.play(mode, TMPDIR=str(outside))
    assert code == 0
    assert (outside / "tazpod-try/unattended/workspace/.tazpod/vault.tpv").stat().st_uid == OWNER_OF_ROOTS
    tree.nothing_is_left(said)
    # A name that somebody else took first is not touched.
    shutil.rmtree(outside / "tazpod-try")
    (outside / "tazpod-try").mkdir()
    os.chown(outside / "tazpod-try", USER, USER)
    code, said = tree.play(mode, TMPDIR=str(outside))
    assert code == 1 and "is not ours" in said


@pytest.mark.parametrize("kind", ["tmpfs", "disk"])
def test_a_runtime_directory_is_used_only_if_it_is_ram(make_tree, kind):
    tree = make_tree(USER)
    private_mounts()
    runtime = tree.outer / "runtime"
    runtime.mkdir()
    os.chown(runtime, USER, USER)
    if kind == "tmpfs":
        mount("tmpfs", runtime, "tmpfs", 0, f"size=64m,mode=0700,uid={USER},gid={USER}")
    try:
        code, said = tree.play(SUBREAPER, XDG_RUNTIME_DIR=str(runtime))
        assert code == 0
        assert f"RAM in {runtime if kind == 'tmpfs' else '/dev/shm'} " in lines_of(said)[0]
        assert os.listdir(runtime) == []
    finally:
        if kind == "tmpfs":
            umount(runtime)


@pytest.mark.parametrize("mode, stub", [("docker", ("docker", NO_ENGINE)), ("docker", ("docker", NO_IMAGE)),
                                        (NAMESPACE, ("unshare", NO_NAMESPACES))], ids=["engine", "image", "namespace"])
def test_a_mode_that_is_asked_for_and_can_not_be_had_is_an_error(make_tree, mode, stub):
    tree = make_tree(USER)
    tree.stub(*stub)
    tree.stub("sudo", "exit 1")
    code, said = tree.play(mode)
    assert code == 1 and f"no pod can be had with TAZPOD_TRY={mode}" in said
    assert not tree.vault().exists()


def test_a_mode_that_does_not_exist_is_an_error(make_tree):
    code, said = make_tree(USER).play("podman")
    assert code == 1 and "no such mode" in said


def test_without_programs_it_names_the_step_that_makes_them(make_tree):
    tree = make_tree(USER)
    (tree.top / "build/tazpod").unlink()
    code, said = tree.play(NAMESPACE)
    assert code == 1 and "run make" in said
