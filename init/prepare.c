/* prepare - what process 1 looks at before it serves: owner, run directory, socket, program. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "caps.h"
#include "log.h"
#include "pod.h"
#include "wire.h"

static int open_program(const char *path)
{
    struct stat sb;
    int fd = open(path, O_PATH | O_CLOEXEC);

    if (fd >= 0 && (fstat(fd, &sb) < 0 || !S_ISREG(sb.st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* The one named; else the one installed beside this program; else the usual places. Opened now,
 * so that nobody can put another in its place later and be handed the key. */
static int find_program(const char *named)
{
    char path[WIRE_PATH_MAX];
    ssize_t n;
    int fd = -1;

    if (named)
        return open_program(named);
    n = readlink("/proc/self/exe", path, sizeof path - sizeof "tazpod");
    while (n > 0 && path[n - 1] != '/')
        n--;
    if (n > 0) {
        memcpy(path + n, "tazpod", sizeof "tazpod");
        fd = open_program(path);
    }
    if (fd < 0)
        fd = open_program("/usr/local/bin/tazpod");
    return fd < 0 ? open_program("/usr/bin/tazpod") : fd;
}

static bool vault_configured(const struct options *o)
{
    struct stat sb;

    if (o->vault)
        return strcmp(o->vault, "none") != 0;
    return o->run_dir_named || (stat(o->run_dir, &sb) == 0 && S_ISDIR(sb.st_mode));
}

static void unavailable(struct pod *p, const char *word, const char *text)
{
    struct line l;

    wire_error_set(&p->absent, EX_TP_UNAVAILABLE, word, text);
    line_start(&l, "refuse");
    line_text(&l, "error", word);
    line_text(&l, "text", text);
    line_end(&l);
}

static size_t append(char *text, size_t n, const char *more)
{
    size_t len = strlen(more);

    memcpy(text + n, more, len + 1);
    return n + len;
}

/* A plain init then, which says why to whoever asks it for a vault. Nothing in the directory is touched
 * but the socket. */
static void refuse_root(struct pod *p)
{
    static const struct {
        int number;
        const char *option;
    } NAMES[] = {
        {CAP_IS_CHOWN, " --cap-add CHOWN"},   {CAP_IS_DAC_OVERRIDE, " --cap-add DAC_OVERRIDE"},
        {CAP_IS_FOWNER, " --cap-add FOWNER"}, {CAP_IS_KILL, " --cap-add KILL"},
        {CAP_IS_SETGID, " --cap-add SETGID"}, {CAP_IS_SETUID, " --cap-add SETUID"},
    };
    char text[WIRE_TEXT_MAX]; /* all of them fit */
    size_t n = append(text, 0, "process 1 is root and can't serve another user's vault: run the pod with --user 1000");

    if (p->owner.lacks)
        n = append(text, n, ", or with");
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (p->owner.lacks >> NAMES[i].number & 1)
            n = append(text, n, NAMES[i].option);
    unavailable(p, "bad-run-dir", text);
    p->ram.dir = open(p->options.run_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (p->ram.dir >= 0)
        (void)control_open(&p->control, p->ram.dir, geteuid(), getegid());
}

static void prepare_vault(struct pod *p)
{
    const char *vault = p->options.vault ? p->options.vault : DEFAULT_VAULT;
    struct workers *ws = &p->workers;

    if (strlen(vault) < sizeof p->vault)
        memcpy(p->vault, vault, strlen(vault) + 1);
    if (p->absent.word[0])
        return;
    if (vault[0] != '/' || p->options.run_dir[0] != '/' || strlen(vault) >= sizeof p->vault) {
        unavailable(p, "bad-run-dir", "the vault and the run directory need absolute paths under 240 bytes");
        return;
    }
    if (!p->ram.usable) {
        unavailable(p, p->ram.problem.word, p->ram.problem.text);
        return;
    }
    ws->program = find_program(p->options.program);
    if (ws->program < 0) {
        unavailable(p, "no-program", "the program tazpod, which does the work on the vault, was not found");
        return;
    }
    ws->owner = p->owner.uid;
    ws->group = p->owner.gid;
    ws->become_owner = p->owner.become;
    ws->vault = p->vault;
    ws->timeout_ms = p->options.worker_timeout_ms ? p->options.worker_timeout_ms : WORKER_TIMEOUT_MS;
    p->sup.vault = VAULT_LOCKED;
}

void pod_prepare(struct pod *p)
{
    p->control.listener = -1;
    p->ram.dir = -1;
    p->key.fd = -1;
    p->workers.program = p->workers.passphrase = p->workers.reserve = -1;
    p->workers.deadline_ms = INT64_MAX;
    p->look_at_ms = p->listen_again_ms = INT64_MAX;
    p->pending.passphrase = -1;
    p->sup.stop_timeout_ms = p->options.stop_timeout_ms ? p->options.stop_timeout_ms : STOP_TIMEOUT_MS;
    p->sup.lock_wait_ms = p->options.lock_wait_ms ? p->options.lock_wait_ms : LOCK_WAIT_MS;
    log_as_json(p->options.log_json);
    p->sup.kill_at_ms = p->sup.end_at_ms = INT64_MAX;
    p->configured = vault_configured(&p->options);
    if (!p->configured)
        return;

    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* the key will live here */
    caps_lower(); /* as root it is in force from the start */
    p->owner = owner_find(p->options.owner);
    if (!p->owner.possible) {
        refuse_root(p);
        return;
    }
    ram_open(&p->ram, p->options.run_dir, p->owner.uid, p->owner.gid, p->options.backend);
    if (p->ram.dir >= 0 && control_open(&p->control, p->ram.dir, p->owner.uid, p->owner.gid) < 0) {
        if (errno == EADDRINUSE) /* what lies there is another PID 1's: hands off */
            unavailable(p, "bad-run-dir", "another tazpod-init serves this run directory");
        else
            unavailable(p, p->ram.usable ? "bad-run-dir" : p->ram.problem.word,
                        p->ram.usable ? "the control socket can't be made in the run directory"
                                      : p->ram.problem.text);
    } else {
        ram_set_aside(&p->ram);
    }
}

void pod_prepare_rest(struct pod *p)
{
    struct line l;

    if (!p->configured)
        return;
    if (p->owner.possible)
        ram_choose(&p->ram, p->options.backend);
    prepare_vault(p);
    ram_sweep(&p->ram);
    if (p->control.listener >= 0)
        pod_watch(p, p->control.listener, SOURCE_LISTENER, 0);

    line_start(&l, "start");
    line_number(&l, "pid", getpid());
    line_text(&l, "vault", p->vault);
    line_text(&l, "run-dir", p->options.run_dir);
    line_text(&l, "state", p->sup.vault == VAULT_LOCKED ? "locked" : "absent");
    line_text(&l, "ram", !p->ram.usable ? "none" : p->ram.own ? "own" : "given");
    if (p->ram.why[0])
        line_text(&l, "why", p->ram.why);
    line_number(&l, "owner", p->owner.uid);
    line_number(&l, "stale", ram_stale(&p->ram));
    line_end(&l);
}
