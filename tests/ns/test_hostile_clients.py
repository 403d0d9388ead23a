"""Whatever a client does, process 1 answers the others: `tazpod status` within a second, always."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time

import pytest

from nsinit import CREATE, LOCK, SAVE, STATUS, UNLOCK, Client, children, cpu_seconds, request, until, wakeups

ANSWER_S = 1.0


@pytest.fixture
def pod(start, place):
    return start("sleep", "infinity", place=place).ready()


def answers(pod):
    """The program itself, as a user would: started, connected, answered, in a second."""
    began = time.monotonic()
    status = pod.status()
    took = time.monotonic() - began
    assert took < ANSWER_S, f"status took {took:.2f} s"
    return status


def connections_of(pod):
    """Sockets that process 1 holds."""
    found = 0
    for name in os.listdir(f"/proc/{pod.pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/{pod.pid}/fd/{name}").startswith("socket:")
    return found


WRONG = {
    "nothing": b"",
    "one-byte": b"x",
    "one-byte-short": request(STATUS)[:-1],
    "one-byte-long": request(STATUS) + b"\0",
    "two-requests-in-one": request(STATUS) * 2,
    "huge": request(STATUS) + bytes(100_000),
    "wrong-magic": request(STATUS, magic=0x31505A55),
    "magic-the-other-way-round": request(STATUS, magic=0x545A5031),
    "version-0": request(STATUS, version=0),
    "version-2": request(STATUS, version=2),
    "type-0": request(0),
    "type-6": request(6),
    "type-65535": request(65535),
    "flags": request(STATUS, flags=1),
    "reserved-first": request(STATUS, rest=b"\1" + bytes(11)),
    "reserved-last": request(STATUS, rest=bytes(11) + b"\1"),
    "all-ones": b"\xff" * 32,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_malformed_message_ends_the_connection_and_nothing_else(pod, place, name):
    with Client(place.socket) as client:
        client.send(WRONG[name])
        assert client.receive() is None
    assert answers(pod)["state"] == "locked"


def test_a_wrong_message_after_a_right_one_ends_the_connection_too(pod, place):
    with Client(place.socket) as client:
        assert client.ask(STATUS)["state"] == "locked"
        client.send(WRONG["wrong-magic"])
        assert client.receive() is None
    answers(pod)


# A type, and how many descriptors come with it where it carries another number.
EXTRA = [(STATUS, 1), (STATUS, 2), (STATUS, 253), (SAVE, 1), (LOCK, 1), (UNLOCK, 0), (UNLOCK, 2), (UNLOCK, 253),
         (CREATE, 0), (CREATE, 2)]


@pytest.mark.parametrize("kind,count", EXTRA)
def test_descriptors_that_do_not_belong_end_the_connection_and_are_closed(pod, place, kind, count):
    reader, writer = os.pipe()
    before = len(os.listdir(f"/proc/{pod.pid}/fd"))
    with Client(place.socket) as client:
        client.send(request(kind), [writer] * count)
        assert client.receive() is None
    os.close(writer)
    os.set_blocking(reader, False)
    # The end of the pipe is seen when nobody holds its other side any more.
    until(lambda: _at_end(reader), "the end of a pipe that process 1 must not keep", 3)
    os.close(reader)
    until(lambda: len(os.listdir(f"/proc/{pod.pid}/fd")) == before, "no descriptor more than before", 3)
    assert answers(pod)["state"] == "locked"


def _at_end(reader):
    try:
        return os.read(reader, 1) == b""
    except BlockingIOError:
        return False


def test_a_hundred_silent_connections_do_not_keep_anybody_out(pod, place):
    silent = []
    for _ in range(100):
        silent.append(Client(place.socket))
        if len(silent) % 10 == 0:
            answers(pod)
    assert connections_of(pod) < 40, "the number of connections has a bound"
    answers(pod)
    for client in silent:
        client.close()
    answers(pod)


def test_connections_beyond_the_descriptors_there_are_do_not_make_it_spin(start, place):
    """Who waits in the queue keeps the socket readable; asking again and again would be all it does."""
    limits = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    pod = start("sleep", "infinity", place=place, before_exec=limits).ready()
    silent = [Client(place.socket) for _ in range(20)]
    before = cpu_seconds(pod.pid)
    time.sleep(1)  # the measurement itself
    used = cpu_seconds(pod.pid) - before
    for client in silent:
        client.close()
    assert used < 0.2, f"{used} s of a second"
    answers(pod)


def test_a_silent_connection_is_closed_in_the_end_and_process_1_sleeps_again(pod, place):
    with Client(place.socket) as client:
        began = time.monotonic()
        assert client.receive() is None
        assert 2 < time.monotonic() - began < 10
    assert wakeups(pod.pid, 1) == 0


def test_a_client_that_asks_now_and_then_is_not_closed(pod, place):
    with Client(place.socket) as client:
        end = time.monotonic() + 8
        while time.monotonic() < end:
            assert client.ask(STATUS)["state"] == "locked"
            time.sleep(0.5)


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR], ids=["read", "write", "both"])
def test_a_half_closed_connection_harms_nobody(pod, place, how):
    clients = [Client(place.socket) for _ in range(20)]
    for client in clients:
        with contextlib.suppress(OSError):
            client.send(request(STATUS))
        with contextlib.suppress(OSError):
            client.socket.shutdown(how)
        answers(pod)
    for client in clients:
        client.close()
    answers(pod)


def test_a_client_that_asks_and_never_reads_is_dropped(pod, place):
    with Client(place.socket, seconds=2) as client:
        with pytest.raises((BrokenPipeError, ConnectionError, TimeoutError)):
            for _ in range(100_000):
                client.send(request(STATUS))
        answers(pod)
    answers(pod)


def test_a_client_that_goes_before_its_answer_harms_nobody(pod, place):
    for _ in range(200):
        client = Client(place.socket)
        client.send(request(STATUS))
        client.close()
    answers(pod)


def test_a_flood_of_requests_from_several_sides_leaves_room_for_others(pod, place):
    script = (
        "import socket, sys\n"
        "while True:\n"
        "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "    try:\n"
        "        s.connect(sys.argv[1])\n"
        "        for _ in range(1000):\n"
        "            s.send(bytes.fromhex(sys.argv[2])); s.recv(2000)\n"
        "    except OSError: pass\n"
        "    s.close()\n"
    )
    flood = [subprocess.Popen(["/usr/bin/python3", "-c", script, str(place.socket), request(STATUS).hex()]) for _ in range(3)]
    try:
        for _ in range(20):
            answers(pod)
    finally:
        for process in flood:
            process.kill()
            process.wait()
    answers(pod)


def test_a_flood_of_connections_that_say_nothing_leaves_room_for_others(pod, place):
    """More arrive than there is room for, without a pause: he who has asked is answered first."""
    script = (
        "import socket, sys\n"
        "held = []\n"
        "while True:\n"
        "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "    try: s.connect(sys.argv[1])\n"
        "    except OSError: pass\n"
        "    held = [*held[-50:], s]\n"
    )
    flood = [subprocess.Popen(["/usr/bin/python3", "-c", script, str(place.socket)]) for _ in range(3)]
    try:
        for _ in range(20):
            answers(pod)
    finally:
        for process in flood:
            process.kill()
            process.wait()
    answers(pod)


def test_a_refused_request_does_not_keep_its_passphrase(pod, place):
    """In each state, after a success and after a failure, many times: no descriptor stays behind."""
    pod.create()

    def refused_often(word):
        for _ in range(20):
            reader, writer = os.pipe()
            os.write(writer, b"something")
            os.close(writer)
            with Client(place.socket) as client:
                assert client.ask(CREATE, [reader], ops=1, memory=8192)["word"] == word
            os.close(reader)

    held = len(os.listdir(f"/proc/{pod.pid}/fd"))
    refused_often("exists")
    pod.ok("lock")
    refused_often("exists")
    assert pod.tazpod("unlock", passphrase=b"wrong").returncode == 77
    refused_often("exists")
    reader, writer = os.pipe()
    with Client(place.socket) as client:
        client.send(request(UNLOCK), [reader])
        until(lambda: answers(pod)["state"] == "opening", "an unlock under way")
        refused_often("busy")
        os.close(reader)
        os.write(writer, b"wrong as well")
        os.close(writer)
        assert client.receive()["word"] == "wrong-passphrase"
    pod.unlock()
    refused_often("exists")
    until(lambda: len(os.listdir(f"/proc/{pod.pid}/fd")) <= held, "no descriptor more than before", 10)


def test_a_passphrase_that_never_comes_does_not_hold_the_loop(pod, place):
    reader, writer = os.pipe()
    with Client(place.socket) as client:
        client.send(request(CREATE, ops=1, memory=8192), [reader])
        until(lambda: answers(pod)["state"] == "opening", "an attempt under way")
        done = pod.tazpod("unlock", passphrase=b"another")
        assert done.returncode == 75, "busy"
        answers(pod)
    # Its client has gone, the passphrase with it: the attempt fails, and the next may come.
    os.close(reader)
    os.close(writer)
    until(lambda: answers(pod)["state"] == "locked", "an end of the attempt")
    pod.create()
    assert answers(pod)["state"] == "open"


@pytest.mark.parametrize("what", ["endless", "nul", "1025-bytes"])
def test_a_hostile_passphrase_is_refused(pod, place, what):
    reader, writer = os.pipe()
    data = {"endless": b"a" * 60_000, "nul": b"before\0after", "1025-bytes": b"a" * 1025}[what]
    os.write(writer, data)
    if what != "endless":
        os.close(writer)  # the endless one is a pipe that never ends, and holds more than is taken
    with Client(place.socket) as client:
        reply = client.ask(CREATE, [reader], ops=1, memory=8192)
    if what == "endless":
        os.close(writer)
    os.close(reader)
    assert reply["code"] != 0 and reply["word"], reply
    assert not place.vault.exists()
    assert answers(pod)["state"] == "locked"


@pytest.mark.parametrize("what", ["folder", "dev-zero", "socket", "write-only"])
def test_a_passphrase_descriptor_of_the_wrong_kind_is_refused(pod, place, what):
    if what == "socket":
        ours, theirs = socket.socketpair()
        fd = os.dup(theirs.fileno())
        theirs.close()
    else:
        path, flags = {"folder": ("/", os.O_RDONLY), "dev-zero": ("/dev/zero", os.O_RDONLY),
                       "write-only": ("/dev/null", os.O_WRONLY)}[what]
        fd = os.open(path, flags)
    with Client(place.socket) as client:
        client.send(request(CREATE, ops=1, memory=8192), [fd])
        os.close(fd)
        if what == "socket":
            answers(pod)
            ours.close()
        reply = client.receive()
    assert reply is None or reply["code"] != 0, reply
    assert not place.vault.exists()
    assert answers(pod)["state"] == "locked"


@pytest.mark.parametrize("ops,memory", [(17, 8192), (1, 8191), (1, (1 << 20) + 1), (0xFFFFFFFF, 0xFFFFFFFF), (16, 1 << 20)])
def test_a_cost_outside_the_bounds_is_refused_before_any_work(pod, place, ops, memory):
    reader, writer = os.pipe()
    os.write(writer, b"passphrase")
    os.close(writer)
    with Client(place.socket) as client:
        began = time.monotonic()
        reply = client.ask(CREATE, [reader], ops=ops, memory=memory)
        assert time.monotonic() - began < ANSWER_S
    os.close(reader)
    assert reply is None or reply["code"] != 0, reply
    assert not place.vault.exists()
    answers(pod)


def test_another_user_is_disconnected_without_an_answer(pod, place):
    # The modes keep him out already; here they do not, so that SO_PEERCRED has to.
    place.run.chmod(0o711)
    place.socket.chmod(0o666)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(1001, 1001, 1001)
            os.setresuid(1001, 1001, 1001)
            with Client(place.socket) as client:
                os.write(writer, repr(client.ask(STATUS)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reader, 4096) == b"None"
    os.close(reader)
    place.run.chmod(0o700)
    answers(pod)


def test_root_and_the_owner_are_answered(pod):
    assert pod.status(uid=0)["state"] == pod.status(uid=1000)["state"] == "locked"


def test_nothing_is_left_of_all_this(pod, place):
    """After every kind of guest, the same descriptors and no child more than before."""
    held, family = len(os.listdir(f"/proc/{pod.pid}/fd")), children(pod.pid)
    for data in WRONG.values():
        with Client(place.socket) as client:
            client.send(data)
            client.receive()
    clients = [Client(place.socket) for _ in range(30)]
    for client in clients:
        client.close()
    answers(pod)
    until(lambda: len(os.listdir(f"/proc/{pod.pid}/fd")) == held, "the descriptors of before", 10)
    assert children(pod.pid) == family
    pod.signal(signal.SIGTERM)
    assert pod.wait() == 128 + signal.SIGTERM


def test_a_client_that_never_stops_asking_keeps_nobody_out(pod):
    noise = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
s.connect(sys.argv[1])
ask = bytes.fromhex(sys.argv[2])
asking = os.fork()
while True:
    s.send(ask) if asking else s.recv(4096)
"""
    words = ["/usr/bin/python3", "-c", noise, str(pod.place.socket), request(STATUS).hex()]
    with subprocess.Popen(words, start_new_session=True) as noisy:
        try:
            until(lambda: children(noisy.pid), "the noise")
            for _ in range(20):
                answers(pod)
            pod.create()
            pod.ok("lock")
        finally:
            os.killpg(noisy.pid, signal.SIGKILL)
