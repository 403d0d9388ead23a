/* restore - an earlier generation becomes the newest, or is unpacked somewhere else.
 *
 * Into the vault: the open one is locked, so that what is in RAM is saved first; process 1 has the file
 * rewritten, with the content of that generation under a new number; and it is opened again. Nothing is
 * lost on the way: what was the newest is kept as an earlier one.
 *
 * Into a directory: by the opener and unpacker of process 1, executed by this command. The tree grows in a
 * directory of its own inside, and is moved up when both have succeeded; else it is deleted. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <grp.h>
#include <unistd.h>

#include "../init/wire.h"
#include "aside.h"
#include "beside.h"
#include "client.h"
#include "command.h"
#include "credential.h"
#include "meanwhile.h"
#include "prompt.h"
#include "rewrite.h"

struct wanted {
    uint64_t generation;
    const char *to; /* NULL: into the vault */
    bool force_disk;
    bool force;
    struct flags f;
};

static int set_error(struct wire_error *e, int code, const char *word, const char *text)
{
    wire_error_set(e, code, word, text);
    return -1;
}

static int system_error(struct wire_error *e, const char *what, const char *name)
{
    char text[WIRE_TEXT_MAX];

    (void)snprintf(text, sizeof text, "%s %.200s: %s", what, name, strerror(errno));
    return set_error(e, EX_TP_IO, errno == ENOSPC ? "disk-full" : "io", text);
}

/* With the credential that opens the vault. What is typed behind it is not shown, until the caller says so. */
static int get_order(const struct wanted *w, struct secret *order, struct wire_error *e)
{
    if (order_new(order, ORDER_OPEN) < 0)
        return set_error(e, EX_TP_FAULT, "failed", "out of memory");
    if (credential_is_typed(&w->f))
        prompt_hush();
    return credential_get(&w->f, &order_of(order)->current, e);
}

/* --- into a directory --- */

/* Everything below dir, whatever its modes; dir stays. The first error ends it. */
static int empty(int dir)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *d = again < 0 ? NULL : fdopendir(again);
    struct dirent *one;

    if (!d) {
        if (again >= 0)
            close(again);
        return -1;
    }
    while (rc == 0 && (one = readdir(d))) {
        int below;

        if (strcmp(one->d_name, ".") == 0 || strcmp(one->d_name, "..") == 0 || unlinkat(dir, one->d_name, 0) == 0)
            continue;
        (void)!fchmodat(dir, one->d_name, 0700, 0); /* no link: that would be gone; whether it helped the open tells */
        below = openat(dir, one->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        rc = below < 0 ? -1 : empty(below);
        if (below >= 0)
            close(below);
        if (rc == 0)
            rc = unlinkat(dir, one->d_name, AT_REMOVEDIR);
    }
    closedir(d);
    return rc;
}

static int is_empty(int dir)
{
    int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), n = 0;
    DIR *d = again < 0 ? NULL : fdopendir(again);

    if (!d)
        return -1;
    while (readdir(d))
        n++;
    closedir(d);
    return n == 2;
}

/* Opens it if it may take clear text. Run by root, this process becomes its owner: the files are his. */
static int open_target(const struct wanted *w, struct wire_error *e)
{
    int dir = open(w->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC), n;
    struct statfs fs;
    struct stat sb;

    if (dir < 0)
        return system_error(e, "open", w->to);
    if (fstat(dir, &sb) < 0 || fstatfs(dir, &fs) < 0) {
        system_error(e, "look at", w->to);
        goto failed;
    }
    if (fs.f_type != TMPFS_MAGIC && fs.f_type != RAMFS_MAGIC && !w->force_disk) {
        set_error(e, EX_TP_UNAVAILABLE, "not-ram",
                  "that directory is not on tmpfs or ramfs, so that clear text would reach a disk: take one that is, "
                  "or say --force-disk");
        goto failed;
    }
    n = is_empty(dir);
    if (n < 0) {
        system_error(e, "read", w->to);
        goto failed;
    }
    if (!n) {
        set_error(e, EX_TP_CANT_CREATE, "exists", "that directory is not empty: take one that is");
        goto failed;
    }
    if (geteuid() == 0 && sb.st_uid != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(sb.st_gid, sb.st_gid, sb.st_gid) < 0 ||
         setresuid(sb.st_uid, sb.st_uid, sb.st_uid) < 0)) {
        system_error(e, "become the owner of", w->to);
        goto failed;
    }
    return dir;
failed:
    close(dir);
    return -1;
}

