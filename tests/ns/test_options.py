"""The options of tazpod-init that are tini's, and ours beside them: what the main command is told, in
whose stead, and what becomes of its exit status.

Where tini has the same option, both programs are started with the same words, and the same must come
of it. What that is stands here too: two programs may be wrong in the same way.
"""

import os
import pathlib
import re
import select
import shutil
import signal
import subprocess

import pytest

from nsinit import (CHEAP, DEADLINE_S, OWNER, PASSPHRASE, arguments, children, is_alive, mount, programs, status_field,
                    until)
from recorder import TAKEN

PYTHON = "/usr/bin/python3"
RECORDER = (PYTHON, str(pathlib.Path(__file__).with_name("recorder.py")))
PATH = "/usr/local/bin:/usr/bin:/bin"
TINI = shutil.which("tini", path=PATH)
FAULTS = [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE]
# Those that start the ordered stop where a vault is configured.
STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGPWR, 37}
# Process 1 takes pending signals by number: it is through with all below when it has passed this one on.
FENCE, MARK = 60, 61

# The main command, a child of its in the same process group, and one in a group of its own. Each takes
# every signal there is and says its number.
FAMILY = """
import os, signal
taken = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, taken)
def record(who):
    os.write(1, f"{who} ready {os.getpid()}\\n".encode())
    while True:
        os.write(1, f"{who} {int(signal.sigwait(taken))}\\n".encode())
if os.fork() == 0:
    record("member")
if os.fork() == 0:
    os.setpgid(0, 0)
    record("other")
record("main")
"""

HOW = pytest.mark.parametrize("how", [{"uid": 0}, {"uid": OWNER}, {"uid": OWNER, "may_mount": True},
                                      {"uid": OWNER, "beside": True}],
                              ids=["root", "owner", "own-mount", "not-process-1"])


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


class Family:
    """Who of FAMILY is who in a pod, and what they hear."""

    def __init__(self, pod):
        self.pod = pod
        for who in ("main", "member", "other"):
            pod.wait_out(f"{who} ready ")
        inner = dict(re.findall(r"(\w+) ready (\d+)", pod.out()))
        outer = {status_field(pid, "NSpid").split()[-1]: pid for pid in descendants(pod.pid)}
        self.pids = {who: outer[number] for who, number in inner.items()}

    def hears(self, send):
        """All that comes of a call of send, to each of them."""
        begin = len(self.pod.out())
        new = lambda: self.pod.out()[begin:]
        send()
        self.pod.signal(FENCE)
        until(lambda: f"main {FENCE}\n" in new(), f"the end of it; so far: {new()}")
        for pid in self.pids.values():
            os.kill(pid, MARK)
        until(lambda: all(f"{who} {MARK}\n" in new() for who in self.pids), f"the end of it; so far: {new()}")
        found = [(who, int(number)) for who, number in re.findall(r"(\w+) (\d+)\n", new())]
        return sorted(each for each in found if each[1] not in (FENCE, MARK))

    def hears_of(self, number):
        return self.hears(lambda: self.pod.signal(number))


def recorded(pod):
    return [int(line) for line in pod.out().split()[1:]]


def saved(start, place, **how):
    """What a new pod finds in the vault."""
    pod = start("sleep", "infinity", place=place, **how).ready().unlock()
    found = {path.name: path.read_text() for path in pod.secrets.iterdir()}
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    return found


# ---- the rewrite table ----


WAYS = pytest.mark.parametrize("way", ["option", "variable"])


def table(way, text):
    return {"options": ("--rewrite", text)} if way == "option" else {"env": {"TAZPOD_REWRITE": text}}


@WAYS
def test_the_main_command_gets_one_signal_in_place_of_another_or_none(start, way):
    family = Family(start(PYTHON, "-c", FAMILY, **table(way, "TERM:QUIT,SIGHUP:0,10:RTMIN+3")))
    assert family.hears_of(signal.SIGTERM) == [("main", signal.SIGQUIT)]
    assert family.hears_of(signal.SIGHUP) == []
    assert family.hears_of(signal.SIGUSR1) == [("main", 37)]
    assert family.hears_of(signal.SIGUSR2) == [("main", signal.SIGUSR2)], "all others as they are"
    assert family.hears_of(signal.SIGQUIT) == [("main", signal.SIGQUIT)], "once, not over and over"


