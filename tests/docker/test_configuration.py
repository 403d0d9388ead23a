"""Settings, as a pod takes them: a broken file costs an unlock and nothing else, and of several sources
the strongest counts."""

import json
import os
import struct

import pytest

from pods import PASSPHRASE, SECRETS, UID

PROJECT = "/workspace/.tazpod/config.ini"
SYSTEM = "/etc/tazpod.ini"
# Where AppArmor is in force the engine's profile denies mounts; elsewhere this says nothing.
MAY_MOUNT = ("--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined")

# Ends when it is told to, with a status of its own.
MAIN = ("sh", "-c", 'trap "exit 7" TERM; echo running; while :; do sleep 1 & wait $!; done')
# Is killed after five eighths of the total of a stop.
STUBBORN = ("sh", "-c", 'trap "" TERM; echo running; while :; do sleep 1; done')
DEFAULT_KILL_MS = 5000

BROKEN = {  # text: what the message says of it, beside the file
    "[ram]\nsize = lots\n": ("line 2", "ram.size", '"lots"', "1M to 64G"),
    "[ram]\nsize = 64M\n\n[kdf]\ntime = 17\n": ("line 5", "kdf.time", '"17"', "1 to 16"),
    "; ours\n[ram]\nbackend = mine\n": ("line 3", "ram.backend", '"mine"', "auto|own|given"),
    "[log]\nformat = xml\n": ("line 2", "log.format", '"xml"', "text|json"),
    "[stop]\ntimeout = 1h\n": ("line 2", "stop.timeout", '"1h"', "100ms to 3600s"),
    "[ram]\ncolour = red\n": ("line 2", '"colour"', "[ram]", "there are: backend size"),
    "[ram]\nsize = 64M\nsize = 64M\n": ("line 3", "ram.size is in line 2"),
    "size = 64M\n": ("line 1", '"size"', "there are: [ram] [kdf]"),
    "[ram\nsize = 64M\n": ("line 1", "neither [section] nor key = value"),
}


@pytest.fixture
def project(workspace):
    """Where config.ini goes, with its directory, the owner's."""
    folder = workspace / ".tazpod"
    folder.mkdir(mode=0o700)
    os.chown(folder, UID, UID)
    return folder / "config.ini"


@pytest.fixture
def system(tmp_path):
    """A file that a pod with the option from mounted() has as the system's; it is changed in place."""
    file = tmp_path / "tazpod.ini"
    file.write_text("")
    file.chmod(0o644)
    return file


def mounted(file):
    return ("-v", f"{file}:{SYSTEM}:ro")


def assert_refused(result, *words):
    assert result.code == 78, result
    assert result.err.startswith("tazpod: ") and result.err.rstrip().endswith("[config]"), result
    for word in words:
        assert word in result.err, result


# --- broken files ---


@pytest.mark.parametrize("which", ["project", "system"])
def test_a_broken_file_costs_an_unlock_until_it_is_mended_and_nothing_else(new_pod, workspace, project, system, which):
    file, path = (project, PROJECT) if which == "project" else (system, SYSTEM)
    pod = new_pod(workspace, command=MAIN, options=mounted(system))
    pod.wait_for_log("running")
    began = pod.inspect("{{.State.StartedAt}}")
    for text, words in BROKEN.items():
        file.write_text(text)
        assert_refused(pod.create(), path, *words)
    assert not (workspace / ".tazpod/vault.tpv").exists()

    # All that would open a vault, and what shows the settings; not what does neither.
    text, words = next(iter(BROKEN.items()))
    file.write_text("")
    pod.create().ok()
    pod.write(f"{SECRETS}/one", b"1")
    pod.tazpod("lock").ok()
    file.write_text(text)
    assert_refused(pod.unlock(), path, *words)
    assert_refused(pod.tazpod("config", "--json"), path, *words)
    shell = pod.terminal("tazpod", "shell")
    shell.expect("Passphrase: ")
    shell.type(PASSPHRASE)
    assert shell.ends() == 78 and path in shell.text and words[0] in shell.text
    assert pod.state() == "locked"
    pod.tazpod("lock").ok()
    pod.tazpod("health").ok()
    assert pod.sh(f"test -e {SECRETS}").code == 1
    pod.wait_for_log("error=config", times=len(BROKEN) + 2)  # each refused unlock is in the log, too

    file.write_text("# mended\n")
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/one") == b"1"
    assert pod.inspect("{{.State.StartedAt}}") == began, "it was never started again"
    assert pod.stop()[0] == 7, "the main command was there all the time"


