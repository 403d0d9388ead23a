"""Process 1 faults: it comes back in place, and nothing is lost.

The fault is a real one, in the real program: the machine code at which process 1 will go on is
overwritten with what faults, and something wakes it.
"""

import contextlib
import ctypes
import errno
import os
import pathlib
import platform
import signal
import struct
import subprocess

import pytest

from nsinit import (BUILD, CHEAP, DEADLINE_S, OWNER, PASSPHRASE, UNLOCK, Client, children, is_alive, libc, mount, programs, request, status_field, tree,
                    until)

# What to run in place of the next instruction. x86-64; the last raises a signal of its own.
CODE = {
    "SEGV": "31c08900",                                  # a store to address 0
    "ILL": "0f0b",
    "FPE": "31c9f7f1",                                   # a division by 0
    # A map of the descriptor %02x, which is shorter, and a load from behind its end.
    "BUS": "b809000000" "31ff" "be00001000" "ba01000000" "41ba01000000" "41b8%02x000000" "4531c9" "0f05" "8b8000000800",
    "ABRT": "b8270000000f05" "89c7" "be06000000" "b83e000000" "0f05" "ebfe",  # kill(getpid(), SIGABRT)
    "stack": "48c7c400100000" "50",                      # a push where there is no stack
}
NUMBERS = {"SEGV": 11, "ILL": 4, "FPE": 8, "BUS": 7, "ABRT": 6, "stack": 11}


def counter(pid):
    """The next instruction of a process that sleeps in a system call."""
    fields = until(lambda: (words := pathlib.Path(f"/proc/{pid}/syscall").read_text().split())[0] != "running" and words,
                   "process 1 sleeps")
    return int(fields[-1], 16)


def faults(pod):
    return pod.log().count("tazpod-init: fault ")


