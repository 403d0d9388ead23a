/* init_bench - tazpod-init beside the other container inits, alternated in one run.
 *
 * Each round starts every init once as process 1 of a new pid and mount namespace, in an order that
 * moves on by one a round, so that a slow moment of the machine hits all alike. Measured:
 *   start    clone(2) to the first instruction of the child's main
 *   exit     the child's last instruction to process 1 waitable
 *   stop     SIGTERM for process 1 to process 1 waitable
 *   signal   kill(2) of process 1 to the child's handler
 *   reap     zombies collected a second, handed over all at once
 *   rss, pss, dirty   smaps_rollup of process 1 once its child runs
 *   wakeups  context switches of process 1 in 5 s with nothing to do
 * It prints medians, p99 and ratios, and judges nothing: times belong to the machine they were
 * taken on. It fails only where an init does not do its work or is not there.
 *
 * Run as root. Everything is mounted in a mount namespace of its own. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "page.h"

#define ROUNDS_DEFAULT 300
#define ROUNDS_MAX 5000
#define KILLS_A_ROUND 5
#define REAP_EVERY 10 /* rounds: a thousand forks take longer than all else in a round */
#define ZOMBIES 1000
#define REST_S 5
#define ROUND_LIMIT_S 60 /* alarm: an init that never ends would hold the run for ever */

#define OWNER 1000 /* the vault's owner under a process 1 that is root: what TazPod takes too */

enum metric { START, EXIT, STOP, SIGNAL, REAP, RSS, PSS, DIRTY, WAKE, METRICS };

static const struct {
    const char *name;
    int decimals;
    bool more_is_better;
} metrics[METRICS] = {
    [START] = {"start us", 0, false},  [EXIT] = {"exit us", 0, false},
    [STOP] = {"stop us", 0, false},    [SIGNAL] = {"signal us", 1, false},
    [REAP] = {"reap k/s", 0, true},    [RSS] = {"rss kB", 0, false},
    [PSS] = {"pss kB", 0, false},      [DIRTY] = {"dirty kB", 0, false},
    [WAKE] = {"wakeups 5s", 0, false},
};

struct series {
    double *value;
    size_t count, room;
};

enum kind { PEER, OURS, NO_INIT };

struct tool {
    const char *name;
    enum kind kind;
    const char *argv[6]; /* of the init; the child's path is put behind */
    struct series series[METRICS];
};

/* Each as its users run it. Ours twice: as a plain init, and as in a pod, where /run/tazpod is a
 * tmpfs and so a vault is configured (but locked: an open one is stop.py's matter). */
static struct tool tools[] = {
    {.name = "tini", .kind = PEER, .argv = {"/usr/bin/tini", "--"}},
    {.name = "dumb-init", .kind = PEER, .argv = {"/usr/bin/dumb-init", "--"}},
    {.name = "catatonit", .kind = PEER, .argv = {"/usr/bin/catatonit", "--"}},
    {.name = "docker-init", .kind = PEER, .argv = {"docker-init", "--"}},
    {.name = "tazpod", .kind = OURS, .argv = {"tazpod-init", "--vault", "none", "--"}},
    {.name = "tazpod+vault", .kind = OURS, .argv = {"tazpod-init", "--"}},
    {.name = "no init", .kind = NO_INIT},
};
#define TOOLS (sizeof tools / sizeof *tools)
#define DOCKER_INIT 3
#define PLAIN 4

/* One started init. */
struct run {
    pid_t pid;
    int talk;
};

static struct page *page; /* of the run being measured; the runs of a round come one by one */
static int page_fd;
static char child_path[PATH_MAX], init_path[PATH_MAX], docker_init_path[PATH_MAX];
static const char *now_measured = "nothing";

static void die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void die(const char *format, ...)
{
    va_list args;
    int saved = errno;

    (void)fprintf(stderr, "init-bench: ");
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
    (void)fprintf(stderr, " (%s)\n", strerror(saved));
    exit(1);
}

static void on_alarm(int sig)
{
    static const char text[] = "init-bench: no end within the limit: ";

    (void)sig;
    (void)!write(STDERR_FILENO, text, sizeof text - 1);
    (void)!write(STDERR_FILENO, now_measured, strlen(now_measured));
    (void)!write(STDERR_FILENO, "\n", 1);
    _exit(1);
}

