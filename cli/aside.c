#include "aside.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../init/wire.h"
#include "passphrase.h"
#include "work.h"

static int failed(struct wire_error *e, const char *text)
{
    wire_error_set(e, EX_TP_FAULT, "failed", text);
    return -1;
}

/* The worker gives up root's rights over other people's files, so it becomes who the file is. */
static int become(const struct stat *sb)
{
    if (geteuid() != 0 || sb->st_uid == 0)
        return 0;
    return setgroups(0, NULL) < 0 || setresgid(sb->st_gid, sb->st_gid, sb->st_gid) < 0 ||
                   setresuid(sb->st_uid, sb->st_uid, sb->st_uid) < 0
               ? -1
               : 0;
}

/* In the child: descriptors as docs/control-protocol.md fixes them, moved out of each other's way first. */
static void execute(const char *name, const char *file, int in, int out, int channel, int tree, const struct stat *sb)
{
    char *argv[] = {(char *)"tazpod-worker", (char *)name, (char *)file, NULL};
    char *environment[] = {NULL};
    int wanted[] = {in, out, tree, channel}, places[] = {WORK_IN, WORK_OUT, WORK_TREE, WORK_CHANNEL};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    for (int i = 0; i < 4; i++) {
        wanted[i] = wanted[i] < 0 && places[i] != WORK_TREE ? null : wanted[i];
        if (wanted[i] >= 0)
            wanted[i] = fcntl(wanted[i], F_DUPFD_CLOEXEC, 10);
        if (wanted[i] < 0 && places[i] != WORK_TREE)
            _exit(126);
    }
    for (int i = 0; i < 4; i++)
        if (wanted[i] >= 0 && dup2(wanted[i], places[i]) < 0)
            _exit(126);
    if (become(sb) < 0)
        _exit(126);
    (void)signal(SIGPIPE, SIG_IGN); /* a worker whose partner dies says so */
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* whoever gives up waiting ends the derivation too */
    (void)execve("/proc/self/exe", argv, environment);
    _exit(127);
}

static int start(struct aside *a, const char *name, const char *file, int in, int out, int tree, const struct stat *sb,
                 struct wire_error *e)
{
    int pair[2];

    a->pid = 0;
    a->channel = -1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return failed(e, "a socket can't be made");
    a->pid = fork();
    if (a->pid == 0)
        execute(name, file, in, out, pair[1], tree, sb);
    close(pair[1]);
    a->channel = pair[0];
    if (a->pid < 0) {
        a->pid = 0;
        return failed(e, "the worker that reads the file can't be started");
    }
    return 0;
}

int aside_start_opener(struct aside *a, const char *file, int out, struct wire_error *e)
{
    struct stat sb;

    if (stat(file, &sb) < 0)
        sb.st_uid = 0; /* the opener says what it finds there */
    return start(a, "open", file, -1, out, -1, &sb, e);
}

int aside_start_unpacker(struct aside *a, int in, int tree, struct wire_error *e)
{
    struct stat sb;

    if (fstat(tree, &sb) < 0)
        return failed(e, "the directory can't be looked at");
    return start(a, "unpack", "", in, -1, tree, &sb, e);
}

static int died(struct wire_error *e, enum job_kind kind)
{
    return failed(e, kind == JOB_OPEN ? "the worker that reads the file died" : "the worker that writes the files died");
}

int aside_job(struct aside *a, enum job_kind kind, const struct secret *order, struct wire_error *e)
{
    struct job job = {.magic = WIRE_MAGIC, .kind = kind, .flags = kind == JOB_OPEN ? JOB_ASIDE : 0};
    struct message out = {&job, sizeof job, NULL, 0};
    struct ready ready = {0};
    struct message hello = {&ready, sizeof ready, NULL, 0};
    int passed, rc = -1, pipe = -1;

    if (order && (pipe = passphrase_pipe(order)) < 0)
        return failed(e, "a pipe can't be made");
    if (wire_recv(a->channel, &hello, &passed, 0) == (ssize_t)sizeof ready && ready.magic == WIRE_MAGIC &&
        wire_send(a->channel, &out, pipe, 0) >= 0)
        rc = 0;
    if (pipe >= 0)
        close(pipe);
    return rc < 0 ? died(e, kind) : 0;
}

int aside_result(struct aside *a, enum job_kind kind, struct result *r, struct wire_error *e)
{
    struct message in = {r, sizeof *r, NULL, 0};
    struct secret key = {0};
    ssize_t n;
    int passed = -1;

    if (secret_new(&key, WIRE_KEY_SIZE) < 0)
        return failed(e, "out of memory");
    in.tail = key.data;
    in.tail_len = WIRE_KEY_SIZE;
    n = wire_recv(a->channel, &in, &passed, 0);
    secret_free(&key);
    if (passed >= 0)
        close(passed); /* a reserve, for a last save that there will not be */
    if (n < (ssize_t)sizeof *r || r->magic != WIRE_MAGIC || r->kind != kind)
        return died(e, kind);
    wire_error_close(&r->error);
    *e = r->error;
    return e->word[0] ? -1 : 0;
}

void aside_end(struct aside *a)
{
    if (a->channel >= 0)
        close(a->channel);
    a->channel = -1;
    if (a->pid <= 0)
        return;
    (void)kill(a->pid, SIGKILL); /* one that has told its result is about to go anyway */
    while (waitpid(a->pid, NULL, 0) < 0 && errno == EINTR)
        ;
    a->pid = 0;
}

int aside_verify(const char *file, const struct secret *order, struct result *r, struct wire_error *e)
{
    struct aside opener = {0, -1};
    int rc = -1;

    if (aside_start_opener(&opener, file, -1, e) == 0 && aside_job(&opener, JOB_OPEN, order, e) == 0)
        rc = aside_result(&opener, JOB_OPEN, r, e);
    aside_end(&opener);
    return rc;
}
