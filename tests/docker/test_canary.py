"""Clear text is in RAM and nowhere else: a canary is looked for wherever the engine has a disk."""

import json
import os
import subprocess

from pods import BASE, LABEL, PASSPHRASE, SECRETS, docker, in_base


class Canary:
    """64 KiB that no compressor makes smaller, so that zstd stores them as they are and the
    search sees through it; in them a word for text logs and some bytes for everything else."""

    def __init__(self):
        self.word = ("canary" + os.urandom(16).hex()).encode()
        self.bytes = bytes(byte for byte in os.urandom(64) if byte not in b"\0\n")[:24]
        assert len(self.bytes) == 24
        self.content = self.word + os.urandom(32768) + self.bytes + os.urandom(32768)


def places(pod, workspace):
    """Name -> folder on the engine's host. The pod's own layer, the workspace, and all the
    engine keeps, but for the layers of other containers and images."""
    root = docker("info", "--format", "{{.DockerRootDir}}").ok().out.strip()
    layer = pod.inspect("{{.GraphDriver.Data.UpperDir}}")
    assert layer.startswith("/"), "this test knows overlay2 alone"
    return {"layer": layer, "workspace": str(workspace), "engine": root}


def search(canary, folders):
    """The files in which the canary is. The patterns come by stdin: in an argument the engine
    itself would write them to disk, with the configuration of the searching container."""
    mounts = [f"{folder}:/scan/{name}:ro" for name, folder in folders.items()]
    script = """
        cat > /patterns/all
        for place in /scan/*; do
            # -xdev: the file systems of running containers are mounted below the engine's folder.
            find "$place" -xdev -path /scan/engine/overlay2 -prune -o -type f -exec grep -laFf /patterns/all {} +
        done
        :"""
    found = in_base(script, mounts=mounts, stdin=canary.word + b"\n" + canary.bytes + b"\n",
                    options=("--tmpfs", "/patterns", "-e", "LC_ALL=C"))
    return set(found.out.split("\n")) - {""}


def test_a_canary_is_nowhere_on_disk_while_open_and_after_stop(new_pod, workspace):
    canary = Canary()
    pod = new_pod(workspace)
    folders = places(pod, workspace)

    terminal = pod.terminal("tazpod", "shell")
    terminal.expect("[y/N] ")
    terminal.type("y")
    terminal.expect("New passphrase: ")
    terminal.type(PASSPHRASE)
    terminal.expect("Again: ")
    terminal.type(PASSPHRASE)
    terminal.take_prompt()
    pod.write(f"{SECRETS}/canary", canary.content)
    # Large enough that a save takes a while and more than one buffer.
    pod.write(f"{SECRETS}/canaries", canary.content * 100)
    assert canary.word.decode() in terminal.command(f"head -c {len(canary.word)} ~/secrets/canary")
    assert search(canary, folders) == set(), "open, not saved yet"
    pod.tazpod("save").ok()
    assert search(canary, folders) == set(), "open and saved"
    terminal.type("exit")
    terminal.ends()
    assert pod.stop()[0] == 0
    assert search(canary, folders) == set(), "after stop"
    pod.start()
    pod.unlock().ok()
    assert pod.read(f"{SECRETS}/canary") == canary.content
    assert search(canary, folders) == set(), "open again"


def test_the_same_search_finds_a_canary_planted_in_each_of_those_places(new_pod, workspace):
    canary = Canary()
    pod = new_pod(workspace)
    folders = places(pod, workspace)
    assert search(canary, folders) == set(), "before it is planted"

    pod.write("/var/tmp/plant", canary.content)
    pod.write("/workspace/plant", canary.content)
    subprocess.run(["zstd", "-q", "-o", workspace / "plant.zst"], input=canary.content, check=True)
    # The engine's own folders: the log of a container, and a volume on disk.
    writer = pod.name + "-writer"
    docker("run", "-i", "--name", writer, "--label", LABEL, "--log-driver", "json-file", "-v", "/volume", BASE,
           "/bin/sh", "-c", "tee /volume/plant", stdin=canary.word + b"\n").ok()
    inspected = json.loads(docker("inspect", writer).ok().out)[0]

    assert search(canary, folders) == {
        "/scan/layer/var/tmp/plant",
        "/scan/workspace/plant",
        "/scan/workspace/plant.zst",
        f"/scan/engine/containers/{inspected['Id']}/{inspected['Id']}-json.log",
        f"/scan/engine/volumes/{inspected['Mounts'][0]['Name']}/_data/plant",
    }
    docker("rm", "--volumes", writer).ok()
