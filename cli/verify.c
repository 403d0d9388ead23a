/* verify - is a vault file whole, and does this passphrase open it? Nothing is unpacked.
 *
 * The file is read by the same worker that PID 1 would execute, behind the same filter; here this
 * process takes PID 1's part. The data key it returns is wiped unread. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../init/wire.h"
#include "command.h"
#include "passphrase.h"
#include "prompt.h"
#include "work.h"

static int failed(struct wire_error *e, const char *text)
{
    wire_error_set(e, EX_TP_FAULT, "failed", text);
    return -1;
}

/* In the child: descriptors as docs/control-protocol.md fixes them. */
static void become_opener(int channel, const char *file)
{
    char *argv[] = {(char *)"tazpod-worker", (char *)"open", (char *)file, NULL};
    char *environment[] = {NULL};
    int null = open("/dev/null", O_RDWR);
    struct stat sb;

    /* The worker gives up root's rights over other people's files, so it becomes who the file is. */
    if (geteuid() == 0 && stat(file, &sb) == 0 && sb.st_uid != 0 &&
        (setgroups(0, NULL) < 0 || setresgid(sb.st_gid, sb.st_gid, sb.st_gid) < 0 ||
         setresuid(sb.st_uid, sb.st_uid, sb.st_uid) < 0))
        _exit(126);
    if (null < 0 || dup2(null, WORK_IN) < 0 || dup2(null, WORK_OUT) < 0 || dup2(channel, WORK_CHANNEL) < 0)
        _exit(126);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* whoever gives up waiting ends the derivation too */
    (void)execve("/proc/self/exe", argv, environment);
    _exit(127);
}

static pid_t start_opener(const char *file, int *channel)
{
    int pair[2];
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return -1;
    pid = fork();
    if (pid == 0)
        become_opener(pair[1], file);
    close(pair[1]);
    *channel = pair[0];
    return pid;
}

static int converse(int channel, int passphrase, struct result *result, struct wire_error *e)
{
    static struct job job = {.magic = WIRE_MAGIC, .kind = JOB_OPEN};
    struct message out = {&job, sizeof job, NULL, 0}, in = {result, sizeof *result, NULL, 0};
    struct secret key = {0};
    struct ready ready;
    struct message hello = {&ready, sizeof ready, NULL, 0};
    int passed, rc = -1;

    if (secret_new(&key, WIRE_KEY_SIZE) < 0)
        return failed(e, "out of memory");
    in.tail = key.data;
    in.tail_len = WIRE_KEY_SIZE;
    if (wire_recv(channel, &hello, &passed, 0) != (ssize_t)sizeof ready || ready.magic != WIRE_MAGIC ||
        wire_send(channel, &out, passphrase, 0) < 0 ||
        wire_recv(channel, &in, &passed, 0) < (ssize_t)sizeof *result || result->magic != WIRE_MAGIC) {
        failed(e, "the worker that reads the file died");
        goto out;
    }
    wire_error_close(&result->error);
    *e = result->error;
    rc = e->word[0] ? -1 : 0;
out:
    secret_free(&key);
    return rc;
}

static int verify(const char *file, const struct flags *f, struct result *result, struct wire_error *e)
{
    struct secret passphrase = {0};
    int channel = -1, pipe = -1, rc = -1;
    pid_t pid = -1;

    if (passphrase_get(f, false, &passphrase, e) < 0)
        return -1;
    pipe = passphrase_pipe(&passphrase);
    secret_free(&passphrase);
    if (pipe < 0 || (pid = start_opener(file, &channel)) < 0)
        failed(e, "the worker that reads the file can't be started");
    else
        rc = converse(channel, pipe, result, e);
    if (pipe >= 0)
        close(pipe);
    if (channel >= 0)
        close(channel);
    if (pid > 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    return rc;
}

int cli_verify(int argc, char **argv)
{
    static struct result result;
    struct wire_error e;
    struct flags f;
    char *file = NULL, when[40] = "an unknown time";
    time_t at;
    struct tm tm;
    int rc;

    if (argc < 2 || argv[1][0] == '-') {
        say("verify: which file? tazpod verify FILE");
        return EX_TP_USAGE;
    }
    rc = flags_parse(argc - 1, argv + 1, FLAGS_PASSPHRASE, &f);
    if (rc != EX_TP_OK)
        return rc;
    file = realpath(argv[1], NULL);
    if (!file) {
        rc = errno == ENOENT || errno == ENOTDIR ? EX_TP_NO_VAULT : EX_TP_IO;
        say("can't verify %s: %s", argv[1], strerror(errno));
        return rc;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    if (passphrase_is_typed(&f))
        prompt_hush();
    rc = verify(file, &f, &result, &e);
    prompt_unhush();
    if (rc < 0) {
        rc = say_error("verify", &e);
    } else {
        at = (time_t)result.saved_at;
        if (gmtime_r(&at, &tm))
            (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
        say("%s is whole: generation %" PRIu64 ", saved %s", argv[1], result.generation, when);
    }
    free(file);
    return rc;
}