static void series_add(struct series *s, double value)
{
    if (s->count == s->room) {
        s->room = s->room ? 2 * s->room : 64;
        s->value = realloc(s->value, s->room * sizeof *s->value);
        if (!s->value)
            die("no memory");
    }
    s->value[s->count++] = value;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* share 0.5 is the median, 0.99 the p99 (nearest rank). Sorts the series. */
static double series_rank(struct series *s, double share)
{
    size_t rank;

    if (s->count == 0)
        return -1;
    qsort(s->value, s->count, sizeof *s->value, by_value);
    rank = (size_t)(share * (double)s->count);
    return s->value[rank < s->count ? rank : s->count - 1];
}

/* ---- starting and ending ---- */

/* A container's /proc shows its own processes alone, and ours looks there in a stop. It is not
 * mounted where start is timed: the mount is the engine's and would be counted. */
enum proc { PROC_OF_OURS, PROC_OF_ITS_OWN };

static _Noreturn void become_init(const struct tool *tool, int talk, enum proc proc)
{
    const char *argv[8];
    size_t n = 0;
    int null;

    if (proc == PROC_OF_ITS_OWN && mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV, NULL) != 0)
        _exit(122);
    for (; tool->argv[n]; n++)
        argv[n] = tool->argv[n];
    argv[n++] = child_path;
    argv[n] = NULL;
    if (strcmp(argv[0], "tazpod-init") == 0)
        argv[0] = init_path;
    if (strcmp(argv[0], "docker-init") == 0)
        argv[0] = docker_init_path;
    /* In a container stderr is a pipe that somebody empties: the nearest thing that never blocks. */
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0 || dup2(null, 0) < 0 || dup2(null, 2) < 0)
        _exit(120);
    /* page_fd and talk are both above PAGE_FD: see main and run_start. */
    if (dup2(talk, PAGE_TALK) < 0 || dup2(page_fd, PAGE_FD) < 0)
        _exit(120);
    (void)execv(argv[0], (char *const *)argv);
    _exit(121);
}

static int above_page_fds(int fd)
{
    int high = fcntl(fd, F_DUPFD_CLOEXEC, PAGE_FD + 1);

    if (high < 0)
        die("fcntl");
    (void)close(fd);
    return high;
}

static void run_wait_done(const struct run *run)
{
    char letter;

    if (recv(run->talk, &letter, 1, 0) != 1 || letter != TALK_DONE)
        die("%s: the child does not answer", now_measured);
}

/* Returns once the child runs; *start_us is what it took. */
static struct run run_start(const struct tool *tool, enum proc proc, double *start_us)
{
    struct run run;
    uint64_t from;
    int pair[2];

    now_measured = tool->name;
    (void)alarm(ROUND_LIMIT_S);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        die("socketpair");
    pair[0] = above_page_fds(pair[0]);
    pair[1] = above_page_fds(pair[1]);
    memset(page, 0, sizeof *page);
    from = page_now();
    /* The system call itself: glibc's clone() wants a stack, and fork() knows no namespaces. */
    run.pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
    if (run.pid == 0)
        become_init(tool, pair[1], proc);
    if (run.pid < 0)
        die("clone");
    (void)close(pair[1]);
    run.talk = pair[0];
    run_wait_done(&run);
    *start_us = (double)(page->first_ns - from) / 1e3;
    return run;
}

/* Returns the time at which process 1 could be waited for, and its wait status. */
static uint64_t run_end(const struct run *run, int *status)
{
    siginfo_t info;
    uint64_t at;

    if (waitid(P_PID, (id_t)run->pid, &info, WEXITED | WNOWAIT) != 0)
        die("waitid");
    at = page_now();
    if (waitpid(run->pid, status, 0) != run->pid)
        die("waitpid");
    (void)close(run->talk);
    (void)alarm(0);
    return at;
}

static void run_say(const struct run *run, char letter)
{
    if (send(run->talk, &letter, 1, MSG_NOSIGNAL) != 1)
        die("%s: send to the child", now_measured);
}

/* ---- what is measured ---- */