def test_a_file_that_breaks_while_the_vault_is_open_leaves_the_last_values_in_force(new_pod, workspace, project):
    project.write_text("[stop]\ntimeout = 2s\n[log]\nformat = json\n")
    pod = new_pod(workspace, command=STUBBORN)
    pod.wait_for_log("running")
    pod.create().ok()
    project.write_text("[stop]\ntimeout = soon\n")
    assert_refused(pod.tazpod("config"), PROJECT, "stop.timeout")

    pod.write(f"{SECRETS}/one", b"1")
    pod.tazpod("save").ok()
    assert pod.status()["generation"] == "2"
    assert pod.state() == "open"
    pod.unlock().ok()  # open already: nothing is read for it
    pod.tazpod("lock").ok()
    assert_refused(pod.unlock(), PROJECT, "line 2", "stop.timeout")

    project.write_text("[stop]\ntimeout = 2s\n[log]\nformat = json\n")
    pod.unlock().ok()
    project.write_text("[stop]\ntimeout = soon\n")
    pod.write(f"{SECRETS}/two", b"2")
    assert pod.stop()[0] == 128 + 9
    stop = json.loads(pod.logs().splitlines()[-1])  # nor did the log change its form
    assert stop["event"] == "stop" and stop["status"] == 137
    assert stop["ms"] < DEFAULT_KILL_MS, "the default was not waited for"

    project.unlink()
    pod.start()
    pod.unlock().ok()
    assert (pod.read(f"{SECRETS}/one"), pod.read(f"{SECRETS}/two")) == (b"1", b"2")


def test_a_stop_with_a_broken_file_and_an_open_vault_saves_and_ends_with_0(new_pod, workspace, project):
    pod = new_pod(workspace)
    pod.create().ok()
    pod.write(f"{SECRETS}/one", b"1")
    project.write_text("nonsense\n")
    assert pod.stop()[0] == 0
    pod.start()
    assert_refused(pod.unlock(), PROJECT, "line 1")
    project.unlink()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/one") == b"1"


def a_link(file, target):
    file.symlink_to(target)


def a_large_file(file):
    file.write_text("; a comment that means nothing\n" * 35_000)
    assert file.stat().st_size > 1_000_000


def a_closed_file(file):
    file.write_text("[ram]\n")
    os.chown(file, UID, UID)
    file.chmod(0)


WRONG = {  # what is in the file's place: what the message says of it
    "a-closed-file": (a_closed_file, "Permission denied"),
    "a-directory": (lambda file: file.mkdir(), "not a regular file"),
    "a-link-to-a-secret": (lambda file: a_link(file, f"{SECRETS}/passwords"), "a symbolic link"),
    "a-link-to-a-good-file": (lambda file: a_link(file, "good.ini"), "a symbolic link"),
    "a-fifo": (lambda file: os.mkfifo(file), "not a regular file"),
    "a-large-file": (a_large_file, "larger than 64 KiB"),
}


def remove(file):
    (file.rmdir if file.is_dir() and not file.is_symlink() else file.unlink)()


def test_what_is_no_readable_file_is_refused_at_once_by_its_name(new_pod, workspace, project):
    (project.parent / "good.ini").write_text("[kdf]\ntime = 1\n")
    pod = new_pod(workspace)
    pod.create().ok()
    pod.write(f"{SECRETS}/passwords", b"a-secret-line\n")
    pod.tazpod("lock").ok()
    for name, (put, words) in WRONG.items():
        put(project)
        refused = pod.unlock()
        assert_refused(refused, f"{PROJECT}: {words}")
        assert refused.seconds < 10, f"{name} was waited for"
        assert pod.state() == "locked"
        remove(project)
    pod.unlock().ok()
    # The same link while there is something behind it: its lines are nobody's business.
    a_link(project, f"{SECRETS}/passwords")
    said = pod.tazpod("config")
    assert_refused(said, PROJECT)
    assert pod.tazpod("save").code == 0
    assert "a-secret-line" not in said.err + pod.logs()
    assert pod.stop()[0] == 0


def test_a_directory_in_place_of_the_systems_file_is_refused_and_a_link_is_followed(new_pod, workspace, tmp_path):
    folder = tmp_path / "etc"
    folder.mkdir()
    pod = new_pod(workspace, options=("-v", f"{folder}:{SYSTEM}:ro"))
    assert_refused(pod.create(), f"{SYSTEM}: not a regular file")
    pod.remove()

    # As a Kubernetes ConfigMap has it.
    pod = new_pod(workspace)
    pod.sh(f"mkdir /etc/map && echo '[kdf]' >/etc/map/tazpod.ini && echo 'time = 5' >>/etc/map/tazpod.ini "
           f"&& ln -s map/tazpod.ini {SYSTEM}", options=("--user", "0")).ok()
    assert shown(pod)["kdf.time"]["value"] == 5
    pod.create().ok()


