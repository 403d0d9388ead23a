import os

import pytest

import nsinit


def pytest_configure(config):
    if os.geteuid() != 0:
        pytest.exit("tests/ns needs root: it makes pid and mount namespaces", returncode=1)


def pytest_unconfigure(config):
    nsinit.forget_programs()


@pytest.fixture
def make_place():
    """Place(...), closed after the test."""
    made = []

    def make(**how):
        made.append(nsinit.Place(**how))
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def place(make_place):
    return make_place()


@pytest.fixture
def start(make_place):
    """Pod(...), closed before its place is. The logs are printed, for pytest to show on a failure."""
    made = []

    def make(*command, **how):
        made.append(nsinit.Pod(*command, **how))
        return made[-1]

    yield make
    for number, pod in enumerate(made, 1):
        print(f"--- log of pod {number}\n{pod.log()}", end="")
        pod.close()