static void measure_memory(struct tool *tool, pid_t pid)
{
    static const struct {
        const char *key;
        enum metric metric;
    } keys[] = {{"Rss:", RSS}, {"Pss:", PSS}, {"Private_Dirty:", DIRTY}};
    char path[64], line[256];
    size_t i, found = 0;
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
    f = fopen(path, "re");
    if (!f)
        die("open %s", path);
    while (fgets(line, sizeof line, f))
        for (i = 0; i < sizeof keys / sizeof *keys; i++)
            if (strncmp(line, keys[i].key, strlen(keys[i].key)) == 0) {
                series_add(&tool->series[keys[i].metric], strtod(line + strlen(keys[i].key), NULL));
                found++;
            }
    (void)fclose(f);
    if (found != 3)
        die("%s: no figures in it", path);
}

static double context_switches(pid_t pid)
{
    char path[64], line[256];
    double sum = 0;
    int found = 0;
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    f = fopen(path, "re");
    if (!f)
        die("open %s", path);
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');

        if (colon && strstr(line, "voluntary_ctxt_switches:")) { /* nonvoluntary too */
            sum += strtod(colon + 1, NULL);
            found++;
        }
    }
    (void)fclose(f);
    if (found != 2)
        die("%s: no context switches in it", path);
    return sum;
}

static void pause_us(long us)
{
    (void)nanosleep(&(struct timespec){.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000}, NULL);
}

/* start, memory, signal, exit on one instance. */
static void round_plain(struct tool *tool)
{
    double us;
    int i, status;
    struct run run = run_start(tool, PROC_OF_OURS, &us);
    uint64_t at;

    series_add(&tool->series[START], us);
    for (i = 0; i < KILLS_A_ROUND && tool->kind != NO_INIT; i++) {
        pause_us(500); /* so that the init is found at rest, not on its way there */
        at = page_now();
        if (kill(run.pid, SIGUSR1) != 0)
            die("%s: kill", tool->name);
        run_wait_done(&run);
        series_add(&tool->series[SIGNAL], (double)(page->signal_ns - at) / 1e3);
    }
    if (tool->kind != NO_INIT)
        measure_memory(tool, run.pid);
    run_say(&run, TALK_LEAVE);
    at = run_end(&run, &status);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        die("%s: wait status %#x after a child that left with 0", tool->name, (unsigned)status);
    series_add(&tool->series[EXIT], (double)(at - page->last_ns) / 1e3);
}

static void round_stop(struct tool *tool)
{
    double us;
    int status;
    struct run run = run_start(tool, PROC_OF_ITS_OWN, &us);
    uint64_t from, at;

    pause_us(500); /* as above */
    from = page_now();
    if (kill(run.pid, SIGTERM) != 0)
        die("%s: kill", tool->name);
    at = run_end(&run, &status);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 128 + SIGTERM)
        die("%s: wait status %#x after SIGTERM", tool->name, (unsigned)status);
    series_add(&tool->series[STOP], (double)(at - from) / 1e3);
}

static void round_reap(struct tool *tool)
{
    double us;
    int status;
    struct run run = run_start(tool, PROC_OF_ITS_OWN, &us);

    page->zombies = ZOMBIES;
    run_say(&run, TALK_ZOMBIES);
    run_wait_done(&run);
    series_add(&tool->series[REAP],
               (double)ZOMBIES / ((double)(page->gone_ns - page->handed_ns) / 1e6));
    run_say(&run, TALK_LEAVE);
    (void)run_end(&run, &status);
}

/* All at once: at rest they do not disturb each other. */
static void measure_rest(void)
{
    struct run runs[TOOLS];
    double before[TOOLS], us;
    size_t i;
    int status;

    for (i = 0; i < TOOLS; i++)
        if (tools[i].kind != NO_INIT)
            runs[i] = run_start(&tools[i], PROC_OF_ITS_OWN, &us);
    (void)alarm(ROUND_LIMIT_S);
    pause_us(500000); /* all have done what they do after a start */
    for (i = 0; i < TOOLS; i++)
        if (tools[i].kind != NO_INIT)
            before[i] = context_switches(runs[i].pid);
    pause_us(REST_S * 1000000L);
    for (i = 0; i < TOOLS; i++)
        if (tools[i].kind != NO_INIT)
            series_add(&tools[i].series[WAKE], context_switches(runs[i].pid) - before[i]);
    for (i = 0; i < TOOLS; i++)
        if (tools[i].kind != NO_INIT) {
            now_measured = tools[i].name;
            run_say(&runs[i], TALK_LEAVE);
            (void)run_end(&runs[i], &status);
        }
}