def test_without_a_table_all_are_as_they_are(start):
    family = Family(start(PYTHON, "-c", FAMILY))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        assert family.hears_of(number) == [("main", number)]


@pytest.mark.parametrize("with_vault", [False, True], ids=["no-vault", "vault-place"])
def test_every_signal_can_be_rewritten(start, make_place, with_vault):
    """A ring: each that the main command can be given becomes the next."""
    sent = sorted(int(number) for number in TAKEN)
    becomes = dict(zip(sent, sent[1:] + sent[:1]))
    pod = start(*RECORDER, place=make_place() if with_vault else None,
                options=("--rewrite", ",".join(f"{a}:{b}" for a, b in becomes.items())))
    pod.wait_out("ready")
    if with_vault:
        pod.ready()
        sent = [number for number in sent if number not in STOPPING]
    for n, number in enumerate(sent):
        pod.signal(number)
        until(lambda: len(recorded(pod)) > n, f"signal {number} as {becomes[number]}")
    assert recorded(pod) == [becomes[number] for number in sent]
    assert not pod.has_ended()


def test_a_rewritten_signal_goes_to_the_group_as_any_other(start):
    family = Family(start(PYTHON, "-c", FAMILY, options=("-g", "--rewrite", "HUP:USR1,USR2:0")))
    assert family.hears_of(signal.SIGHUP) == [("main", signal.SIGUSR1), ("member", signal.SIGUSR1)]
    assert family.hears_of(signal.SIGUSR2) == []


# Leaves an orphan that ends with 9 at each SIGUSR1, and ends with 4 at SIGUSR2.
PARENT = """
import os, signal
taken = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, taken)
print("ready", flush=True)
while True:
    number = int(signal.sigwait(taken))
    if number == signal.SIGUSR1:
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os._exit(9)
            os._exit(0)
        os.waitpid(child, 0)
    print(number, flush=True)
    if number == signal.SIGUSR2:
        os._exit(4)
"""


def test_a_child_that_ends_is_no_signal_to_pass_on(start):
    """SIGCHLD is process 1's own, whatever the table says."""
    pod = start(PYTHON, "-c", PARENT, options=("--rewrite", "CHLD:HUP", "-w"))
    pod.wait_out("ready")
    pod.signal(signal.SIGUSR1)
    until(lambda: " reap " in pod.log(), "an orphan that was collected")
    pod.signal(FENCE)
    until(lambda: FENCE in recorded(pod), "the next signal")
    assert recorded(pod) == [signal.SIGUSR1, FENCE]


@pytest.mark.parametrize("number", FAULTS, ids=lambda number: number.name)
@pytest.mark.parametrize("sender", ["engine", "inside"])
@pytest.mark.parametrize("beside", [False, True], ids=["process-1", "not-process-1"])
def test_a_fault_signal_that_somebody_sent_is_rewritten_and_goes_to_the_group(start, number, sender, beside):
    pod = start(PYTHON, "-c", FAMILY, options=("-g", "--rewrite", f"{number.name}:USR1"), beside=beside)
    family = Family(pod)

    def send(what):
        if sender == "engine":
            pod.signal(what)
        else:
            inner = status_field(pod.pid, "NSpid").split()[-1]
            subprocess.run(["nsenter", "--target", str(pod.pid), "--mount", "--pid", "kill", f"-{int(what)}", inner],
                           check=True)

    both = lambda what: [("main", what), ("member", what)]
    assert family.hears(lambda: send(number)) == both(signal.SIGUSR1)
    another = FAULTS[FAULTS.index(number) - 1]
    assert family.hears(lambda: send(another)) == both(another), "the one that is in no table"
    assert " fault " not in pod.log() and not pod.has_ended()


