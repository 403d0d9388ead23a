/* aside - the workers of process 1, executed by a command that takes its part.
 *
 * For a vault file that is looked at beside the pod's own: behind the same filters, and the data key that
 * comes back is wiped unread. Descriptors passed in stay the caller's. Command line only. */
#ifndef CLI_ASIDE_H
#define CLI_ASIDE_H

#include <sys/types.h>

#include "../init/protocol.h"
#include "../vault/base/secret.h"

struct aside {
    pid_t pid;   /* 0: not started */
    int channel; /* -1 */
};

/* Starts an opener of that file, the plaintext going to out, or an unpacker of in into the directory tree.
 * Descriptor -1 stands for /dev/null. Run by root it becomes the owner of the file or directory. 0, or -1
 * with *e. */
int aside_start_opener(struct aside *a, const char *file, int out, struct wire_error *e);
int aside_start_unpacker(struct aside *a, int in, int tree, struct wire_error *e);

/* Waits until it is behind its filter, and gives it its job; the opener gets an order. */
int aside_job(struct aside *a, enum job_kind kind, const struct secret *order, struct wire_error *e);

/* Its result; -1 with *e if that is an error, or if it died. */
int aside_result(struct aside *a, enum job_kind kind, struct result *r, struct wire_error *e);

/* Kills what is left of it, and collects it. */
void aside_end(struct aside *a);

/* An opener alone: is the file whole, and does the credential of the order open it? */
int aside_verify(const char *file, const struct secret *order, struct result *r, struct wire_error *e);

#endif