/* ---- the table ---- */

static double best_peer(enum metric m)
{
    double best = -1;
    size_t i;

    for (i = 0; i < TOOLS; i++) {
        double v = tools[i].kind == PEER ? series_rank(&tools[i].series[m], 0.5) : -1;

        if (v >= 0 && (best < 0 || (metrics[m].more_is_better ? v > best : v < best)))
            best = v;
    }
    return best;
}

static void print_cell(struct series *s, enum metric m)
{
    char cell[64];
    double median = series_rank(s, 0.5);

    if (s->count == 0)
        (void)snprintf(cell, sizeof cell, "-");
    else if (m >= REAP) /* few samples, or the same figure every time: no p99 */
        (void)snprintf(cell, sizeof cell, "%.*f", metrics[m].decimals, median);
    else
        (void)snprintf(cell, sizeof cell, "%.*f (%.*f)", metrics[m].decimals, median,
                       metrics[m].decimals, series_rank(s, 0.99));
    (void)printf(" %14s", cell);
}

static void print_table(int rounds)
{
    struct utsname u;
    size_t i;
    int m;

    if (uname(&u) != 0)
        die("uname");
    (void)printf("inits as process 1: %d rounds, alternated; %s %s, %ld processors\n"
                 "median (p99); below it the ratio to the best of the four others\n\n%-10s",
                 rounds, u.sysname, u.release, sysconf(_SC_NPROCESSORS_ONLN), "");
    for (i = 0; i < TOOLS; i++)
        (void)printf(" %14s", tools[i].name);
    (void)printf("\n");
    for (m = 0; m < METRICS; m++) {
        double best = best_peer((enum metric)m);

        (void)printf("%-10s", metrics[m].name);
        for (i = 0; i < TOOLS; i++)
            print_cell(&tools[i].series[m], (enum metric)m);
        (void)printf("\n%-10s", "");
        for (i = 0; i < TOOLS; i++) {
            double v = series_rank(&tools[i].series[m], 0.5);

            if (v < 0 || best <= 0)
                (void)printf(" %14s", "");
            else
                (void)printf("         x%5.2f", v / best);
        }
        (void)printf("\n");
    }
}

static double ratio(size_t tool, enum metric m, double to)
{
    return series_rank(&tools[tool].series[m], 0.5) / to;
}

/* The bytes of an ELF file that are ever loaded: a build that was not stripped carries more. */
static double loaded_kb(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    double bytes = 0;
    Elf64_Ehdr head;
    Elf64_Phdr part;
    int i;

    if (fd < 0 || pread(fd, &head, sizeof head, 0) != (ssize_t)sizeof head)
        die("read %s", path);
    for (i = 0; i < head.e_phnum; i++) {
        if (pread(fd, &part, sizeof part, (off_t)(head.e_phoff + (size_t)i * sizeof part)) != (ssize_t)sizeof part)
            die("read %s", path);
        if (part.p_type == PT_LOAD)
            bytes += (double)part.p_filesz;
    }
    (void)close(fd);
    return bytes / 1024;
}

static void print_goals(void)
{
    double docker_start = series_rank(&tools[DOCKER_INIT].series[START], 0.5);
    size_t i;

    (void)printf("\n%-46s %14s %14s\n", "goal", tools[PLAIN].name, tools[PLAIN + 1].name);
#define ROW(text, format, value)                                                                   \
    do {                                                                                           \
        (void)printf("%-46s", text);                                                               \
        for (i = PLAIN; i <= PLAIN + 1; i++)                                                       \
            (void)printf(" " format, value);                                                       \
        (void)printf("\n");                                                                        \
    } while (0)
    ROW("start / docker-init's       at most 0.80", "%14.2f", ratio(i, START, docker_start));
    ROW("start / best other          at most 0.70", "%14.2f", ratio(i, START, best_peer(START)));
    ROW("stop / best other           at most 0.90", "%14.2f", ratio(i, STOP, best_peer(STOP)));
    ROW("rss kB                      at most 96", "%14.0f", ratio(i, RSS, 1));
    ROW("private dirty kB            at most 24", "%14.0f", ratio(i, DIRTY, 1));
    ROW("wakeups in 5 s              0", "%14.0f", ratio(i, WAKE, 1));
    ROW("binary kB, loaded part      at most 64", "%14.1f", loaded_kb(init_path));
#undef ROW
}