def test_a_fault_signal_that_is_rewritten_to_nothing_is_dropped(start):
    family = Family(start(PYTHON, "-c", FAMILY, options=("--rewrite", "SEGV:0")))
    assert family.hears_of(signal.SIGSEGV) == []
    assert family.hears_of(signal.SIGBUS) == [("main", signal.SIGBUS)]


# ---- the table in an ordered stop ----

# Says what it is told, by which name, into the vault; ends then, with 3.
TELLER = """
import os, signal, sys
top, who, session = sys.argv[1:]
taken = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGCONT}
signal.pthread_sigmask(signal.SIG_BLOCK, taken)
if session == "own" and os.fork():
    os._exit(0)
if session == "own":
    os.setsid()
os.write(1, f"{who} is there\\n".encode())
number = int(signal.sigwait(taken))
with open(f"{top}/{who}", "a") as f:
    f.write(str(number))
os._exit(3)
"""


def stopping_pod(start, place, *options, env=None, how=None):
    """A pod with an open vault, a main command, a daemon, and somebody by `docker exec`."""
    script = '/usr/bin/python3 -c "$1" "$2" daemon own; exec /usr/bin/python3 -c "$1" "$2" main -'
    pod = start("sh", "-c", script, "sh", TELLER, str(place.secrets), place=place,
                options=("--stop-timeout", "4s", *options), env=env, **(how or {"uid": OWNER}))
    pod.ready().create()
    pod.wait_out("daemon is there")
    pod.wait_out("main is there")
    return pod


