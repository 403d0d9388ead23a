#include "askpass.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../vault/base/io.h"

static const char *program(void)
{
    const char *p = getenv("TAZPOD_ASKPASS");

    return p && *p ? p : NULL;
}

static bool require_is(const char *word)
{
    const char *p = getenv("TAZPOD_ASKPASS_REQUIRE");

    return p && strcmp(p, word) == 0;
}

bool askpass_wanted(void)
{
    return program() && !require_is("never");
}

bool askpass_forced(void)
{
    return askpass_wanted() && require_is("force");
}

static void become(int out, const char *question)
{
    char *argv[] = {(char *)program(), (char *)question, NULL};

    (void)prctl(PR_SET_PDEATHSIG, SIGTERM); /* nobody waits for its answer any more */
    if (dup2(out, STDOUT_FILENO) >= 0)
        (void)execvp(argv[0], argv);
    _exit(127);
}

int askpass(const char *question, struct secret *answer)
{
    int fds[2], wait_status = 0;
    ssize_t n;
    pid_t pid, ended;

    answer->len = 0;
    if (pipe2(fds, O_CLOEXEC) < 0)
        return -1;
    pid = fork();
    if (pid == 0)
        become(fds[1], question);
    close(fds[1]);
    n = pid < 0 ? -1 : io_read(fds[0], answer->data, answer->size);
    close(fds[0]); /* one that goes on talking finds nobody to hear it */
    if (pid < 0)
        return -1;
    while ((ended = waitpid(pid, &wait_status, 0)) < 0 && errno == EINTR)
        ;
    if (ended != pid)
        return 1;
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 127)
        return -1;
    if (n < 0 || !WIFEXITED(wait_status) || WEXITSTATUS(wait_status) != 0)
        return 1;
    /* Its first line, as of SSH_ASKPASS. */
    while (answer->len < (size_t)n && answer->data[answer->len] != '\n' && answer->data[answer->len] != '\r')
        answer->len++;
    return 0;
}