/* ---- the place ---- */

/* /run becomes a tmpfs that only this namespace sees, with the run directory and the vault's place
 * as a container has them. */
static void make_place(void)
{
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        die("a mount namespace (are you root?)");
    if (mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0 ||
        mkdir("/run/tazpod", 0700) != 0 ||
        mount("tmpfs", "/run/tazpod", "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,uid=1000,gid=1000") != 0 ||
        mkdir("/run/workspace", 0755) != 0 || chown("/run/workspace", OWNER, OWNER) != 0)
        die("mount a run directory");
    if (setenv("TAZPOD_VAULT", "/run/workspace/.tazpod/vault.tpv", 1) != 0 ||
        setenv("TAZPOD_OWNER", "1000", 1) != 0)
        die("setenv");
}

/* build/tests/bench-init finds build/tests/bench-child and build/tazpod-init. */
static void find_programs(void)
{
    char self[PATH_MAX - 64];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;
    size_t i;
    /* Beside docker, or out of the PATH, or (no engine here) what it is built from. */
    static const char *const docker_inits[] = {
        "/usr/bin/docker-init", "/usr/libexec/docker/docker-init", "/usr/bin/tini-static"};

    if (n < 0)
        die("/proc/self/exe");
    self[n] = '\0';
    slash = strrchr(self, '/');
    *slash = '\0';
    if (!child_path[0])
        (void)snprintf(child_path, sizeof child_path, "%s/bench-child", self);
    if (!init_path[0])
        (void)snprintf(init_path, sizeof init_path, "%s/../tazpod-init", self);
    for (i = 0; i < sizeof docker_inits / sizeof *docker_inits; i++)
        if (access(docker_inits[i], X_OK) == 0) {
            (void)snprintf(docker_init_path, sizeof docker_init_path, "%s", docker_inits[i]);
            break;
        }
}

static void check_programs(void)
{
    size_t i;
    const char *path[] = {child_path, init_path, docker_init_path, "/usr/bin/tini",
                          "/usr/bin/dumb-init", "/usr/bin/catatonit"};

    for (i = 0; i < sizeof path / sizeof *path; i++)
        if (access(path[i], X_OK) != 0)
            die("%s is needed", path[i]);
}

int main(int argc, char **argv)
{
    struct sigaction alarm_action = {.sa_handler = on_alarm};
    int opt, round, rounds = ROUNDS_DEFAULT;
    size_t i;

    while ((opt = getopt(argc, argv, "n:i:c:")) != -1) {
        if (opt == 'n') {
            rounds = atoi(optarg);
        } else if (opt == 'i' || opt == 'c') {
            (void)snprintf(opt == 'i' ? init_path : child_path, PATH_MAX, "%s", optarg);
        } else {
            (void)fprintf(stderr, "usage: bench-init [-n ROUNDS] [-i TAZPOD_INIT] [-c CHILD]\n");
            return 64;
        }
    }
    if (rounds < 1 || rounds > ROUNDS_MAX) {
        (void)fprintf(stderr, "init-bench: rounds must be 1 to %d\n", ROUNDS_MAX);
        return 64;
    }
    find_programs();
    check_programs();
    if (sigaction(SIGALRM, &alarm_action, NULL) != 0)
        die("sigaction");
    sync(); /* a program just built is dirty in the page cache, and would count as private dirty */
    make_place();
    page_fd = memfd_create("bench-page", MFD_CLOEXEC);
    if (page_fd < 0 || ftruncate(page_fd, sizeof *page) != 0)
        die("memfd");
    page_fd = above_page_fds(page_fd);
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0);
    if (page == MAP_FAILED)
        die("mmap");

    for (round = 0; round < rounds; round++)
        for (i = 0; i < TOOLS; i++) {
            struct tool *tool = &tools[(i + (size_t)round) % TOOLS];

            round_plain(tool);
            if (tool->kind != NO_INIT)
                round_stop(tool); /* SIGTERM does nothing to a process 1 without a handler */
            if (tool->kind != NO_INIT && round % REAP_EVERY == 0)
                round_reap(tool);
        }
    measure_rest();
    print_table(rounds);
    print_goals();
    return 0;
}