def by_exec(pod, uid=OWNER):
    """As `docker exec` starts one: its parent is outside."""
    words = ["nsenter", "--target", str(pod.pid), "--mount", "--pid", "--", "setpriv", "--reuid", str(uid), "--regid",
             str(uid), "--clear-groups", PYTHON, "-c", TELLER, str(pod.place.secrets), "exec", "-"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"exec is there\n"
    return process


def ended(process):
    process.stdout.close()
    return process.wait(DEADLINE_S)


@HOW
def test_in_a_stop_the_main_command_gets_the_rewritten_signal_and_all_others_term(start, place, how):
    pod = stopping_pod(start, place, "--rewrite", "TERM:USR1", how=how)
    outsider = by_exec(pod, how["uid"])
    pod.signal(signal.SIGTERM)
    if how.get("beside"):  # nobody's descendant: it is left alone
        assert pod.wait() == 3
        assert outsider.poll() is None
        os.kill(children(outsider.pid)[0], signal.SIGKILL)
        ended(outsider)
        wanted = {"main": "10", "daemon": "15"}
    else:
        assert pod.wait() == 3
        assert ended(outsider) == 3
        wanted = {"main": "10", "daemon": "15", "exec": "15"}
    assert saved(start, place, **how) == wanted
    assert place.left_in_ram() == [] and not place.temporaries()


@HOW
def test_in_a_stop_without_a_table_all_get_term(start, place, how):
    """The control of the one above."""
    pod = stopping_pod(start, place, how=how)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 3
    assert saved(start, place, **how) == {"main": "15", "daemon": "15"}


@pytest.mark.parametrize("number", sorted(int(n) for n in STOPPING))
def test_whatever_stops_it_is_term_that_is_rewritten(start, place, number):
    pod = stopping_pod(start, place, env={"TAZPOD_REWRITE": f"TERM:QUIT,INT:HUP,PWR:HUP,37:HUP"})
    pod.signal(number)
    assert pod.wait() == 3
    assert saved(start, place) == {"main": str(int(signal.SIGQUIT)), "daemon": "15"}


def test_a_stop_signal_starts_the_stop_whatever_it_is_rewritten_to(start, place):
    pod = stopping_pod(start, place, "--rewrite", "INT:0,PWR:USR1")
    pod.signal(signal.SIGINT)
    assert pod.wait() == 3
    assert saved(start, place) == {"main": "15", "daemon": "15"}


def test_what_becomes_term_is_the_main_commands_term_and_no_stop(start, place):
    pod = start("sh", "-c", "trap 'echo got TERM' TERM; echo ready; while :; do sleep 0.05; done", place=place,
                options=("--rewrite", "USR1:TERM")).ready().create()
    pod.wait_out("ready")
    pod.signal(signal.SIGUSR1)
    pod.wait_out("got TERM")
    assert pod.status()["state"] == "open"
    pod.ok("save")
    pod.signal(signal.SIGTERM)
    until(lambda: pod.out().count("got TERM") == 2, "the stop's own")
    pod.signal(signal.SIGTERM)  # it lives on, so this ends it
    assert pod.wait() == 128 + signal.SIGKILL


@HOW
def test_rewritten_to_nothing_it_is_not_told_killed_at_the_end_and_saved(start, place, how):
    """It writes on when the others have been told: that is in the last save."""
    main = f"""
import os, signal, time
taken = signal.valid_signals() - {{signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGCONT}}
signal.pthread_sigmask(signal.SIG_BLOCK, taken)
print("main is there", flush=True)
while not os.path.exists({str(place.secrets / "daemon")!r}) or not os.path.getsize({str(place.secrets / "daemon")!r}):
    time.sleep(0.005)
with open({str(place.secrets / "main")!r}, "w") as f:
    f.write("wrote on, and was told " + str([int(n) for n in signal.sigpending()]))
while True:
    signal.pause()
"""
    script = '/usr/bin/python3 -c "$1" "$2" daemon own; exec /usr/bin/python3 -c "$3"'
    pod = start("sh", "-c", script, "sh", TELLER, str(place.secrets), main, place=place,
                options=("--stop-timeout", "2s", "--rewrite", "TERM:0"), **how).ready().create()
    pod.wait_out("daemon is there")
    pod.wait_out("main is there")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGKILL
    assert saved(start, place, **how) == {"daemon": "15", "main": "wrote on, and was told []"}
    assert not place.temporaries()


def test_a_stopped_main_command_gets_to_see_the_rewritten_signal(start, place):
    pod = stopping_pod(start, place, "--rewrite", "TERM:USR1")
    main = pod.main()
    os.kill(main, signal.SIGSTOP)
    until(lambda: status_field(main, "State")[0] == "T", "a stop")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 3
    assert saved(start, place) == {"main": "10", "daemon": "15"}


def test_without_a_vault_a_term_that_is_rewritten_to_nothing_is_nothing(start):
    family = Family(start(PYTHON, "-c", FAMILY, options=("--rewrite", "TERM:0,INT:0,PWR:0,37:0")))
    for number in sorted(STOPPING):
        assert family.hears_of(number) == []
    assert is_alive(family.pids["main"]) and not family.pod.has_ended()


# ---- beside tini ----


@pytest.fixture(params=["tini", "tazpod-init"])
def begin(request, start):
    """begin(OPTIONS, COMMAND...): a pod whose process 1 is one of the two, both started with the same words."""

    def make(options, *command, env=None, before=lambda: None, **how):
        assert TINI, "the Debian package tini is not installed"
        if request.param == "tini":
            environment = {"PATH": PATH, "HOME": "/", **(env or {})}

            def instead():
                before()
                os.execve(TINI, ["tini", *options, "--", *command], environment)

            return start(before_exec=instead, **how)
        return start(*command, options=options, env=env, before_exec=before, **how)

    make.is_tini = request.param == "tini"
    return make


@pytest.mark.parametrize("options", [["-e", "143"], ["-e143"], ["-ve", "143"], ["-gswe143"], ["-e", "1", "-e", "143"]],
                         ids=" ".join)
def test_an_exit_status_of_that_number_becomes_0(begin, options):
    pod = begin(options, "sh", "-c", "echo ready; exec sleep infinity")
    pod.wait_out("ready")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0


@pytest.mark.parametrize("options, script, status", [
    (["-e", "7"], "exit 7", 0),
    (["-e", "7"], "exit 8", 8),
    (["-e", "7", "-e", "8"], "exit 8", 0),
    (["-e", "0"], "exit 0", 0),
    (["-e", "0"], "exit 1", 1),
    (["-e", "255"], "exit 255", 0),
    (["-e", "137"], "kill -KILL $$", 0),
    (["-e", "9"], "kill -KILL $$", 137),
    ([], "exit 7", 7),
    ([], "kill -TERM $$", 143),
], ids=str)
def test_and_no_other_does(begin, options, script, status):
    assert begin(options, "sh", "-c", script).wait() == status


@pytest.mark.parametrize("options, command, status", [
    ([], "/no/such/file", 127), (["-e", "127"], "/no/such/file", 0), (["-e", "126"], "/no/such/file", 127),
    ([], "/etc/passwd", 126), (["-e", "126"], "/etc/passwd", 0),
], ids=str)
def test_a_command_that_can_not_be_executed_has_a_status_like_any(begin, options, command, status):
    assert begin(options, command).wait() == status


@pytest.mark.parametrize("options, env", [
    (["-g"], {}), (["-vg"], {}), (["-gvv"], {}), (["-g", "-g"], {}),
    ([], {"TINI_KILL_PROCESS_GROUP": "1"}), ([], {"TINI_KILL_PROCESS_GROUP": ""}),
    (["-s"], {"TINI_KILL_PROCESS_GROUP": "0"}),
], ids=str)
def test_signals_go_to_the_group(begin, options, env):
    family = Family(begin(options, PYTHON, "-c", FAMILY, env=env))
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGWINCH, 40):
        assert family.hears_of(number) == [("main", number), ("member", number)]