@pytest.mark.parametrize("put", [lambda file: os.mkfifo(file), lambda file: file.write_text("nonsense\n")],
                         ids=["a-fifo", "a-broken-file"])
def test_the_main_command_starts_whatever_the_files_are(new_pod, workspace, project, put, tmp_path):
    other = tmp_path / "tazpod.ini"
    put(project)
    put(other)
    other.chmod(0o644)
    pod = new_pod(workspace, command=MAIN, options=mounted(other))
    pod.wait_for_log("running")
    # Process 1 answers, and has nothing to say of files: none is read before a vault is to be opened.
    assert pod.state() == "locked"
    assert "config" not in pod.logs()
    assert_refused(pod.create(), SYSTEM)
    pod.wait_for_log("in=config error=config")
    assert pod.stop()[0] == 7


# --- precedence ---


def shown(pod):
    answer = json.loads(pod.tazpod("config", "--json").ok().out)
    assert answer["version"] == 1
    return answer["keys"]


def test_config_shows_each_value_and_the_source_it_came_from(new_pod, workspace, project, system):
    system.write_text("[ram]\nsize = 16M\nbackend = given\n[kdf]\nmemory = 16M\n[stop]\ntimeout = 5s\n"
                      "[worker]\ntimeout = 90s\n[log]\nnames = yes\n")
    project.write_text("[ram]\nsize = 32M\n[kdf]\nmemory = 32M\n[stop]\ntimeout = 4500ms\n[log]\nnames = no\n")
    pod = new_pod(workspace, options=(*mounted(system), "-e", "TAZPOD_RAM_SIZE=48M", "-e", "TAZPOD_STOP_TIMEOUT="))
    keys = shown(pod)
    by_default = {"origin": "default"}
    by_system = {"origin": "system", "from": SYSTEM}
    by_variable = {"origin": "environment", "from": "TAZPOD_RAM_SIZE"}
    by_project = {"origin": "project", "from": PROJECT}
    expected = {
        "ram.backend": {"value": "given", "text": "given", **by_system},
        "ram.size": {"value": 48 << 20, "unit": "bytes", "text": "48M", **by_variable},
        "ram.require_noswap": {"value": False, "text": "no", **by_default},
        "kdf.memory": {"value": 32 << 20, "unit": "bytes", "text": "32M", **by_project},
        "kdf.time": {"value": 3, "text": "3", **by_default},
        "log.format": {"value": "text", "text": "text", **by_default},
        "log.names": {"value": False, "text": "no", **by_project},
        "stop.timeout": {"value": 4500, "unit": "ms", "text": "4500ms", **by_project},
        "worker.timeout": {"value": 90_000, "unit": "ms", "text": "90s", **by_system},
    }
    assert {key: keys[key] for key in expected} == expected
    project.unlink()
    keys = shown(pod)
    assert [keys[key]["text"] for key in ("ram.size", "kdf.memory", "stop.timeout")] == ["48M", "16M", "5s"]
    system.write_text("")
    keys = shown(pod)
    assert [keys[key]["text"] for key in ("ram.size", "kdf.memory", "stop.timeout")] == ["48M", "64M", "8s"]
    refused = pod.tazpod("config", options=("-e", "TAZPOD_RAM_SIZE=much"))
    assert_refused(refused, "TAZPOD_RAM_SIZE", "ram.size", "1M to 64G")


def ram_size(pod):
    """Of the open vault's own file system."""
    return int(pod.exec("df", "--output=size", "-B1", SECRETS).ok().out.split()[-1])


def test_the_ram_of_its_own_has_the_size_of_the_strongest_source(new_pod, workspace, project, system):
    def run(*options, **more):
        return new_pod(workspace, ram=(), options=(*MAY_MOUNT, *mounted(system), *options), **more)

    def size(pod):
        pod.unlock().ok()
        return ram_size(pod) >> 20

    pod = run()
    pod.create().ok()
    assert ram_size(pod) == 64 << 20
    for text, file, expected in (("16M", system, 16), ("8M", project, 8)):
        file.write_text(f"[ram]\nsize = {text}\n")
        pod.tazpod("save").ok()
        assert ram_size(pod) >> 20 != expected, "what is open stays as it is"
        pod.tazpod("lock").ok()
        assert size(pod) == expected
    assert pod.stop()[0] == 0
    assert size(run("-e", "TAZPOD_RAM_SIZE=32M")) == 32
    flag = run("-e", "TAZPOD_RAM_SIZE=32M", "--entrypoint", "/sbin/tazpod-init", command=("--ram-size", "40M", "--"))
    assert size(flag) == 40


