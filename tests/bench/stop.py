#!/usr/bin/python3
"""docker stop of a pod with an open vault, beside docker stop of a container with nothing to save.

Each round starts one of each, opens the vault, writes 40 new files (200 kB in all), and stops both,
in an order that changes every round. What is timed is the `docker stop` command, and inside, from
SIGTERM to exit, what process 1 itself says in its log. Judges no times; fails where a stop is not
clean or the vault was not saved.

usage: stop.py [-n ROUNDS] BUILD
BUILD holds tazpod-init and tazpod. Images, from the environment:
  TAZPOD_BASE_IMAGE  Debian; the container with nothing to save runs it. Default: a debian image
                     that the engine already has
  TAZPOD_IMAGE       the pod's; default: one made here of the base and the two programs
"""

import argparse
import contextlib
import os
import pathlib
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
import time

NAME = f"tazpod-bench-{os.getpid()}-{secrets.token_hex(3)}"
LABEL = f"tazpod-bench={NAME}"
PASSPHRASE = b"not a secret, only a measurement\n"
OWNER = 1000  # the image's user
FILES, FILE_SIZE = 40, 5000
GOAL_RATIO, GOAL_INSIDE_MS = 1.10, 20

# The base comes with no user 1000: ids do without a name.
DOCKERFILE = """\
FROM {base}
COPY tazpod-init /sbin/tazpod-init
COPY tazpod /usr/bin/tazpod
RUN chmod 0711 /sbin/tazpod-init /usr/bin/tazpod && \\
    mkdir -p /run/tazpod /workspace && chmod 0700 /run/tazpod && chown 1000:1000 /run/tazpod /workspace
USER 1000:1000
ENTRYPOINT ["/sbin/tazpod-init", "--"]
"""


def docker(*args, **kwargs):
    # The classic builder: the other one is a plugin that Debian's engine comes without.
    done = subprocess.run(
        ["docker", *args], capture_output=True, timeout=120, env={**os.environ, "DOCKER_BUILDKIT": "0"}, **kwargs
    )
    if done.returncode != 0:
        raise SystemExit(f"stop.py: docker {' '.join(args)}: {done.stderr.decode().strip()}")
    return done.stdout.decode()


def base_image():
    if os.environ.get("TAZPOD_BASE_IMAGE"):
        return os.environ["TAZPOD_BASE_IMAGE"]
    for name in ("debian:trixie-slim", "debian:trixie", "debian:bookworm-slim", "debian:latest"):
        if docker("images", "-q", name).strip():
            return name
    raise SystemExit("stop.py: the engine has no debian image: name one in TAZPOD_BASE_IMAGE")


def pod_image(base, build):
    if os.environ.get("TAZPOD_IMAGE"):
        return os.environ["TAZPOD_IMAGE"], False
    with tempfile.TemporaryDirectory(prefix=NAME) as folder:
        for program in ("tazpod-init", "tazpod"):
            data = (build / program).read_bytes()
            (pathlib.Path(folder) / program).write_bytes(data)
            (pathlib.Path(folder) / program).chmod(0o755)
        (pathlib.Path(folder) / "Dockerfile").write_text(DOCKERFILE.format(base=base))
        docker("build", "-q", "-t", NAME, folder)
    return NAME, True


@contextlib.contextmanager
def container(*args):
    """A running container's id. Gone with everything in it afterwards."""
    ident = docker("run", "-d", "--label", LABEL, *args).strip()
    try:
        yield ident
    finally:
        docker("rm", "-f", ident)


def stop_ms(ident):
    start = time.perf_counter()
    docker("stop", ident)
    return (time.perf_counter() - start) * 1000


def exit_status(ident):
    return int(docker("inspect", "-f", "{{.State.ExitCode}}", ident))


def pod_round(image, workspace):
    """Returns (docker stop, inside) in ms."""
    vault = workspace / ".tazpod" / "vault.tpv"
    create = [] if vault.exists() else ["--create", "--kdf-memory", "8M", "--kdf-time", "1"]
    with container(
        "--cap-drop", "ALL", "--tmpfs", "/run/tazpod:size=64m,mode=0700,uid=1000,gid=1000",
        "-v", f"{workspace}:/workspace", image,
    ) as pod:
        docker("exec", "-i", pod, "tazpod", "unlock", *create, "--passphrase-fd", "0", input=PASSPHRASE)
        docker(
            "exec", pod, "sh", "-c",
            f"for i in $(seq {FILES}); do"
            f" head -c {FILE_SIZE} /dev/urandom > /run/tazpod/secrets/file-$i; done",
        )
        before = vault.read_bytes()
        outside = stop_ms(pod)
        if exit_status(pod) != 0:
            raise SystemExit(f"stop.py: the pod left with {exit_status(pod)}:\n{log(pod)}")
        if vault.read_bytes() == before or vault.stat().st_size < FILES * FILE_SIZE:
            raise SystemExit(f"stop.py: the stop did not save the vault:\n{log(pod)}")
        lines = re.findall(r"^tazpod-init: stop\b.*\bms=([0-9.]+)", log(pod), re.M)
        if not lines:
            raise SystemExit(f"stop.py: no stop time in the pod's log:\n{log(pod)}")
        return outside, float(lines[-1])


def log(ident):
    done = subprocess.run(["docker", "logs", ident], capture_output=True, timeout=60, check=True)
    return (done.stdout + done.stderr).decode(errors="replace")


def plain_round(image):
    with container("--init", image, "sleep", "infinity") as plain:
        return stop_ms(plain)


def line(name, values, goal=""):
    values = sorted(values)
    p90 = values[min(len(values) - 1, int(0.9 * len(values)))]
    print(
        f"{name:<44} {statistics.median(values):9.1f} {p90:9.1f} {values[0]:9.1f} {values[-1]:9.1f}  {goal}"
    )


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("-n", type=int, default=20)
    parser.add_argument("build", type=pathlib.Path)
    options = parser.parse_args()

    base = base_image()
    image, made = pod_image(base, options.build)
    pods, inside, plains = [], [], []
    # Not /tmp, which may be a tmpfs: the save's fsync must cost what it costs.
    workspace = pathlib.Path(tempfile.mkdtemp(prefix=NAME, dir="/var/tmp"))
    workspace.chmod(0o777)  # for an owner that may not be us
    try:
        for number in range(options.n):
            if number % 2:
                plains.append(plain_round(base))
            outside_ms, inside_ms = pod_round(image, workspace)
            pods.append(outside_ms)
            inside.append(inside_ms)
            if not number % 2:
                plains.append(plain_round(base))
    finally:
        # The vault's folder is the owner's, mode 0700: only a container of that uid is sure to reach it.
        docker("run", "--rm", "--label", LABEL, "-u", str(OWNER), "--entrypoint", "", "-v",
               f"{workspace}:/w", base, "rm", "-rf", "/w/.tazpod")
        workspace.rmdir()
        if made:
            docker("rmi", "-f", image)

    ratio = statistics.median(pods) / statistics.median(plains)
    print(f"docker stop, {options.n} rounds, alternated; {FILES} files, {FILES * FILE_SIZE} bytes, to save")
    print(f"{'ms':<44} {'median':>9} {'p90':>9} {'min':>9} {'max':>9}")
    line("pod with an open vault", pods)
    line("docker run --init sleep, nothing to save", plains)
    line("inside the pod, SIGTERM to exit", inside, f"goal: at most {GOAL_INSIDE_MS}")
    print(f"{'ratio of the medians':<44} {ratio:9.3f} {'':29}  goal: at most {GOAL_RATIO:.2f}")


if __name__ == "__main__":
    sys.exit(main())