@pytest.mark.parametrize("options", [[], ["-v"], ["-s"]], ids=str)
def test_or_to_the_main_command_alone(begin, options):
    family = Family(begin(options, PYTHON, "-c", FAMILY))
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGWINCH, 40):
        assert family.hears_of(number) == [("main", number)]


@pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
@pytest.mark.parametrize("options, env", [(["-s"], {}), (["-gs"], {}), ([], {"TINI_SUBREAPER": "1"})], ids=str)
def test_where_it_is_not_process_1_orphans_come_to_it(begin, uid, options, env):
    pod = begin(options, "sh", "-c", "(sleep 1000 &); echo ready; exec sleep 2000", env=env, beside=True, uid=uid)
    pod.wait_out("ready")
    orphan = until(lambda: next((pid for pid in children(pod.pid) if arguments(pid) == [b"sleep", b"1000"]), None),
                   "an orphan")
    os.kill(orphan, signal.SIGKILL)
    until(lambda: len(children(pod.pid)) == 1, "the orphan collected")


def test_without_the_option_ours_collects_them_too_and_tini_does_not(begin):
    """The control of the one above, and the one difference."""
    pod = begin([], "sh", "-c", "(sleep 1000 &); echo ready; exec sleep 2000", beside=True)
    pod.wait_out("ready")
    assert len(children(pod.pid)) == (1 if begin.is_tini else 2)


def with_a_parent():
    """What the test takes for process 1 stays behind as the parent of what is executed now."""
    if os.fork():
        while True:
            signal.pause()


def orphaned(pod):
    """The init whose parent has just been killed."""
    init = children(pod.pid)[0]
    os.kill(pod.pid, signal.SIGKILL)
    until(lambda: not is_alive(pod.pid), "the end of its parent")
    return init


@pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
@pytest.mark.parametrize("options, heard", [
    (["-p", "SIGUSR1"], signal.SIGUSR1), (["-pSIGTERM"], signal.SIGTERM), (["-gp", "SIGHUP"], signal.SIGHUP),
], ids=str)
def test_a_parents_death_is_a_signal_that_is_passed_on(begin, uid, options, heard):
    pod = begin(options, *RECORDER, before=with_a_parent, beside=True, uid=uid)
    pod.wait_out("ready")
    init = orphaned(pod)
    until(lambda: recorded(pod), "the signal")
    assert recorded(pod) == [heard]
    os.kill(init, FENCE)
    until(lambda: FENCE in recorded(pod), "the next one")
    assert recorded(pod) == [heard, FENCE] and is_alive(init)


