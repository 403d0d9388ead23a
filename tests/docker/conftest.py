"""Fixtures of the Docker tests. What they hand out is in pods.py."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import uuid

import pytest

import pods

TOP = pathlib.Path(__file__).resolve().parents[2]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    setattr(item, "report_" + outcome.get_result().when, outcome.get_result())


@pytest.fixture(scope="session")
def image():
    """The project's image, built if this tree has none yet."""
    made = subprocess.run([TOP / "tests/engine", "images"], stdout=subprocess.PIPE, text=True, check=True)
    return made.stdout.split()[-1]


@pytest.fixture(scope="session", autouse=True)
def swept():
    yield
    pods.sweep()


@pytest.fixture
def workspace():
    """A folder that belongs to the pod's user, as a project's folder belongs to a person's."""
    if os.geteuid() not in (0, pods.UID):
        pytest.fail("the workspace must belong to uid 1000: run these tests as root or as that user")
    folder = pathlib.Path(tempfile.mkdtemp(prefix="tazpod-test-"))
    os.chown(folder, pods.UID, pods.UID)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def new_pod(image, request):
    """Makes pods; they are gone after the test, and their logs shown if it failed."""
    made = []

    def make(*args, run=True, **more):
        pod = pods.Pod(image, *args, **more)
        made.append(pod)
        if run:
            pod.run()
        return pod

    yield make
    report = getattr(request.node, "report_call", None)
    for pod in made:
        if report and report.failed:
            print(f"--- log of {pod.name}\n{pod.logs()}")
            for terminal in pod.terminals:
                print(f"--- terminal\n{terminal.text}")
        pod.remove()


@pytest.fixture
def new_volume():
    """Makes tmpfs volumes, each held by a container so that it outlives the pods on it."""
    made = []

    def make(options):
        name = f"tazpod-test-{pods.RUN}-{uuid.uuid4().hex[:6]}"
        made.append(name)
        pods.docker("volume", "create", "--label", pods.LABEL, "--opt", "type=tmpfs", "--opt", "device=tmpfs",
                    "--opt", f"o={options}", name).ok()
        # nocopy: the image's folder must not set owner and mode of the volume.
        pods.docker("run", "-d", "--init", "--name", name, "--label", pods.LABEL, "-v", f"{name}:/held:nocopy",
                    pods.BASE, "/bin/sleep", "infinity").ok()
        return name

    yield make
    for name in made:
        pods.docker("rm", "--force", name)
        pods.docker("volume", "rm", "--force", name)