def fault(pod, kind="SEGV", comes_back=True):
    """Makes process 1 fault now."""
    assert platform.machine() == "x86_64", "the machine code above is x86-64's"
    before = faults(pod)
    code = CODE[kind]
    if "%" in code:
        links = {int(name): os.readlink(f"/proc/{pod.pid}/fd/{name}") for name in os.listdir(f"/proc/{pod.pid}/fd")}
        code %= next(fd for fd, link in links.items() if "tazpod-state" in link)
    at = counter(pod.pid)
    with open(f"/proc/{pod.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(at)
        memory.write(bytes.fromhex(code))
    pod.signal(signal.SIGWINCH)
    if comes_back:
        until(lambda: faults(pod) == before + 1 or pod.has_ended(), f"process 1 is back; log:\n{pod.log()}")
        assert not pod.has_ended(), f"it ended with {pod.wait()}:\n{pod.log()}"


HOW = pytest.mark.parametrize("how", [{"uid": 0}, {"uid": OWNER}, {"uid": OWNER, "may_mount": True}],
                              ids=["root", "owner", "own-mount"])


@HOW
@pytest.mark.parametrize("kind", CODE)
def test_it_comes_back_as_the_same_process_with_its_child_and_the_open_vault(start, place, how, kind):
    pod = start("sleep", "infinity", place=place, **how).ready().create()
    pod.write("key", b"a secret")
    main, began = pod.main(), status_field(pod.pid, "NSpid")
    fault(pod, kind)
    assert f"fault signal={NUMBERS[kind]} faults=1 state=open" in pod.log(), pod.log()
    assert status_field(pod.pid, "NSpid") == began
    assert pathlib.Path(f"/proc/{pod.pid}/comm").read_text() == "tazpod-init\n"
    assert is_alive(main) and pod.main() == main
    assert pod.status()["state"] == "open"
    pod.write("more", b"another")
    content = tree(pod.secrets)
    pod.ok("save")
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM
    again = start("sleep", "infinity", place=place, **how).ready().unlock()
    assert tree(again.secrets) == content


# ---- in each state of the vault ----


def ends_well(start, pod, place, how, content, code=128 + signal.SIGTERM):
    """A stop after all that, and what a new pod finds."""
    pod.signal(signal.SIGTERM)
    assert pod.wait() == code, pod.log()
    assert not place.temporaries()
    again = start("sleep", "infinity", place=place, **how).ready().unlock()
    assert tree(again.secrets) == content


def large(pod, mebibytes=24):
    """A save of this takes long enough to be caught."""
    for number in range(mebibytes // 3):
        pod.write(f"large-{number}", os.urandom(3 << 20))
    return tree(pod.secrets)


@contextlib.contextmanager
def under_way(pod, verb, *workers):
    """A command, each of whose workers has been stopped."""
    words, keywords = pod.command(verb)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keywords) as client:
        caught = [pod.stop_worker(kind) for kind in workers]
        yield client, caught
        for pid in caught:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        client.communicate(timeout=DEADLINE_S)


@HOW
def test_locked(start, place, how):
    pod = start("sleep", "infinity", place=place, **how).ready().create()
    pod.write("key", b"a secret")
    content = tree(pod.secrets)
    pod.ok("lock")
    fault(pod)
    assert pod.status()["state"] == "locked"
    assert place.left_in_ram() == []
    pod.unlock()
    ends_well(start, pod, place, how, content)


@HOW
def test_while_it_is_opened_it_stays_locked_and_can_be_opened_again(start, place, how):
    pod = start("sleep", "infinity", place=place, **how).ready().create()
    pod.write("key", b"a secret")
    content = tree(pod.secrets)
    pod.ok("lock")
    reader, writer = os.pipe()
    with Client(place.socket) as client:
        client.send(request(UNLOCK), [reader])
        os.close(reader)
        workers = until(lambda: {"open", "unpack"} <= set(found := pod.workers()) and found, "an unlock under way")
        fault(pod)
        assert client.receive() is None, "its connection has ended"
        until(lambda: not any(map(is_alive, workers.values())), "its workers are gone")
    os.close(writer)
    assert pod.status()["state"] == "locked"
    assert place.left_in_ram() == []
    pod.unlock()
    ends_well(start, pod, place, how, content)


@HOW
@pytest.mark.parametrize("worker", ["pack", "seal"])
def test_while_it_is_saved_the_save_is_done_again(start, make_place, how, worker):
    place = make_place(size="128m")
    pod = start("sleep", "infinity", place=place, **how).ready().create()
    content = large(pod)
    before = place.vault.read_bytes()
    with under_way(pod, "save", worker) as (client, (stopped,)):
        fault(pod)
        until(lambda: not is_alive(stopped), "the worker of before is gone")
    assert client.returncode != 0, "it was told nothing"
    until(lambda: pod.status()["state"] == "open", "the end of the second try")
    assert place.vault.read_bytes() != before
    assert "problem" not in pod.status()
    assert tree(pod.secrets) == content
    ends_well(start, pod, place, how, content)


@HOW
def test_while_it_is_made_it_is_made_all_the_same(start, place, how):
    pod = start("sleep", "infinity", place=place, **how).ready()
    words, keywords = pod.command("unlock", "--create", *CHEAP, "--passphrase-fd", "0")
    sealer = None
    while not sealer:  # it lives for a millisecond: another vault, until one is caught
        with contextlib.suppress(FileNotFoundError):
            place.vault.unlink()
        with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, **keywords) as client:
            client.stdin.write(PASSPHRASE)
            client.stdin.close()
            while client.poll() is None and not sealer:
                sealer = pod.workers().get("seal")
                with contextlib.suppress(ProcessLookupError, TypeError):
                    os.kill(sealer, signal.SIGSTOP)
            if pod.status()["state"] == "open":
                pod.ok("lock")
                sealer = None
            if sealer:
                fault(pod)
                until(lambda: not is_alive(sealer), "the sealer of before is gone")
                client.wait(DEADLINE_S)
    until(lambda: pod.status()["state"] == "open", "an open vault")
    pod.write("key", b"a secret")
    ends_well(start, pod, place, how, tree(pod.secrets))


@HOW
def test_while_it_is_locked_the_lock_goes_on(start, make_place, how):
    place = make_place(size="128m")
    pod = start("sleep", "infinity", place=place, **how).ready().create()
    content = large(pod)
    with under_way(pod, "lock", "seal"):
        assert not pod.secrets.exists(), "it has left its place"
        fault(pod)
    until(lambda: pod.status()["state"] == "locked", "the end of the lock")
    assert place.left_in_ram() == []
    pod.unlock()
    ends_well(start, pod, place, how, content)


@HOW
def test_in_the_first_save_of_a_stop(start, make_place, how):
    place = make_place(size="128m")
    pod = start("sleep", "infinity", place=place, **how).ready().create()
    content = large(pod)
    pod.signal(signal.SIGTERM)
    stopped = pod.stop_worker("seal")
    assert is_alive(pod.main()), "nobody is told before it is saved"
    fault(pod)
    assert pod.wait() == 128 + signal.SIGTERM, pod.log()
    assert not is_alive(stopped)
    again = start("sleep", "infinity", place=place, **how).ready().unlock()
    assert tree(again.secrets) == content