@pytest.mark.parametrize("uid", [0, OWNER], ids=["root", "owner"])
def test_a_parents_death_can_be_its_end(begin, uid):
    pod = begin(["-p", "SIGKILL"], *RECORDER, before=with_a_parent, beside=True, uid=uid)
    pod.wait_out("ready")
    end = os.pidfd_open(children(pod.pid)[0])
    orphaned(pod)
    assert select.select([end], [], [], DEADLINE_S)[0], "it lives on"
    os.close(end)
    assert recorded(pod) == [], "the main command was told nothing"


def test_without_the_option_a_parents_death_is_nothing(begin):
    pod = begin([], *RECORDER, before=with_a_parent, beside=True)
    pod.wait_out("ready")
    init = orphaned(pod)
    os.kill(init, FENCE)
    until(lambda: recorded(pod), "the next signal")
    assert recorded(pod) == [FENCE]


@pytest.mark.parametrize("options", [
    ["-e", "256"], ["-e", "-1"], ["-e", "x"], ["-p", "NOSIGNAL"], ["-x"], ["-gx"], ["-e"], ["--no-such"],
], ids=" ".join)
def test_what_neither_understands_starts_nothing(begin, options):
    """tini leaves with 1, ours with 64."""
    pod = begin(options, "sh", "-c", "echo started")
    assert pod.wait() == (1 if begin.is_tini else 64)
    assert pod.out() == "" or begin.is_tini and "started" not in pod.out()


@pytest.mark.parametrize("option", ["-h", "-l", "-gh", "-gl"])
def test_help_and_license_are_printed_and_nothing_is_started(begin, option):
    pod = begin([option], "sh", "-c", "echo started")
    assert pod.wait() == 0
    assert len(pod.out()) > 20 and "started" not in pod.out()
    assert ("usage" in pod.out().lower()) == ("h" in option)


# ---- what is ours alone ----


@pytest.mark.parametrize("given", [
    {"options": ("--remap-exit", "1,143")}, {"options": ("--remap-exit=143",)}, {"env": {"TAZPOD_REMAP_EXIT": "143"}},
    {"env": {"TAZPOD_REMAP_EXIT": "2"}, "options": ("-e", "143")},
], ids=str)
@pytest.mark.parametrize("with_vault", [False, True], ids=["no-vault", "open-vault"])
def test_exit_statuses_are_remapped_with_a_vault_and_without(start, make_place, given, with_vault):
    pod = start("sh", "-c", "echo ready; exec sleep infinity", place=make_place() if with_vault else None, **given)
    pod.wait_out("ready")
    if with_vault:
        pod.ready().create()
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0


def test_a_main_command_that_was_killed_by_the_stop_has_a_status_too(start, place):
    pod = start("sh", "-c", 'trap "" TERM; echo ready; while :; do sleep 0.05; done', place=place,
                options=("-e", "137", "--stop-timeout", "1s")).ready().create()
    pod.wait_out("ready")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0


def test_a_last_save_that_failed_is_74_whatever_is_remapped(start, place):
    pod = start("sleep", "infinity", place=place, options=("-e", "74", "-e", "143", "--stop-timeout", "3s")).ready().create()
    place.write("key", b"a secret")
    os.chown(place.vault.parent, 0, 0)
    place.vault.parent.chmod(0o755)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 74
    assert (place.secrets / "key").read_bytes() == b"a secret"


def test_a_main_commands_own_74_is_its_own(start, place):
    """The control of the one above."""
    pod = start("sh", "-c", "trap 'exit 74' TERM; echo ready; while :; do sleep 0.05; done", place=place,
                options=("-e", "74")).ready().create()
    pod.wait_out("ready")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 0


