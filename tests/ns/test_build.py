"""What the Makefile makes: two static programs, hardened, and the same from any folder.

Everything is built from a copy of the sources, so no build of this tree is touched. The programs that
the other tests run (build/) are looked at too.
"""

import os
import pathlib
import shutil
import struct
import subprocess
import tempfile

import pytest

from nsinit import BUILD, TOP

PROGRAMS = ("tazpod-init", "tazpod")
INIT_LOADED_MAX = 64 * 1024
IS_X86 = os.uname().machine == "x86_64"

# ---- ELF, as much as is asked about ----

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_GNU_STACK, PT_GNU_RELRO = 1, 2, 3, 0x6474E551, 0x6474E552
PF_X, PF_W = 1, 2
DT_NULL, DT_NEEDED, DT_STRTAB, DT_TEXTREL, DT_FLAGS, DT_FLAGS_1 = 0, 1, 5, 22, 30, 0x6FFFFFFB
DF_TEXTREL, DF_BIND_NOW = 4, 8
DF_1_NOW, DF_1_PIE = 1, 0x08000000
SHT_SYMTAB = 2
SHF_EXECINSTR = 4


class Elf:
    """A 64-bit little-endian program or object."""

    def __init__(self, path):
        self.data = pathlib.Path(path).read_bytes()
        assert self.data[:6] == b"\x7fELF\x02\x01", path
        (self.type, programs, sections, size, count, section_size, section_count) = struct.unpack_from(
            "<H14xQQ6xHHHH", self.data, 16)
        # (type, flags, offset, address, bytes in the file)
        self.segments = [struct.unpack_from("<IIQQ8xQ", self.data, programs + size * n) for n in range(count)]
        # (type, flags, offset, bytes, linked section)
        self.sections = [struct.unpack_from("<4xIQ8xQQI", self.data, sections + section_size * n)
                         for n in range(section_count)]
        self.dynamic = []
        for _, _, offset, _, length in self.of_type(PT_DYNAMIC):
            for tag, value in struct.iter_unpack("<qQ", self.data[offset:offset + length]):
                if tag == DT_NULL:
                    break
                self.dynamic.append((tag, value))

    def of_type(self, kind):
        return [segment for segment in self.segments if segment[0] == kind]

    def _text(self, at):
        return self.data[at:self.data.index(b"\0", at)].decode()

    def _tag(self, wanted):
        return next((value for tag, value in self.dynamic if tag == wanted), 0)

    @property
    def loader(self):
        """The program that must be there to start this one; None for a static program."""
        return next((self._text(offset) for _, _, offset, _, _ in self.of_type(PT_INTERP)), None)

    @property
    def needed(self):
        """Names of shared libraries."""
        address = self._tag(DT_STRTAB)
        table = next((offset + address - start for _, _, offset, start, length in self.of_type(PT_LOAD)
                      if start <= address < start + length), None)
        return [self._text(table + value) for tag, value in self.dynamic if tag == DT_NEEDED]

    @property
    def loaded(self):
        """Bytes of the file that come into memory."""
        return sum(length for *_, length in self.of_type(PT_LOAD))

    @property
    def is_pie(self):
        return self.type == ET_DYN and bool(self._tag(DT_FLAGS_1) & DF_1_PIE)

    @property
    def faults(self):
        """What an attacker would like to find."""
        found = [f"a segment at {address:#x} is writable and executable"
                 for _, flags, _, address, _ in self.of_type(PT_LOAD) if flags & PF_W and flags & PF_X]
        stacks = self.of_type(PT_GNU_STACK)
        if not stacks or any(flags & PF_X for _, flags, *_ in stacks):
            found.append("the stack is executable")
        if any(tag == DT_TEXTREL for tag, _ in self.dynamic) or self._tag(DT_FLAGS) & DF_TEXTREL:
            found.append("code is relocated in place")
        return found

    @property
    def is_read_only_once_relocated(self):
        return bool(self.of_type(PT_GNU_RELRO)) and bool(
            self._tag(DT_FLAGS) & DF_BIND_NOW or self._tag(DT_FLAGS_1) & DF_1_NOW)

    @property
    def symbols(self):
        found = set()
        for kind, _, offset, length, link in self.sections:
            if kind == SHT_SYMTAB:
                names = self.sections[link][2]
                entries = struct.iter_unpack("<I20x", self.data[offset:offset + length])
                found |= {self._text(names + name) for (name,) in entries}
        return found

    @property
    def code(self):
        return b"".join(self.data[offset:offset + length]
                        for _, flags, offset, length, _ in self.sections if flags & SHF_EXECINSTR)


# ---- building ----


