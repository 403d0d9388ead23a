#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "caps.h"
#include "log.h"
#include "signals.h"

#ifndef SYS_close_range
#define SYS_close_range 436 /* the same number on every architecture */
#endif

void child_fill_standard(void)
{
    for (int fd = 0; fd <= 2; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY); /* lands on the lowest: fd */
}

static void nothing(int sig)
{
    (void)sig;
}

/* Until it executes PID 1 waits for it, so keys must not stop it. What is caught, and not ignored, is
 * back at its default behind the exec. */
static void not_to_be_stopped(void)
{
    (void)signal(SIGTSTP, nothing);
    (void)signal(SIGTTIN, nothing);
    (void)signal(SIGTTOU, nothing);
}

static void become(char **command, bool bar)
{
    int code;

    (void)setpgid(0, 0);
    /* TTOU is still blocked. No terminal, or one that is not ours, is no error: ENOTTY, EBADF,
     * ENXIO, EPERM. */
    (void)tcsetpgrp(STDIN_FILENO, getpgrp());
    if (bar)
        caps_bar_child();
    not_to_be_stopped();
    signals_unblock();
    (void)execvp(command[0], command);
    code = errno == ENOENT || errno == ENOTDIR ? 127 : 126;
    {
        struct line l;

        line_start(&l, "error");
        line_text(&l, "command", command[0]);
        line_text(&l, "cause", code == 127 ? "not found" : "can't be executed");
        line_end(&l);
    }
    _exit(code);
}

pid_t child_start(char **command, bool bar)
{
    /* It runs in PID 1's memory until it executes, so nothing is copied. It changes none of it, and no uid. */
    pid_t pid = vfork();

    if (pid == 0)
        become(command, bar);
    if (pid > 0)
        (void)setpgid(pid, pid); /* in both: whoever comes first; a group signal must not miss it */
    return pid;
}

pid_t child_foreground(void)
{
    return tcgetpgrp(STDIN_FILENO);
}

void child_give_back(pid_t foreground)
{
    int fd = foreground > 0 ? open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    (void)tcsetpgrp(fd, foreground); /* TTOU is blocked; a group that is gone is no error */
    close(fd);
}

static void close_between(unsigned first, unsigned last)
{
    if (first > last)
        return;
    if (syscall(SYS_close_range, first, last, 0) == 0)
        return;
    for (unsigned fd = first; fd <= last && fd < 1024; fd++) /* before Linux 5.9 */
        close((int)fd);
}

void child_let_go(const int *keep, int n)
{
    unsigned from = 3;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null >= 0) {
        (void)dup2(null, STDIN_FILENO);
        (void)dup2(null, STDOUT_FILENO);
        close(null);
    }
    (void)!chdir("/");
    for (;;) { /* the gaps between what is kept, upwards */
        unsigned next = ~0u;

        for (int i = 0; i < n; i++)
            if (keep[i] >= 0 && (unsigned)keep[i] >= from && (unsigned)keep[i] < next)
                next = (unsigned)keep[i];
        if (next == ~0u)
            break;
        if (next > from)
            close_between(from, next - 1);
        from = next + 1;
    }
    close_between(from, ~0u);
}

int child_exit_status(int wait_status)
{
    return WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
}