@pytest.mark.parametrize("given, wanted", [
    ({"options": ("--group", "yes")}, True), ({"env": {"TAZPOD_GROUP": "yes"}}, True),
    ({"options": ("--group=no", "-g")}, True), ({"env": {"TAZPOD_GROUP": "no"}}, False),
    ({"env": {"TAZPOD_GROUP": "no", "TINI_KILL_PROCESS_GROUP": "1"}}, False),
    ({"env": {"TAZPOD_GROUP": "yes"}, "options": ("--group", "no")}, False),
], ids=str)
def test_the_group_by_our_own_names(start, given, wanted):
    family = Family(start(PYTHON, "-c", FAMILY, **given))
    assert family.hears_of(signal.SIGHUP) == [("main", 1)] + ([("member", 1)] if wanted else [])


def test_the_group_gets_what_is_no_stop_where_a_vault_is_open(start, place):
    pod = start(PYTHON, "-c", FAMILY, place=place, options=("-g",)).ready().create()
    family = Family(pod)
    assert family.hears_of(signal.SIGHUP) == [("main", 1), ("member", 1)]
    assert pod.status()["state"] == "open"


@pytest.mark.parametrize("given", [{"options": ("--parent-death", "USR1")}, {"env": {"TAZPOD_PARENT_DEATH": "10"}}],
                         ids=str)
def test_a_parents_death_by_our_own_names(start, given):
    pod = start(*RECORDER, before_exec=with_a_parent, beside=True, **given)
    pod.wait_out("ready")
    orphaned(pod)
    until(lambda: recorded(pod), "the signal")
    assert recorded(pod) == [signal.SIGUSR1]


def test_a_parents_death_with_an_open_vault_is_a_stop(start, place):
    pod = start("sleep", "infinity", place=place, before_exec=with_a_parent, beside=True, options=("-p", "SIGTERM"))
    pod.ready().create()
    place.write("key", b"a secret")
    end = os.pidfd_open(children(pod.pid)[0])
    orphaned(pod)
    assert select.select([end], [], [], DEADLINE_S)[0], pod.log()
    os.close(end)
    assert place.left_in_ram() == []
    assert saved(start, place) == {"key": "a secret"}


# ---- what is logged ----



def story(start, **given):
    """What is logged of an orphan's end, a signal, and the main command's start and end."""
    pod = start(PYTHON, "-c", PARENT, **given)
    pod.wait_out("ready")
    main = pod.main()
    pod.signal(signal.SIGUSR1)
    until(lambda: recorded(pod) == [signal.SIGUSR1] and children(pod.pid) == [main], "the end of an orphan")
    pod.signal(signal.SIGUSR2)
    assert pod.wait() == 4
    inner = {"main": re.search(r"main pid=(\d+)", pod.log()), "orphan": re.search(r"reap pid=(\d+)", pod.log())}
    text = pod.log()
    for who, found in inner.items():
        if found:
            text = text.replace(f"pid={found.group(1)}", who)
    return text.replace("tazpod-init: ", "").splitlines()


MAIN = ["main main", "main-ended main status=4"]
REAP = ["reap orphan status=9"]


@pytest.mark.parametrize("given, wanted", [
    ({}, []),
    ({"options": ("-w",)}, REAP),
    ({"options": ("--warn", "yes")}, REAP),
    ({"env": {"TAZPOD_WARN": "yes"}}, REAP),
    ({"env": {"TAZPOD_WARN": "yes"}, "options": ("--warn=no",)}, []),
    ({"options": ("-v",)}, MAIN),
    ({"options": ("--verbose", "1")}, MAIN),
    ({"env": {"TAZPOD_VERBOSE": "1"}}, MAIN),
    ({"env": {"TINI_VERBOSITY": "1"}}, []),
    ({"env": {"TINI_VERBOSITY": "2"}}, MAIN),
    ({"env": {"TINI_VERBOSITY": "3", "TAZPOD_VERBOSE": "0"}}, []),
    ({"options": ("-vw",)}, [MAIN[0], *REAP, MAIN[1]]),
    ({"options": ("-vv",)}, [MAIN[0], "signal signal=10", *REAP, "signal signal=12", MAIN[1]]),
    ({"options": ("-v", "-gv")}, [MAIN[0], "signal signal=10", *REAP, "signal signal=12", MAIN[1]]),
    ({"env": {"TAZPOD_VERBOSE": "2"}}, [MAIN[0], "signal signal=10", *REAP, "signal signal=12", MAIN[1]]),
    ({"env": {"TINI_VERBOSITY": "3"}}, [MAIN[0], "signal signal=10", *REAP, "signal signal=12", MAIN[1]]),
], ids=str)
def test_it_logs_what_it_is_asked_to_and_nothing_else(start, given, wanted):
    assert story(start, **given) == wanted