def make(tree, *words, env=None, umask=0o022):
    """Without the variables and the job server of a make that runs us, and without CI's -Werror: whether
    there are warnings is the main build's matter."""
    done = subprocess.run(["make", "-j2", "-C", str(tree), *words], capture_output=True, umask=umask, timeout=300,
                          env={"PATH": os.environ["PATH"], "HOME": "/", **(env or {})})
    assert done.returncode == 0, f"make {' '.join(words)}:\n{done.stdout.decode()}\n{done.stderr.decode()}"


def copy_of_sources(tree):
    tree.mkdir(parents=True)
    shutil.copy(TOP / "Makefile", tree)
    for name in ("init", "vault", "cli", "docs"):
        shutil.copytree(TOP / name, tree / name)
    return tree


def modes(top):
    """{path: mode} of the files below top."""
    return {str(path.relative_to(top)): path.stat().st_mode & 0o7777 for path in top.rglob("*") if not path.is_dir()}


@pytest.fixture(scope="module")
def folder():
    with tempfile.TemporaryDirectory(prefix="tazpod-build-") as name:
        yield pathlib.Path(name)


@pytest.fixture(scope="module")
def tree(folder):
    """Built and installed as whoever follows the README would, into tree/out."""
    tree = copy_of_sources(folder / "a")
    make(tree, "install", "install-man", f"DESTDIR={tree}/out")
    return tree


@pytest.fixture(scope="module")
def compiled(folder):
    """compiled(name, *flags): a small program by the system's compiler, for what ours must not be."""
    source = folder / "main.c"
    source.write_text("int main(void) { return 0; }\n")

    def compiled(name, *flags):
        subprocess.run(["cc", *flags, "-o", folder / name, source], check=True, timeout=60, stderr=subprocess.DEVNULL)
        return Elf(folder / name)

    return compiled


@pytest.fixture(params=["installed", "tested"])
def programs(request):
    """{name: Elf}, of a fresh build and of the one that the other tests run."""
    where = {"tazpod-init": BUILD, "tazpod": BUILD}
    if request.param == "installed":
        out = request.getfixturevalue("tree") / "out"
        where = {"tazpod-init": out / "sbin", "tazpod": out / "usr/local/bin"}
    return {name: Elf(place / name) for name, place in where.items()}


# ---- static ----


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_needs_no_loader_and_no_library(programs, name):
    assert programs[name].loader is None
    assert programs[name].needed == []


def test_that_is_seen_where_a_program_is_dynamic(compiled):
    plain = compiled("plain")
    assert plain.loader.startswith("/lib")
    assert any(name.startswith("libc.") for name in plain.needed)


def test_process_one_has_fixed_addresses_and_no_dynamic_part(programs):
    assert programs["tazpod-init"].type == ET_EXEC
    assert programs["tazpod-init"].of_type(PT_DYNAMIC) == []


def test_tazpod_is_a_static_program_at_any_address(programs):
    assert programs["tazpod"].is_pie and programs["tazpod"].loader is None


def test_process_one_is_static_with_glibc_too(tree):
    """Where there is no musl."""
    make(tree, "MUSL=", "B=glibc", "glibc/tazpod-init")
    program = Elf(tree / "glibc/tazpod-init")
    assert (program.type, program.loader, program.dynamic, program.faults) == (ET_EXEC, None, [], [])
    assert b"Fatal glibc error" in program.data
    assert b"Fatal glibc error" not in Elf(tree / "build/tazpod-init").data, "which is musl's"
    answers_its_version(tree / "glibc/tazpod-init")


# ---- hardened ----


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_in_a_program_is_writable_and_executable(programs, name):
    assert programs[name].faults == []


def test_those_faults_are_seen_where_they_are(compiled):
    assert compiled("plain").faults == []
    assert compiled("stack", "-Wl,-z,execstack").faults == ["the stack is executable"]
    assert "writable and executable" in compiled("omagic", "-static", "-nostdlib", "-Wl,--omagic,-e,main").faults[0]


def test_what_is_relocated_in_tazpod_is_read_only_afterwards(programs, compiled):
    """Process 1 has nothing to relocate: the addresses are in its file."""
    assert programs["tazpod"].is_read_only_once_relocated
    assert compiled("now", "-Wl,-z,relro,-z,now").is_read_only_once_relocated
    assert not compiled("lazy", "-Wl,-z,relro,-z,lazy").is_read_only_once_relocated
    assert not compiled("norelro", "-Wl,-z,norelro,-z,now").is_read_only_once_relocated


PROBE = """\
#include <string.h>

void probe(const char *from, size_t n, void (*use)(char *));

void probe(const char *from, size_t n, void (*use)(char *))
{
    char room[100000];

    memcpy(room, from, n);
    use(room);
}
"""


def defences(path):
    """Of the object of PROBE: what the compiler put in beside what was written."""
    probe = Elf(path)
    found = {name for name, symbol in (("canary", "__stack_chk_fail"), ("sizes", "__memcpy_chk"))
             if symbol in probe.symbols}
    if IS_X86:
        if probe.code.startswith(b"\xf3\x0f\x1e\xfa"):  # endbr64: a place that may be jumped to
            found.add("jumps")
        if b"\x48\x83\x0c\x24\x00" in probe.code:  # orq $0,(%rsp): no page of the stack is left out
            found.add("clash")
    return found


