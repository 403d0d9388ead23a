/* resume - process 1 comes back after a fault of its own.
 *
 * The same process, executed again over its descriptors, with the state of the last whole turn of
 * the loop. Between that and the fault anything may have happened, so what can be looked at is. */
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "caps.h"
#include "child.h"
#include "log.h"
#include "pod.h"
#include "record.h"

static void say(const struct pod *p, int sig, int faults, const struct event *ev)
{
    struct line l;

    line_start(&l, "fault");
    line_number(&l, "signal", sig);
    line_number(&l, "faults", faults);
    line_text(&l, "state",
              p->sup.vault == VAULT_ABSENT                             ? "absent"
              : !ev->tree                                              ? "locked"
              : p->sup.vault == VAULT_OPEN || p->sup.vault == VAULT_SAVING ? "open"
                                                                       : "locking");
    line_end(&l);
}

/* What pointed into the old program, and what it alone could use. */
static void put_right(struct pod *p)
{
    const struct options *o = &p->options;

    p->workers.vault = p->vault;
    p->pending.passphrase = -1;
    for (int i = 0; i < CONTROL_CONNECTIONS; i++)
        p->control.conns[i] = (struct conn){.fd = -1};
    log_as_json(o->log_json_named ? o->log_json
                                  : p->workers.config.version == 1 && p->workers.config.log_format == 1);
    workers_abandon(&p->workers);
}

void pod_resume(struct pod *p, int sig)
{
    int keep[POD_KEEPS], faults = fault_count(p->faults_ms, pod_now_ms());
    struct event ev = {.type = EVENT_RESUMED, .many = faults >= FAULT_MANY};

    if (faults == FAULT_TOO_MANY)
        _exit(EX_TP_FAULT); /* whatever is in RAM stays there: it may be the only copy */
    (void)prctl(PR_SET_NAME, "tazpod-init", 0, 0, 0);
    child_let_go(keep, pod_keeps(p, keep));
    put_right(p);
    if (p->control.listener >= 0)
        pod_watch(p, p->control.listener, SOURCE_LISTENER, 0);
    ev.tree = ram_resume(&p->ram, p->options.run_dir);
    ev.hidden = p->ram.hidden;
    ev.key = key_take(&p->key);
    say(p, sig, faults, &ev);
    record_keep(p->record, p); /* that there was a fault is known, whatever comes of the rest */
    p->wiping = false; /* begun again, if it is to be */
    pod_event(p, &ev);
    if (p->sup.vault == VAULT_LOCKED) {
        p->ram.tree = 0;
        ram_set_aside(&p->ram);
    }
    ram_sweep(&p->ram);
    record_keep(p->record, p);
}
