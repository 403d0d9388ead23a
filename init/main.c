/* tazpod-init - process 1 of a pod.
 *
 * Starts the main command, reaps, forwards, serves the control socket, and on a stop saves the
 * vault before anybody is signalled and again when all are gone. One thread, one epoll; after the
 * loop starts nothing is allocated. Where it is not process 1 it becomes a child subreaper. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "caps.h"
#include "child.h"
#include "log.h"
#include "notify.h"
#include "pod.h"
#include "record.h"
#include "signals.h"

#ifndef TAZPOD_VERSION
#define TAZPOD_VERSION "0"
#endif

static const char HELP[] =
    "usage: tazpod-init [OPTIONS] [--] [COMMAND [ARG...]]\n"
    "\n"
    "Process 1 of a container: reaps, forwards signals, and keeps an encrypted vault in RAM.\n"
    "\n"
    "  --vault FILE|none     the vault file (TAZPOD_VAULT; /workspace/.tazpod/vault.tpv)\n"
    "  --run-dir DIR         its place in RAM (TAZPOD_RUN_DIR; /run/tazpod)\n"
    "  --backend own|given|auto  a tmpfs of its own, or what is mounted there (TAZPOD_BACKEND; auto)\n"
    "  --ram-size SIZE       of its own tmpfs: 64M, 1G (TAZPOD_RAM_SIZE; 64M)\n"
    "  --require-noswap yes|no  refuse RAM that may be swapped out (TAZPOD_REQUIRE_NOSWAP; no)\n"
    "  --owner UID           whose it is, where this runs as root (TAZPOD_OWNER)\n"
    "  --program FILE        the program tazpod (TAZPOD_PROGRAM; beside this one)\n"
    "  --stop-timeout T      for a stop with an open vault (TAZPOD_STOP_TIMEOUT; 8s)\n"
    "  --worker-timeout T    for one save or unlock (TAZPOD_WORKER_TIMEOUT; 60s)\n"
    "  --lock-wait T         a lock waits for who holds the vault open (TAZPOD_LOCK_WAIT; 1s)\n"
    "  --log-format text|json  (TAZPOD_LOG_FORMAT; text)\n"
    "  --rewrite FROM:TO,..  the main command gets TO for FROM, nothing for 0 (TAZPOD_REWRITE)\n"
    "  --remap-exit N,..     these of its exit statuses become 0 (TAZPOD_REMAP_EXIT) -e N\n"
    "  --group yes|no        signal its process group (TAZPOD_GROUP; no)             -g\n"
    "  --parent-death SIGNAL when the parent dies (TAZPOD_PARENT_DEATH)              -p SIGNAL\n"
    "  --subreaper yes|no    it is one anyhow (TAZPOD_SUBREAPER)                     -s\n"
    "  --warn yes|no         log each orphan that ended (TAZPOD_WARN; no)            -w\n"
    "  --verbose N           log more (TAZPOD_VERBOSE; 0)                            -v\n"
    "  --version, --help                                                             -l, -h\n"
    "\n"
    "T is seconds, or milliseconds with ms: 8, 8s, 500ms. See tazpod-init(8).\n";

static const char LICENSE[] = "tazpod-init " TAZPOD_VERSION " is under the MIT license.\n";

static void say(int fd, const char *text)
{
    (void)!write(fd, text, strlen(text));
}

/* To the main command, as the table has it. In signal context too. */
static void forward(const struct pod *p, int sig)
{
    int becomes = options_rewritten(&p->options, sig);

    if (p->main_pid > 0 && becomes)
        (void)kill(p->options.group ? -p->main_pid : p->main_pid, becomes);
}

/* A stop signal stops the pod where a vault is configured, or where there is nothing else to give
 * it to. All others, and this one too under a plain init, are the main command's. */
static void on_signal(struct pod *p, int sig)
{
    if (sig == SIGCHLD)
        return;
    if (p->options.verbose > 1) {
        struct line l;

        line_start(&l, "signal");
        line_number(&l, "signal", sig);
        line_end(&l);
    }
    if (signals_is_stop(sig) && (p->configured || !p->main_pid))
        pod_on_stop(p);
    else
        forward(p, sig);
}

static void read_signals(struct pod *p)
{
    struct signalfd_siginfo info[16];
    ssize_t n;

    do { /* one that is not full has taken all there were */
        n = read(p->signals, info, sizeof info);
        for (ssize_t i = 0; i < n / (ssize_t)sizeof *info; i++)
            on_signal(p, (int)info[i].ssi_signo);
    } while (n == (ssize_t)sizeof info);
}

static void say_process(const char *word, pid_t pid, int status)
{
    struct line l;

    line_start(&l, word);
    line_number(&l, "pid", pid);
    if (status >= 0)
        line_number(&l, "status", status);
    line_end(&l);
}

/* Until nobody is left, every time: one SIGCHLD may stand for many. */
static void reap(struct pod *p)
{
    int wait_status;
    pid_t pid;

    while (!p->done && (pid = waitpid(-1, &wait_status, WNOHANG | __WALL)) > 0) {
        if (pid == p->main_pid ? p->options.verbose > 0 : p->options.warn || p->options.verbose > 1)
            say_process(pid == p->main_pid ? "main-ended" : "reap", pid, child_exit_status(wait_status));
        pod_on_child(p, pid, wait_status);
    }
}