@pytest.mark.parametrize("floor", ["cli", "vault", "init"])
def test_every_object_is_compiled_with_the_defences(tree, floor):
    """By a source of ours, which the Makefile compiles as it does its neighbours."""
    (tree / floor / "probe.c").write_text(PROBE)
    bare = tree / floor / "bare.o"
    try:
        make(tree, f"build/{floor}/probe.o")
        without = ["-U_FORTIFY_SOURCE", "-fno-stack-protector", "-fno-stack-clash-protection"]
        without += ["-fcf-protection=none"] if IS_X86 else []
        subprocess.run(["cc", "-O2", *without, "-c", "-o", bare, tree / floor / "probe.c"], check=True, timeout=60)
        # musl's headers check no sizes, and process 1 has frames of a page at most.
        wanted = {"canary"} if floor == "init" else {"canary", "sizes"} | ({"jumps", "clash"} if IS_X86 else set())
        assert defences(tree / f"build/{floor}/probe.o") >= wanted
        assert defences(bare) == set(), "or they would be found in anything"
    finally:
        (tree / floor / "probe.c").unlink()


# ---- small, and in their places ----


def test_process_one_is_small(programs, compiled):
    """Of its file, what is loaded: the rest is for debuggers, and the image goes without."""
    assert programs["tazpod-init"].loaded <= INIT_LOADED_MAX
    assert compiled("glibc", "-static").loaded > INIT_LOADED_MAX, "which does nothing at all"


@pytest.mark.parametrize("umask", [0o000, 0o077], ids=["open umask", "closed umask"])
def test_what_is_installed_may_be_executed_and_not_read(tree, umask):
    """Exec of a readable file makes a process dumpable again."""
    out = tree / f"out-{umask}"
    make(tree, "install", "install-man", f"DESTDIR={out}", "PREFIX=/usr", umask=umask)
    assert modes(out) == {
        "sbin/tazpod-init": 0o711,
        "usr/bin/tazpod": 0o711,
        "usr/share/man/man1/tazpod.1": 0o644,
        "usr/share/man/man5/tazpod.ini.5": 0o644,
        "usr/share/man/man8/tazpod-init.8": 0o644,
    }
    for path, source in (("sbin/tazpod-init", "build/tazpod-init"), ("usr/bin/tazpod", "build/tazpod"),
                         ("usr/share/man/man1/tazpod.1", "docs/man/tazpod.1")):
        assert (out / path).read_bytes() == (tree / source).read_bytes()


# ---- the same each time ----


def test_a_clean_build_in_another_folder_gives_the_same_bytes(tree, folder):
    other = copy_of_sources(folder / "a-folder-with-a-much-longer-name" / "and-one-more-below")
    make(other, "all", env={"LC_ALL": "C.UTF-8", "TZ": "Asia/Tokyo"}, umask=0o077)
    for name in PROGRAMS:
        first, second = (Elf(top / "build" / name).data for top in (tree, other))
        assert first == second, f"{name}: {len(first)} and {len(second)} bytes"

    # The folder would be in the bytes if it were not kept out of them.
    for top in (tree, other):
        make(top, "OURS=-std=c11 -D_GNU_SOURCE", "B=plain", "plain/init/wire.o")
    first, second = ((top / "plain/init/wire.o").read_bytes() for top in (tree, other))
    assert first != second and os.fsencode(other) in second


# ---- for who works on it ----


def answers_its_version(program):
    done = subprocess.run([program, "--version"], capture_output=True, timeout=60, env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, b""), done
    name, version = done.stdout.decode().split()
    assert name == program.name and f"VERSION = {version}\n" in (TOP / "Makefile").read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_an_installed_program_answers_its_version(tree, name):
    answers_its_version(tree / "build" / name)


def test_the_debug_build_works_and_is_not_optimised(tree):
    make(tree, "DEBUG=1", "B=debug", "all")
    for name in PROGRAMS:
        answers_its_version(tree / "debug" / name)
        assert Elf(tree / "debug" / name).needed == []
    # At -O0 there is nothing that would check sizes.
    assert "__snprintf_chk" in Elf(tree / "build/vault/store.o").symbols
    assert "__snprintf_chk" not in Elf(tree / "debug/vault/store.o").symbols


def test_the_build_with_sanitizers_works_and_has_them(tree):
    make(tree, "SAN=1", "B=san", "all")
    for name in PROGRAMS:
        answers_its_version(tree / "san" / name)
        # The one build that is dynamic: the sanitizers have no static form.
        assert {"libasan", "libubsan"} <= {library.split(".so")[0] for library in Elf(tree / "san" / name).needed}
