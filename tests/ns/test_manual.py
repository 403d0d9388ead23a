"""The manual pages name everything that the programs have, and nothing that is gone.

What there is comes from the programs' own help and from the source; what is documented comes from
the pages' macros in the section where it belongs, so that a mention in passing does not count.
Every check is made a second time with that thing taken out of the page, and must then notice.
"""

import re
import subprocess

import pytest

from nsinit import BUILD, TOP

TAZPOD, INIT = "tazpod.1", "tazpod-init.8"


def page(name):
    return (TOP / "docs" / "man" / name).read_text()


def source(*patterns):
    files = sorted(path for pattern in patterns for path in TOP.glob(pattern))
    assert files, patterns
    return "\n".join(path.read_text() for path in files)


def help_of(program, *words):
    return subprocess.run([BUILD / program, *words], capture_output=True, text=True, check=True, timeout=20).stdout


# ---- what there is ----


def verbs():
    subs = re.search(r"SUBS\[\] = \{(.*?)\n\};", source("cli/key.c"), re.S).group(1)
    return set(re.findall(r"^  ([a-z]+) +\S", help_of("tazpod", "help"), re.M)) | set(re.findall(r'\{"([a-z-]+)"', subs))


def flags():
    return set(re.findall(r"--[a-z-]+", help_of("tazpod", "help")))


def init_options():
    return set(re.findall(r"--[a-z-]+", help_of("tazpod-init", "--help")))


def variables(*patterns):
    return set(re.findall(r'"(TAZPOD_[A-Z_]+)"', source(*patterns)))


def exit_codes():
    """{name: number} of enum tazpod_exit."""
    body = re.search(r"enum tazpod_exit \{(.*?)\n\};", source("init/protocol.h"), re.S).group(1)
    return dict(re.findall(r"(EX_TP_[A-Z_]+) = (\d+)", body))


def init_exit_codes():
    """Those it leaves with itself, and those of a main command that can't be executed."""
    names = re.findall(r"EX_TP_[A-Z_]+", source("init/main.c", "init/step.c"))
    return {exit_codes()[name] for name in names} | set(re.findall(r"\b12[67]\b", source("init/child.c")))


def error_words():
    """Pairs "CODE word", as the code sets them together."""
    numbers = {**exit_codes(), **dict(re.findall(r"(ERR_[A-Z_]+) = (\d+)", source("vault/base/err.h")))}
    pairs = re.findall(r'\b((?:ERR|EX_TP)_[A-Z_]+),\s*"([a-z-]+)"', source("init/*.c", "cli/*.c", "vault/*.c"))
    # Two that no user meets: a sealer's to PID 1, and a cost that tazpod refuses before it asks.
    return {f"{numbers[name]} {word}" for name, word in pairs} - {"70 aborted", "73 kdf-limit"}


def log_words():
    text = source("init/*.c")
    calls = re.findall(r"(?:line_start|log_say|say_process)\((.*?)\);", text, re.S) + re.findall(r"WORDS\[\] = \{(.*?)\}", text)
    return {word for call in calls for word in re.findall(r'(?:^|[^\w])"([a-z-]+)"', call)}


def log_keys():
    return set(re.findall(r'line_(?:text|number|millis)\(&l, "([a-z-]+)"', source("init/*.c")))


# ---- what is documented: (name, where it stands), a line at a time ----


class Kind:
    """names(line, item): what a line of the section documents; item is the last .It before it."""

    def __init__(self, where, section, wanted, names, exact=True):
        self.where = where
        self.section = section
        self.wanted = wanted
        self.names = names
        self.exact = exact

    def lines(self, text):
        """(number, line, item) of the section; all of the page without one."""
        inside, item = self.section is None, ""
        for number, line in enumerate(text.splitlines()):
            if line.startswith(".Sh "):
                inside, item = self.section in (None, line[4:]), ""
            if line.startswith(".It"):
                item = line[4:]
            if inside:
                yield number, line, item

    def documented(self, text):
        return {name for _, line, item in self.lines(text) for name in self.names(line, item)}

    def missing(self, text, wanted):
        return wanted - self.documented(text)

    def without(self, text, name):
        """The page less every line that documents name, and what else stood on them."""
        gone, others, kept = set(), set(), text.splitlines()
        for number, line, item in self.lines(text):
            found = set(self.names(line, item))
            if name in found:
                gone.add(number)
                others |= found
        return "\n".join(line for number, line in enumerate(kept) if number not in gone) + "\n", others


def items(pattern):
    return lambda line, item: re.findall(pattern, line) if line.startswith(".It ") else []


def option_names(line, item):
    return ["-" + name for name in items(r"\bFl (-[a-z-]+)")(line, item)]


def literals(line):
    """Words set as literal text: `.Li a , b` and `.Op Li a`."""
    found = re.match(r"\.(?:Op )?Li (.*)", line)
    return [word for word in found.group(1).split() if re.fullmatch(r"[a-z-]+", word)] if found else []


