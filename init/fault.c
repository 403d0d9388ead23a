#include "fault.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "number.h"
#include "protocol.h"
#include "signals.h"

enum {
    STACK = 16384,
    DESCRIPTORS = 256, /* more than PID 1 ever has */
    VARIABLES = 4096,
};

#define VARIABLE "TAZPOD_INIT_RECORD" /* =DESCRIPTOR:SIGNAL, for this program alone */

static struct {
    pid_t pid;
    int self, record;
    char **argv;
    void (*sent)(int sig);
    int (*late_record)(void);
} plan;

static char stack[STACK];
static char variable[sizeof VARIABLE + 16];
static char *environment[VARIABLES + 2];

extern char **environ;

static char *put_number(char *to, int n)
{
    if (n >= 10)
        to = put_number(to, n / 10);
    *to = (char)('0' + n % 10);
    return to + 1;
}

static void make_environment(int sig)
{
    int n = 0;
    char *end;

    memcpy(variable, VARIABLE "=", sizeof VARIABLE);
    end = put_number(variable + sizeof VARIABLE, plan.record);
    *end++ = ':';
    *put_number(end, sig) = '\0';
    environment[n++] = variable;
    for (char **e = environ; e && *e && n < VARIABLES; e++)
        environment[n++] = *e;
    environment[n] = NULL;
}

/* System calls and its own statics, nothing else: whatever is broken, it is not to be touched. */
static void on_fault(int sig, siginfo_t *info, void *context)
{
    (void)context;
    if (getpid() != plan.pid) /* a child on its way to its exec */
        _exit(128 + sig);
    if (info->si_code <= 0 && info->si_pid != plan.pid) {
        plan.sent(sig);
        return;
    }
    if (plan.record < 0)
        plan.record = plan.late_record();
    for (int fd = STDERR_FILENO + 1; fd < DESCRIPTORS; fd++)
        (void)fcntl(fd, F_SETFD, 0);
    make_environment(sig);
    if (plan.record >= 0 && plan.self >= 0)
        (void)syscall(SYS_execveat, plan.self, "", plan.argv, environment, AT_EMPTY_PATH);
    _exit(EX_TP_FAULT);
}

int fault_self(void)
{
    return open("/proc/self/exe", O_PATH | O_CLOEXEC);
}

void fault_install(char **argv, int self, int record, void (*sent)(int sig), int (*late_record)(void))
{
    static const int FAULTS[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};
    const stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction act;

    plan.pid = getpid();
    plan.self = self;
    plan.record = record;
    plan.argv = argv;
    plan.sent = sent;
    plan.late_record = late_record;
    memset(&act, 0, sizeof act);
    act.sa_sigaction = on_fault;
    /* NODEFER: a fault while its signal is blocked would be the end. */
    act.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    (void)sigaltstack(&own, NULL);
    for (size_t i = 0; i < sizeof FAULTS / sizeof *FAULTS; i++)
        (void)sigaction(FAULTS[i], &act, NULL);
    signals_block(); /* musl unblocks two numbers of its own with the first handler */
}

int fault_announced(int *sig)
{
    const char *text = getenv(VARIABLE);
    int64_t fd;

    if (!text)
        return -1;
    fd = number_read(&text, DESCRIPTORS);
    *sig = *text++ == ':' ? (int)number_read(&text, NSIG) : 0;
    (void)unsetenv(VARIABLE);
    /* Anybody may set a variable at the start, but not have a memfd be there. */
    return fd > STDERR_FILENO && fd < DESCRIPTORS && fcntl((int)fd, F_GET_SEALS) >= 0 ? (int)fd : -1;
}

int fault_count(int64_t times_ms[FAULT_TOO_MANY], int64_t now_ms)
{
    int n = 0;

    memmove(times_ms + 1, times_ms, (FAULT_TOO_MANY - 1) * sizeof *times_ms);
    times_ms[0] = now_ms;
    while (n < FAULT_TOO_MANY && times_ms[n] && now_ms - times_ms[n] < FAULT_WINDOW_MS)
        n++;
    return n;
}
