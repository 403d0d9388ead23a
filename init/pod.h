/* pod - PID 1's parts put together: performs what step decides.
 *
 * One struct, made in main and passed around; everything in it has a fixed size.
 * Times: _ms CLOCK_MONOTONIC milliseconds, _us the same clock in microseconds. */
#ifndef TAZPOD_POD_H
#define TAZPOD_POD_H

#include <stdbool.h>
#include <stdint.h>

#include "control.h"
#include "fault.h"
#include "key.h"
#include "options.h"
#include "owner.h"
#include "ram.h"
#include "step.h"
#include "worker.h"

struct pod {
    struct options options;
    struct owner owner;
    bool configured; /* a vault is; else this is a plain init */
    int epoll;
    int signals;
    int self;   /* this program's own file, -1 */
    int record; /* of this state, -1 */
    bool changed; /* the record is behind */
    int64_t faults_ms[FAULT_TOO_MANY];
    pid_t main_pid; /* 0: none, or ended */
    pid_t foreground; /* of the terminal before the main command got it, -1 */

    struct supervisor sup;
    struct ram ram;
    struct control control;
    struct key key;
    struct wire_error absent;     /* why no vault can be used; word "" if one can */
    struct wire_error last;       /* outcome of the last run, word "" for success */
    struct wire_error save_error; /* why the last save failed */
    uint32_t running_save;        /* its number, as in struct supervisor */
    struct pending {
        struct request request; /* an unlock or creation that waits for the configuration */
        int passphrase;         /* -1: there is none */
    } pending;
    bool wiping;
    bool done;                    /* ACT_EXIT was performed */

    int64_t run_started_us;
    int64_t stop_started_us; /* 0: not stopping */
    int64_t stop_pid;        /* the last process there was when the stop began, -1 unknown */
    int64_t look_at_ms;      /* while stopping: when to look whether all are gone */
    int64_t look_step_ms;
    int64_t hang_up_at_ms;   /* while waiting: when terminals are hung up */
    bool killed;             /* everybody, once at least */
    int64_t listen_again_ms; /* INT64_MAX: listening */

    char vault[WIRE_PATH_MAX];
    struct workers workers; /* last, being large: a plain init touches none of its pages */
};

/* What an epoll event belongs to, in data.u64: kind and index. */
enum source { SOURCE_SIGNALS, SOURCE_LISTENER, SOURCE_CLIENT, SOURCE_WORKER };
#define SOURCE_TAG(kind, index) ((uint64_t)(kind) << 32 | (uint32_t)(index))

int64_t pod_now_us(void);
int64_t pod_now_ms(void);

/* Watches a descriptor for input. */
void pod_watch(struct pod *p, int fd, enum source kind, int index);

/* Prepares the vault's side, in two parts with the start of the main command in between. Before it:
 * run directory and socket, and nothing of an earlier run is in the vault's place any more. After
 * it: all that can wait. Never fails; what is wrong stands in p->absent, and the main command runs
 * all the same. */
void pod_prepare(struct pod *p);
void pod_prepare_rest(struct pod *p);

/* What PID 1 holds open for life, and the vault's descriptors; the rest may be closed. Fills `keep`
 * and returns how many. */
enum { POD_KEEPS = 10 };
int pod_keeps(const struct pod *p, int keep[POD_KEEPS]);

/* After a fault: *p is what the record says, its options have been read again. Puts right what can't
 * outlive an exec, looks at what is there, and goes on. sig: the fault. */
void pod_resume(struct pod *p, int sig);

/* An event without an asker. */
void pod_event(struct pod *p, const struct event *ev);

/* A stop signal. */
void pod_on_stop(struct pod *p);

/* A client, a worker's channel, a dead child, time. */
void pod_on_listener(struct pod *p);
void pod_on_client(struct pod *p, int i);
void pod_on_worker(struct pod *p, int i);
void pod_on_child(struct pod *p, pid_t pid, int wait_status);
void pod_on_time(struct pod *p);

/* Milliseconds until pod_on_time is due: 0 now, -1 never. */
int pod_timeout(struct pod *p);

#endif