@HOW
def test_while_a_stop_waits(start, place, how):
    """The main command writes its last words after the fault, and they are saved too."""
    script = f"trap 'echo told; read x < {place.work}/go; echo last > {place.secrets}/last; exit 3' TERM; echo ready; " \
             "while :; do sleep 0.01; done"
    os.mkfifo(place.work / "go")
    os.chown(place.work / "go", OWNER, OWNER)
    pod = start("sh", "-c", script, place=place, options=("--stop-timeout", "20s"), **{**how, "uid": OWNER}).ready().create()
    pod.wait_out("ready")
    pod.write("key", b"a secret")
    pod.signal(signal.SIGTERM)
    pod.wait_out("told")
    fault(pod)
    (place.work / "go").write_text("\n")
    assert pod.wait() == 3, pod.log()
    again = start("sleep", "infinity", place=place, **how).ready().unlock()
    assert (again.secrets / "last").read_text() == "last\n" and (again.secrets / "key").read_text() == "a secret"


@HOW
def test_in_the_last_save_of_a_stop(start, make_place, how):
    place = make_place(size="128m")
    pod = start("sh", "-c", f"trap 'head -c 20000000 /dev/urandom > {place.secrets}/last; exit 3' TERM; echo ready; "
                "while :; do sleep 0.01; done", place=place, **{**how, "uid": OWNER}).ready().create()
    pod.wait_out("ready")
    pod.signal(signal.SIGTERM)
    main = pod.main()
    until(lambda: not is_alive(main), "the end of the main command")
    stopped = pod.stop_worker("seal")
    content = tree(pod.secrets)
    fault(pod)
    assert pod.wait() == 3, pod.log()
    assert not is_alive(stopped)
    again = start("sleep", "infinity", place=place, **how).ready().unlock()
    assert tree(again.secrets) == content


# ---- the key ----


def without_memfd_secret():
    """The call is answered as by a kernel that has none, before 5.14 or with it switched off."""
    load, equal, answer = 0x20, 0x15, 0x06  # BPF: LD|W|ABS, JMP|JEQ|K, RET|K
    program = struct.pack("=HBBIHBBIHBBIHBBI", load, 0, 0, 0, equal, 0, 1, 447, answer, 0, 0, 0x00050000 | errno.ENOSYS,
                          answer, 0, 0, 0x7FFF0000)
    code = ctypes.create_string_buffer(program, len(program))
    libc("prctl", 22, 2, struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code)), 0, 0)


