#include "signals.h"

#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "number.h"

enum { MASK_BYTES = 8 }; /* the kernel's sigset_t */

static uint64_t bit(int sig)
{
    return (uint64_t)1 << (sig - 1);
}

/* A fault while its signal is blocked is the end of the process, without a word. */
static uint64_t all_but_faults(void)
{
    return ~(bit(SIGSEGV) | bit(SIGBUS) | bit(SIGABRT) | bit(SIGILL) | bit(SIGFPE));
}

static void set_mask(uint64_t mask)
{
    (void)syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, MASK_BYTES);
}

void signals_block(void)
{
    set_mask(all_but_faults());
}

void signals_unblock(void)
{
    set_mask(0);
}

void signals_default(void)
{
    /* The kernel's struct sigaction with SIG_DFL and no flags is zeros on every architecture. */
    unsigned long action[8];

    memset(action, 0, sizeof action);
    for (int sig = 1; sig <= SIGNAL_MAX; sig++)
        if (sig != SIGKILL && sig != SIGSTOP)
            (void)syscall(SYS_rt_sigaction, sig, action, NULL, MASK_BYTES);
}

int signals_open(void)
{
    uint64_t mask = all_but_faults();

    return (int)syscall(SYS_signalfd4, -1, &mask, MASK_BYTES, SFD_NONBLOCK | SFD_CLOEXEC);
}

static int take(uint64_t mask, const struct timespec *time)
{
    sigset_t set; /* the C library's is larger, the kernel reads the front of it */
    int sig;

    memset(&set, 0, sizeof set);
    memcpy(&set, &mask, sizeof mask);
    sig = sigtimedwait(&set, NULL, time);
    return sig > 0 ? sig : 0;
}

int signals_take(void)
{
    static const struct timespec now;
    /* Lower numbers come first: a flood of children that end would hold back all above it. */
    int sig = take(all_but_faults() & ~bit(SIGCHLD), &now);

    return sig ? sig : take(all_but_faults(), NULL);
}

static int whole(const char *text, int most)
{
    int64_t v = number_read(&text, most);

    return *text ? -1 : (int)v;
}

int signals_number(const char *name)
{
    static const char *const NAMES[] = {
        [SIGHUP] = "HUP",       [SIGINT] = "INT",     [SIGQUIT] = "QUIT", [SIGILL] = "ILL",
        [SIGTRAP] = "TRAP",     [SIGABRT] = "ABRT",   [SIGBUS] = "BUS",   [SIGFPE] = "FPE",
        [SIGKILL] = "KILL",     [SIGUSR1] = "USR1",   [SIGSEGV] = "SEGV", [SIGUSR2] = "USR2",
        [SIGPIPE] = "PIPE",     [SIGALRM] = "ALRM",   [SIGTERM] = "TERM", [SIGSTKFLT] = "STKFLT",
        [SIGCHLD] = "CHLD",     [SIGCONT] = "CONT",   [SIGSTOP] = "STOP", [SIGTSTP] = "TSTP",
        [SIGTTIN] = "TTIN",     [SIGTTOU] = "TTOU",   [SIGURG] = "URG",   [SIGXCPU] = "XCPU",
        [SIGXFSZ] = "XFSZ",     [SIGVTALRM] = "VTALRM", [SIGPROF] = "PROF", [SIGWINCH] = "WINCH",
        [SIGIO] = "IO",         [SIGPWR] = "PWR",     [SIGSYS] = "SYS",
    };
    int n;

    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    if (*name >= '0' && *name <= '9') {
        n = whole(name, SIGNAL_MAX);
        return n == 0 ? -1 : n;
    }
    if (strncmp(name, "RTMIN", 5) == 0 || strncmp(name, "RTMAX", 5) == 0) {
        bool from_least = name[4] == 'N';

        n = name[5] == '\0' ? 0 : name[5] == (from_least ? '+' : '-') && name[6] ? whole(name + 6, 30) : -1;
        return n < 0 ? -1 : from_least ? SIGNAL_RTMIN + n : SIGNAL_MAX - n;
    }
    for (n = 1; n < (int)(sizeof NAMES / sizeof *NAMES); n++)
        if (NAMES[n] && strcmp(NAMES[n], name) == 0)
            return n;
    return -1;
}

int signals_is_stop(int sig)
{
    return sig == SIGTERM || sig == SIGINT || sig == SIGPWR || sig == SIGNAL_ENGINE_STOP;
}