KINDS = {
    "verbs of tazpod": Kind(TAZPOD, "DESCRIPTION", verbs, items(r"^\.It Cm ([a-z-]+)")),
    "flags of tazpod": Kind(TAZPOD, "DESCRIPTION", flags, option_names),
    "flags of tazpod in its synopsis": Kind(
        TAZPOD, "SYNOPSIS", flags, lambda line, item: ["-" + name for name in re.findall(r"\bFl (-[a-z-]+)", line)]),
    "variables of tazpod": Kind(
        TAZPOD, "ENVIRONMENT", lambda: variables("cli/*.c", "cli/*.h"), items(r"\b(TAZPOD_[A-Z_]+)")),
    "exit codes": Kind(TAZPOD, "EXIT STATUS", lambda: set(exit_codes().values()), items(r"^\.It (\d+)$")),
    "error words": Kind(
        TAZPOD, "EXIT STATUS", error_words, lambda line, item: [f"{item} {word}" for word in literals(line)],
        exact=False),
    "options of tazpod-init": Kind(INIT, "DESCRIPTION", init_options, option_names),
    "options of tazpod-init in its synopsis": Kind(
        INIT, "SYNOPSIS", init_options,
        lambda line, item: ["-" + name for name in re.findall(r"\bFl (-[a-z-]+)", line)]),
    "variables of tazpod-init": Kind(
        INIT, "ENVIRONMENT", lambda: variables("init/options.c", "init/fault.c"), items(r"\b(TAZPOD_[A-Z_]+)")),
    "exit codes of tazpod-init": Kind(INIT, "EXIT STATUS", init_exit_codes, items(r"^\.It (\d+)$")),
    "log words": Kind(INIT, "LOG", log_words, items(r"^\.It Li ([a-z-]+)")),
    "log keys": Kind(
        INIT, "LOG", log_keys, lambda line, item: [] if line.startswith(".It") else literals(line), exact=False),
}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@EVERY_KIND
def test_all_there_is_is_in_the_page(kind):
    wanted = kind.wanted()
    assert wanted, "the source or the help was not understood"
    assert not kind.missing(page(kind.where), wanted)


@EVERY_KIND
def test_one_that_is_missing_is_noticed(kind):
    text, wanted = page(kind.where), kind.wanted()
    for name in wanted:
        less, also = kind.without(text, name)
        missing = kind.missing(less, wanted)
        assert name in missing, f"{name} was taken out and nobody noticed"
        assert missing <= also, f"{name} was taken out and others were missed: {missing - also}"
    assert kind.missing(text, wanted | {"planted"}) == {"planted"}


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.exact],
                         ids=[name for name, kind in KINDS.items() if kind.exact])
def test_nothing_is_in_the_page_that_is_gone(kind):
    assert not kind.documented(page(kind.where)) - kind.wanted()


# ---- units and defaults ----


def option_texts(where):
    """{option: text of its item}."""
    texts, name = {}, None
    for line in page(where).splitlines():
        if line.startswith((".It", ".El", ".Sh", ".Ss")):
            found = option_names(line, "")
            name = found[0] if found else None
        if name:
            texts[name] = texts.get(name, "") + line + "\n"
    return texts


def without_variable_or_default(texts, wanted):
    """What is missing of {option: [text, ...]}."""
    return {(option, text) for option, needed in wanted.items() for text in needed
            if not re.search(r"(?<![\w/])" + re.escape(text) + r"(?![\w/])", texts.get(option, ""))}


def init_defaults():
    """Option: its variable, and its default if the help gives a value and not a description."""
    found = re.findall(r"^  (--[a-z-]+) .*\((TAZPOD_\w+)(?:; (.+))?\)$", help_of("tazpod-init", "--help"), re.M)
    return {option: [variable] + ([f"{default}"] if re.search(r"[\d/]", default) else [])
            for option, variable, default in found}


def kdf_bounds():
    header = source("vault/header.h")

    def number(name):
        product = re.search(rf"{name} = ([\d *]+),", header).group(1)
        value = 1
        for factor in product.split("*"):
            value *= int(factor)
        return value

    def size(kib):
        return f"{kib >> 20}G" if kib >= 1 << 20 else f"{kib >> 10}M"

    return {"--kdf-memory": [size(number(f"KDF_MEM_KIB_{which}")) for which in ("MIN", "MAX", "DEFAULT")],
            "--kdf-time": [str(number(f"KDF_OPS_{which}")) for which in ("MIN", "MAX", "DEFAULT")]}


@pytest.mark.parametrize("where, wanted, least", [(INIT, init_defaults, 6), (TAZPOD, kdf_bounds, 2)])
def test_every_option_states_its_variable_its_bounds_and_its_default(where, wanted, least):
    texts, wanted = option_texts(where), wanted()
    assert len(wanted) >= least, "the help was not understood"
    assert not without_variable_or_default(texts, wanted)
    for option, needed in wanted.items():
        for text in needed:
            changed = {**texts, option: texts[option].replace(text, "another")}
            assert (option, text) in without_variable_or_default(changed, wanted)


def test_every_flag_of_tazpod_states_its_default_or_that_it_needs_none():
    texts = option_texts(TAZPOD)
    for flag in flags() - {"--create"}:
        assert "default" in texts[flag], flag


# ---- the pages as pages ----


def lint(path):
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", path], capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", [TAZPOD, INIT])
def test_mandoc_has_nothing_to_say(name, tmp_path):
    assert lint(TOP / "docs" / "man" / name) == (0, "")
    broken = tmp_path / name
    broken.write_text(page(name) + ".Li\n")
    code, said = lint(broken)
    assert code != 0 and "WARNING" in said


@pytest.mark.parametrize("name", [TAZPOD, INIT])
def test_the_sections_that_must_be_real_hold_something(name):
    text = page(name)
    for title in ("ENVIRONMENT", "FILES", "EXIT STATUS", "EXAMPLES", "SEE ALSO", "CAVEATS", "SECURITY CONSIDERATIONS"):
        body = re.search(rf"^\.Sh {title}\n(.*?)(?=^\.Sh |\Z)", text, re.M | re.S)
        assert body and len(body.group(1)) > 60, title
    assert re.search(r"^\.Dd [A-Z][a-z]+ \d{1,2}, \d{4}$", text, re.M)