def kernel_has_memfd_secret():
    try:
        os.close(libc("syscall", 447, 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize("kernel", ["as it is", "without memfd_secret"])
def test_it_is_held_by_one_descriptor_and_maps_again(start, place, kernel):
    how = {} if kernel == "as it is" else {"before_exec": without_memfd_secret}
    pod = start("sleep", "infinity", place=place, uid=0, **how).ready().create()
    pages = [line for line in pathlib.Path(f"/proc/{pod.pid}/maps").read_text().splitlines()
             if "secretmem" in line or "memfd:key" in line]
    assert len(pages) == 1 and ("secretmem" in pages[0]) == (kernel == "as it is" and kernel_has_memfd_secret()), pages
    pod.write("key", b"a secret")
    fault(pod)
    assert "faults=1 state=open" in pod.log()
    again = [line for line in pathlib.Path(f"/proc/{pod.pid}/maps").read_text().splitlines()
             if "secretmem" in line or "memfd:key" in line]
    assert [line.split()[4] for line in again] == [line.split()[4] for line in pages], "the same page"
    pod.ok("save")
    pod.ok("lock")
    assert not any("secretmem" in line or "memfd:key" in line
                   for line in pathlib.Path(f"/proc/{pod.pid}/maps").read_text().splitlines())
    pod.unlock()
    assert (pod.secrets / "key").read_bytes() == b"a secret"


# ---- how often ----


def test_the_third_in_a_minute_saves_and_ends_the_pod(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    pod.write("key", b"a secret")
    fault(pod)
    fault(pod, "FPE")
    pod.write("more", b"another")
    content = tree(pod.secrets)
    fault(pod, "stack", comes_back=False)
    assert pod.wait() == 70, pod.log()
    assert "faults=3" in pod.log()
    assert place.left_in_ram() == []
    again = start("sleep", "infinity", place=place).ready().unlock()
    assert tree(again.secrets) == content


def test_the_third_in_a_minute_with_a_save_that_fails_is_74_and_the_ram_is_kept(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    pod.write("key", b"a secret")
    fault(pod)
    fault(pod)
    place.vault.parent.chmod(0o500)
    fault(pod, comes_back=False)
    assert pod.wait() == 74, pod.log()
    assert (place.secrets / "key").read_bytes() == b"a secret"
    place.vault.parent.chmod(0o700)


def test_without_a_vault_the_main_command_lives_on_and_its_status_counts(start):
    pod = start("sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done").ready()
    pod.wait_out("ready")
    main = pod.main()
    fault(pod)
    fault(pod, "ILL")
    assert is_alive(main)
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 7


def test_what_ends_during_the_fault_is_reaped(start):
    pod = start("sh", "-c", "sleep 0.1 & exec sleep infinity").ready()
    orphan = until(lambda: [pid for pid in children(pod.main())], "an orphan to be")[0]
    fault(pod)
    until(lambda: not is_alive(orphan), "its end")
    os.kill(pod.main(), signal.SIGKILL)
    assert pod.wait() == 128 + signal.SIGKILL


def test_where_it_can_not_be_executed_again_the_pod_ends_with_70(start, place):
    """Without /proc it has no descriptor of its own program."""
    pod = start("sleep", "infinity", place=place, uid=0, options=("--program", str(programs() / "tazpod")),
                before_exec=lambda: mount("tmpfs", "/proc", "tmpfs")).ready()
    pod.ok("unlock", "--create", *CHEAP, passphrase=PASSPHRASE, inside=False)
    place.write("key", b"a secret")
    fault(pod, comes_back=False)
    assert pod.wait() == 70
    assert (place.secrets / "key").read_bytes() == b"a secret", "RAM that outlives it is left alone"


# ---- what is no fault ----


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE],
                         ids=lambda number: number.name)
@pytest.mark.parametrize("sender", ["engine", "inside"])
def test_such_a_signal_from_somebody_is_the_main_commands(start, place, number, sender):
    pod = start("sh", "-c", f"trap 'echo got it' {number.name[3:]}; echo ready; while :; do sleep 0.01; done",
                place=place).ready().create()
    pod.wait_out("ready")
    before = counter(pod.pid)
    if sender == "engine":
        pod.signal(number)
    else:
        subprocess.run(["nsenter", "--target", str(pod.pid), "--mount", "--pid", "kill", f"-{number.name[3:]}", "1"],
                       check=True)
    pod.wait_out("got it")
    assert faults(pod) == 0 and counter(pod.pid) == before
    assert pod.status()["state"] == "open"


def test_a_variable_that_says_so_is_not_believed(start, place):
    """Anybody may set it on the run command."""
    pod = start("sh", "-c", "echo $TAZPOD_INIT_RECORD-; exec sleep infinity", place=place,
                env={"TAZPOD_INIT_RECORD": "0:11"}).ready()
    pod.wait_out("-")
    assert faults(pod) == 0
    pod.create()


def test_the_record_holds_no_key_and_no_passphrase(start, place):
    pod = start("sleep", "infinity", place=place).ready().create()
    fds = {os.readlink(f"/proc/{pod.pid}/fd/{name}"): name for name in os.listdir(f"/proc/{pod.pid}/fd")}
    name = next(name for link, name in fds.items() if "tazpod-state" in link)
    record = pathlib.Path(f"/proc/{pod.pid}/fd/{name}").read_bytes()
    assert str(place.vault).encode() in record, "this is it"
    assert PASSPHRASE not in record
    assert status_field(pod.main(), "NSpid")
    assert not any("tazpod-state" in os.readlink(f"/proc/{pod.main()}/fd/{fd}") for fd in os.listdir(f"/proc/{pod.main()}/fd"))


# ---- in the middle of a turn ----


def address(name):
    """Of a function in process 1."""
    told = subprocess.run(["nm", str(BUILD / "tazpod-init")], capture_output=True, text=True, check=True).stdout
    return next(int(line.split()[0], 16) for line in told.splitlines() if line.split()[1:] == ["T", name])


@pytest.mark.parametrize("vault", ["none", "locked", "open"])
def test_a_main_command_whose_end_was_collected_by_the_turn_that_faulted_has_ended(start, place, vault):
    pod = start("sleep", "infinity", place=None if vault == "none" else place).ready()
    if vault == "open":
        pod.create()
        pod.write("key", b"a secret")
    main, at = pod.main(), address("pod_on_child")
    with open(f"/proc/{pod.pid}/mem", "r+b", buffering=0) as memory:
        memory.seek(at)
        memory.write(bytes.fromhex(CODE["SEGV"]))
    os.kill(main, signal.SIGKILL)
    assert pod.wait() == 70, pod.log()
    assert "tazpod-init: fault " in pod.log()
    if vault == "open":
        assert (start("sleep", "infinity", place=place).ready().unlock().secrets / "key").read_bytes() == b"a secret"
