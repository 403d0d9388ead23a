#include "signals.h"

#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

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

int signals_is_stop(int sig)
{
    return sig == SIGTERM || sig == SIGINT || sig == SIGPWR || sig == SIGNAL_ENGINE_STOP;
}