def test_a_remapped_status_is_logged_as_it_was(start):
    pod = start("sh", "-c", "exit 7", options=("-ve7",))
    assert pod.wait() == 0
    assert "main-ended" in pod.log() and "status=7" in pod.log()


# ---- what is not understood ----

WRONG = {
    "rewrite": ["TERM", "TERM:", "TERM:INT,", "NOSIGNAL:INT", "TERM:65", "0:TERM"],
    "remap-exit": ["256", "-1", "1,", "x"],
    "group": ["1", "true"],
    "warn": ["maybe"],
    "subreaper": ["2"],
    "parent-death": ["0", "SIG", "65", "sigterm"],
    "verbose": ["10", "-1", "much"],
    "lock-wait": ["99ms", "3601", "x"],
}
CASES = [(name, value) for name, values in WRONG.items() for value in values]


@pytest.mark.parametrize("name, value", CASES, ids=str)
@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_wrong_value_is_64_named_and_nothing_is_started(start, place, name, value, way):
    variable = "TAZPOD_" + name.upper().replace("-", "_")
    given = {"options": ("--" + name, value)} if way == "option" else {"env": {variable: value}}
    pod = start("sh", "-c", "echo started", place=place, **given)
    assert pod.wait() == 64
    assert pod.out() == "" and not place.socket.exists()
    assert ("--" + name if way == "option" else variable) in pod.log()


RIGHT = {"rewrite": "TERM:INT", "remap-exit": "255", "group": "no", "warn": "no", "subreaper": "no",
         "parent-death": "TERM", "verbose": "0", "lock-wait": "100ms"}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("way", ["option", "variable"])
def test_a_right_one_is_not(start, place, name, way):
    """The control of the one above."""
    variable = "TAZPOD_" + name.upper().replace("-", "_")
    given = {"options": ("--" + name, RIGHT[name])} if way == "option" else {"env": {variable: RIGHT[name]}}
    pod = start("sh", "-c", "echo started", place=place, **given)
    assert pod.wait() == 0
    assert pod.out() == "started\n"


def test_help_names_each_option_of_its_own(start):
    for word in ("-h", "--help"):
        text = subprocess.run([programs() / "tazpod-init", word], capture_output=True, text=True, check=True,
                              timeout=DEADLINE_S).stdout
        for name in WRONG:
            assert f"--{name} " in text and "TAZPOD_" + name.upper().replace("-", "_") in text


@pytest.mark.parametrize("options", [(), ("--rewrite", "TERM:USR1")], ids=["control", "rewritten"])
def test_without_proc_all_others_get_term_too(start, place, options):
    """kill(-1) needs no /proc; the walk that spares the main command does."""
    script = '/usr/bin/python3 -c "$1" "$2" daemon own; exec /usr/bin/python3 -c "$1" "$2" main -'
    pod = start("sh", "-c", script, "sh", TELLER, str(place.secrets), place=place, uid=0,
                options=("--stop-timeout", "3s", "--program", str(programs() / "tazpod"), *options),
                before_exec=lambda: mount("tmpfs", "/proc", "tmpfs"))
    pod.ready()
    pod.ok("unlock", "--create", *CHEAP, passphrase=PASSPHRASE, inside=False)
    pod.wait_out("daemon is there")
    pod.wait_out("main is there")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 3
    assert saved(start, place, uid=0) == {"main": "10" if options else "15", "daemon": "15"}