def cost(workspace):
    """(memory in MiB, passes) of the first slot of the vault, and it is removed."""
    vault = workspace / ".tazpod/vault.tpv"
    passes, memory = struct.unpack_from("<II", vault.read_bytes(), 112 + 4)
    vault.unlink()
    return memory >> 10, passes


def test_a_new_vault_costs_what_the_strongest_source_says(new_pod, workspace, project, system):
    pod = new_pod(workspace, options=mounted(system))

    def created(*flags):
        pod.unlock("--create", *flags).ok()
        pod.tazpod("lock").ok()
        return cost(workspace)

    assert created() == (64, 3)
    system.write_text("[kdf]\nmemory = 16M\ntime = 2\n")
    assert created() == (16, 2)
    project.write_text("[kdf]\nmemory = 8M\n")
    assert created() == (8, 2), "each key by itself"
    assert created("--kdf-time", "1") == (8, 1)
    assert created("--kdf-memory", "12M") == (12, 2)
    # A vault that is there keeps its own.
    pod.create().ok()
    pod.tazpod("lock").ok()
    project.write_text("[kdf]\nmemory = 1G\ntime = 4\n")
    pod.unlock().ok()
    pod.tazpod("lock").ok()
    assert cost(workspace) == (8, 1)


@pytest.mark.parametrize("variable, file", [("2s", "60s"), ("2s", "100ms"), ("", "2s")],
                         ids=["the-variable-shortens-it", "the-variable-lengthens-it", "an-empty-variable-is-none"])
def test_a_stop_takes_as_long_as_the_strongest_source_says(new_pod, workspace, project, variable, file):
    """2 s, each time."""
    project.write_text(f"[stop]\ntimeout = {file}\n")
    pod = new_pod(workspace, command=STUBBORN, options=("-e", f"TAZPOD_STOP_TIMEOUT={variable}"))
    pod.wait_for_log("running")
    pod.create().ok()
    pod.write(f"{SECRETS}/one", b"1")
    assert pod.stop()[0] == 128 + 9
    (ms,) = [float(line.rsplit("ms=", 1)[1]) for line in pod.logs().splitlines() if ": stop " in line]
    assert 2000 * 5 / 8 <= ms < DEFAULT_KILL_MS
    assert (workspace / ".tazpod/vault.tpv.1").exists(), "it was saved"


# --- require_noswap ---

A_SWAP_DEVICE = ("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
                 "/dev/dm-1                               partition\t2097148\t\t0\t\t-2\n")


@pytest.mark.parametrize("claims", [
    ("yes", "no", "no"), ("no", "yes", "no"), ("no", "no", "yes"), ("yes", "", "no"),
    ("no", "no", "no"), ("", "", "no"),
], ids=lambda claims: "-".join(claim or "nothing" for claim in claims))
def test_a_claim_of_noswap_that_one_source_makes_no_other_takes_back(
        new_pod, workspace, project, system, tmp_path, claims):
    """claims: of the system's file, of the project's, of the variable."""
    for file, claim in ((system, claims[0]), (project, claims[1])):
        if claim:
            file.write_text(f"[ram]\nrequire_noswap = {claim}\n")
    swaps = tmp_path / "swaps"
    swaps.write_text(A_SWAP_DEVICE)
    pod = new_pod(workspace, options=(*mounted(system), "-v", f"{swaps}:/proc/swaps:ro", "-e",
                                      f"TAZPOD_REQUIRE_NOSWAP={claims[2]}"))
    claimed = "yes" in claims
    assert shown(pod)["ram.require_noswap"]["value"] is claimed
    opened = pod.create()
    if claimed:
        assert opened.code == 69 and "[swappable]" in opened.err, opened
        assert pod.state() == "locked" and not (workspace / ".tazpod/vault.tpv").exists()
        swaps.write_text(A_SWAP_DEVICE.splitlines(keepends=True)[0])  # swapoff
        pod.create().ok()
    else:
        opened.ok()
        assert pod.status()["swap"].startswith("swappable")