static int make_staging(int dir, char name[32], struct wire_error *e)
{
    uint32_t r = 0;

    if (getrandom(&r, sizeof r, 0) != (ssize_t)sizeof r)
        return system_error(e, "make a name in", "the directory");
    (void)snprintf(name, 32, ".restoring-%08x", r);
    if (mkdirat(dir, name, 0700) < 0)
        return system_error(e, "make a directory", name);
    return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A directory that changes its parent has to be writable itself: its ".." changes. */
static int move_one(int staging, int dir, const char *name)
{
    struct stat sb;
    int locked = fstatat(staging, name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(sb.st_mode) && !(sb.st_mode & S_IWUSR);

    if (locked && fchmodat(staging, name, 0700, 0) < 0)
        return -1;
    if (syscall(SYS_renameat2, staging, name, dir, name, 1u /* RENAME_NOREPLACE */) < 0)
        return -1;
    return locked ? fchmodat(dir, name, sb.st_mode & 0777, 0) : 0;
}

static int move_up(int staging, int dir, struct wire_error *e)
{
    int again = openat(staging, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *d = again < 0 ? NULL : fdopendir(again);
    struct dirent *one;

    if (!d)
        return system_error(e, "read", "what was unpacked");
    while (rc == 0 && (one = readdir(d)))
        if (strcmp(one->d_name, ".") != 0 && strcmp(one->d_name, "..") != 0 &&
            move_one(staging, dir, one->d_name) < 0)
            rc = system_error(e, "move", one->d_name);
    closedir(d);
    return rc;
}

/* The workers are in the terminal's process group, so keys end them, and their end is cleaned up after; who
 * signals this process alone ends them through it. */
static volatile pid_t at_work[2];

static void end_work(int sig)
{
    (void)sig;
    for (int i = 0; i < 2; i++)
        if (at_work[i] > 0)
            (void)kill(at_work[i], SIGKILL);
}

static void catch_signals(void)
{
    static const int SIGNALS[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction act = {.sa_handler = end_work};

    for (size_t i = 0; i < sizeof SIGNALS / sizeof *SIGNALS; i++)
        (void)sigaction(SIGNALS[i], &act, NULL);
}

static int unpack(const char *file, const struct secret *order, int staging, struct result *r, struct wire_error *e)
{
    struct aside opener = {0, -1}, unpacker = {0, -1};
    struct wire_error second = {0};
    struct result opened;
    int fds[2] = {-1, -1}, rc = -1, rc2 = -1;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return set_error(e, EX_TP_FAULT, "failed", "a pipe can't be made");
    if (aside_start_opener(&opener, file, fds[1], e) < 0 || aside_start_unpacker(&unpacker, fds[0], staging, e) < 0)
        goto out;
    at_work[0] = opener.pid;
    at_work[1] = unpacker.pid;
    close(fds[0]);
    close(fds[1]);
    fds[0] = fds[1] = -1;
    if (aside_job(&opener, JOB_OPEN, order, e) < 0 || aside_job(&unpacker, JOB_UNPACK, NULL, e) < 0)
        goto out;
    rc = aside_result(&opener, JOB_OPEN, &opened, e);
    rc2 = aside_result(&unpacker, JOB_UNPACK, r, &second);
    r->generation = opened.generation;
    /* Of two that failed, the one that did not fail because of the other. */
    if (rc2 < 0 && (rc == 0 || strcmp(e->word, "partner-ended") == 0))
        *e = second;
    rc = rc < 0 || rc2 < 0 ? -1 : 0;
out:
    at_work[0] = at_work[1] = 0;
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    aside_end(&opener);
    aside_end(&unpacker);
    return rc;
}

static int restore_to(const struct wanted *w, const char *file, const struct secret *order, int dir,
                      struct result *r, struct wire_error *e)
{
    char name[32];
    int rc = -1, gone = 0, staging = make_staging(dir, name, e);

    if (staging < 0)
        return -1;
    catch_signals();
    if (unpack(file, order, staging, r, e) < 0)
        gone = empty(staging);
    else if (move_up(staging, dir, e) < 0)
        gone = empty(dir); /* it was empty before, so all that is there is ours */
    else
        rc = 0;
    if (gone < 0 || (unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT))
        say("what was unpacked into %s could not be deleted: %s", w->to, strerror(errno));
    close(staging);
    return rc;
}

static int into_directory(const struct wanted *w, const char *vault)
{
    static struct result r;
    struct secret order = {0};
    struct wire_error e = {0};
    struct beside *list = NULL;
    const struct beside *found;
    char file[4096 + 256], text[WIRE_TEXT_MAX];
    int dir = -1, rc = -1, n = beside_list(vault, &list);

    found = n > 0 ? beside_find(list, n, w->generation) : NULL;
    if (!found || !beside_path(vault, found, file, sizeof file)) {
        (void)snprintf(text, sizeof text, "there is no generation %" PRIu64 " beside %.200s: see tazpod history",
                       w->generation, vault);
        set_error(&e, EX_TP_NO_VAULT, "no-generation", text);
        goto out;
    }
    dir = open_target(w, &e);
    if (dir < 0)
        goto out;
    if (get_order(w, &order, &e) == 0)
        rc = restore_to(w, file, &order, dir, &r, &e);
    secret_free(&order);
    prompt_unhush();
out:
    free(list);
    if (dir >= 0)
        close(dir);
    if (rc < 0)
        return say_error("restore", &e);
    if (r.swap == SWAP_SWAPPABLE)
        say("the directory is swappable: clear text may reach a swap device (see swap in tazpod(1))");
    say("generation %" PRIu64 " is in %s: %" PRIu64 " file%s; it is no part of the vault, and nothing deletes it",
        r.generation, w->to, r.files, r.files == 1 ? "" : "s");
    say_done(r.generation);
    return EX_TP_OK;
}

/* --- into the vault --- */

static int is_earlier(const struct wanted *w, const char *vault, struct wire_error *e)
{
    struct beside *list = NULL;
    char text[WIRE_TEXT_MAX];
    int n = beside_list(vault, &list), there = 0, newest = 0;

    for (int i = 0; i < n; i++)
        if (!list[i].damaged[0] && list[i].gen == w->generation) {
            there |= list[i].kind == BESIDE_EARLIER;
            newest |= list[i].kind == BESIDE_VAULT;
        }
    free(list);
    if (there)
        return 0;
    (void)snprintf(text, sizeof text,
                   newest ? "generation %" PRIu64 " is the newest already: its content is what unlock opens"
                          : "there is no earlier generation %" PRIu64 ": see tazpod history",
                   w->generation);
    return set_error(e, EX_TP_NO_VAULT, "no-generation", text);
}

static int into_vault(const struct wanted *w)
{
    static struct reply r;
    struct secret order = {0};
    struct wire_error e = {0};
    struct locked_meanwhile m = {0};
    int rc = -1;

    client_request(REQ_STATUS, 0, &r);
    if (r.error.word[0])
        return say_error("restore", &r.error);
    if (r.status.state == VAULT_ABSENT)
        return say_error("restore", &r.status.problem);
    if (is_earlier(w, r.status.vault, &e) < 0)
        return say_error("restore", &e);
    if (get_order(w, &order, &e) < 0)
        goto out;
    prompt_unhush(); /* before its descriptor goes */
    if (meanwhile_begin(&m, &order, w->force, w->f.json, &e) < 0)
        goto out;
    order_of(&order)->op = ORDER_RESTORE;
    order_of(&order)->generation = w->generation;
    rc = rewrite_request(&order, &r, &e);
    rc = meanwhile_end(&m, &order, rc, &e);
out:
    secret_free(&order);
    prompt_unhush();
    if (rc < 0)
        return say_error("restore", &e);
    say("the content of generation %" PRIu64 " is the newest now, as generation %" PRIu64 "; the vault is %s",
        w->generation, r.status.generation, m.open ? "open" : "locked");
    say_done(r.status.generation);
    return EX_TP_OK;
}

/* --- words --- */

/* Takes its own flags out of the line and leaves the rest to the parser of all. */
static int parse(int argc, char **argv, struct wanted *w)
{
    char *rest[64] = {argv[0]}, *end;
    int n = 1;

    if (argc < 2 || argc > 60 || argv[1][0] < '0' || argv[1][0] > '9') {
        say("restore: which generation? tazpod restore GENERATION: see tazpod history");
        return EX_TP_USAGE;
    }
    errno = 0;
    w->generation = strtoull(argv[1], &end, 10);
    if (*end || errno) {
        say("restore: %s is no generation: see tazpod history", argv[1]);
        return EX_TP_USAGE;
    }
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--force") == 0)
            w->force = true;
        else if (strcmp(argv[i], "--force-disk") == 0)
            w->force_disk = true;
        else if (strncmp(argv[i], "--to=", 5) == 0)
            w->to = argv[i] + 5;
        else if (strcmp(argv[i], "--to") == 0 && i + 1 < argc)
            w->to = argv[++i];
        else
            rest[n++] = argv[i];
    }
    if ((w->to && w->force) || (!w->to && w->force_disk)) {
        say("restore: --force goes without --to, and --force-disk with it");
        return EX_TP_USAGE;
    }
    return flags_parse(n, rest, FLAGS_PASSPHRASE | FLAGS_CREDENTIAL | FLAGS_OUTCOME, &w->f);
}

int cli_restore(int argc, char **argv)
{
    struct wanted w = {0};
    char vault[4096];
    int rc = parse(argc, argv, &w);

    if (rc != EX_TP_OK)
        return rc;
    (void)signal(SIGPIPE, SIG_IGN);
    if (!w.to)
        return into_vault(&w);
    return beside_vault("restore", vault, sizeof vault, &rc) ? into_directory(&w, vault) : rc;
}