static void loop(struct pod *p)
{
    struct epoll_event events[16];

    while (!p->done) {
        int n = epoll_wait(p->epoll, events, 16, pod_timeout(p));
        bool reaping = false;

        for (int i = 0; i < n && !p->done; i++) {
            int index = (int)(uint32_t)events[i].data.u64;

            switch ((enum source)(events[i].data.u64 >> 32)) {
            case SOURCE_SIGNALS: read_signals(p); reaping = true; break;
            case SOURCE_LISTENER: pod_on_listener(p); break;
            case SOURCE_CLIENT: pod_on_client(p, index); break;
            case SOURCE_WORKER: pod_on_worker(p, index); break;
            }
        }
        if (reaping && !p->done) /* after the channels: a worker's last word before its death */
            reap(p);
        if (!p->done)
            pod_on_time(p);
        if (p->changed && !p->done) {
            p->changed = false;
            record_keep(p->record, p);
        }
    }
}

/* A plain init with a main command waits for signals alone, and for no time. */
static void plain_loop(struct pod *p)
{
    while (!p->done) {
        int sig = signals_take();

        if (sig == SIGCHLD)
            reap(p);
        else if (sig)
            on_signal(p, sig);
    }
}

/* Not on the stack: 10 KB, zeroed by the kernel. */
static struct pod pod;

/* A fault signal that somebody sent, in signal context. */
static void pass_on(int sig)
{
    forward(&pod, sig);
}

/* Of a plain init, in signal context. */
static int late_record(void)
{
    int fd = record_open();

    record_keep(fd, &pod);
    return fd;
}

static bool is_plain(const struct pod *p)
{
    return !p->configured && p->sup.has_main;
}

static int open_loop(struct pod *p)
{
    p->epoll = p->signals = -1;
    if (is_plain(p))
        return 0;
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    p->signals = signals_open();
    if (p->epoll < 0 || p->signals < 0) {
        log_say("error", "the kernel refused epoll or signalfd");
        return -1;
    }
    pod_watch(p, p->signals, SOURCE_SIGNALS, 0);
    return 0;
}

static void settle(const struct pod *p)
{
    if (p->options.parent_death)
        (void)prctl(PR_SET_PDEATHSIG, (unsigned long)p->options.parent_death, 0, 0, 0);
    if (getpid() != 1) {
        (void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        caps_drop();
    }
}

/* What the main command need not wait for comes behind its start: signals that arrive before they are
 * read are pending, and before it there is nothing that a fault could lose. */

static int start(struct pod *p, char **argv)
{
    int keep[POD_KEEPS];

    settle(p);
    pod_prepare(p);
    p->foreground = -1;
    if (p->options.command[0]) {
        p->foreground = child_foreground();
        p->main_pid = child_start(p->options.command, p->configured);
        if (p->main_pid < 0) {
            log_say("error", "the main command can't be started: no process to be had");
            return -1;
        }
        p->sup.has_main = p->sup.main_running = true;
        p->sup.main_status = 128 + SIGKILL; /* if it outlives the stop */
        if (p->options.verbose > 0)
            say_process("main", p->main_pid, -1);
    }
    p->self = fault_self();
    /* What a plain init knows stays as it is: there is time to write it down when it faults. */
    p->record = p->configured ? record_open() : -1;
    fault_install(argv, p->self, p->record, pass_on, late_record);
    if (open_loop(p) < 0)
        return -1;
    pod_prepare_rest(p);
    child_let_go(keep, pod_keeps(p, keep));
    record_keep(p->record, p);
    return 0;
}

/* Executed again after a fault. */
static int come_back(struct pod *p, char **argv, int record, int sig)
{
    struct options options = p->options;

    if (!record_take(record, p)) {
        log_say("error", "process 1 faulted, and what it knew is lost");
        return -1;
    }
    p->options = options;
    p->record = record;
    if (p->configured) {
        (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        caps_lower();
    }
    fault_install(argv, p->self, p->record, pass_on, late_record);
    settle(p);
    if (open_loop(p) < 0)
        return -1;
    pod_resume(p, sig);
    reap(p);
    if (p->main_pid > 0 && waitid(P_PID, (id_t)p->main_pid, NULL, WEXITED | WNOHANG | WNOWAIT) < 0) {
        p->main_pid = 0; /* it was collected in the turn that faulted, and its status is lost */
        pod_event(p, &(struct event){.type = EVENT_MAIN_ENDED, .status = EX_TP_FAULT});
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *bad;
    int record, sig, rc;

    signals_block();
    signals_default();
    child_fill_standard();
    if (options_parse(argc, argv, &pod.options, &bad) < 0) {
        say(STDERR_FILENO, "tazpod-init: don't know what to make of ");
        say(STDERR_FILENO, bad);
        say(STDERR_FILENO, ": see tazpod-init --help\n");
        return EX_TP_USAGE;
    }
    if (pod.options.help || pod.options.version || pod.options.license) {
        say(STDOUT_FILENO, pod.options.help      ? HELP
                           : pod.options.license ? LICENSE
                                                 : "tazpod-init " TAZPOD_VERSION "\n");
        return EX_TP_OK;
    }
    record = fault_announced(&sig);
    rc = record >= 0 ? come_back(&pod, argv, record, sig) : start(&pod, argv);
    if (rc < 0)
        return EX_TP_FAULT;
    if (record < 0)
        notify("READY=1");
    if (is_plain(&pod))
        plain_loop(&pod);
    else
        loop(&pod);
    child_give_back(pod.foreground);
    _exit(step_exit_status(&pod.sup));
}
