/* work - the workers behind worker_main.
 *
 * Each runs once in a process of its own, after its filter is in force, with the descriptors that
 * docs/control-protocol.md fixes. It fills in *r (facts and error) and may return a key and a
 * reserve; worker_main sends them. No worker returns before its part is durable, or undone. */
#ifndef CLI_WORK_H
#define CLI_WORK_H

#include "../init/protocol.h"
#include "../vault/base/err.h"
#include "../vault/base/secret.h"
#include "../vault/header.h"
#include "../vault/store.h"
#include "../vault/swap.h"

enum { WORK_IN = 0, WORK_OUT = 1, WORK_CHANNEL = 3, WORK_TREE = 4 };

struct work {
    const struct job *job;
    struct result *result;
    struct secret *key; /* given to the sealer, filled by the opener; else empty */
    int passphrase;     /* opener, rewriter: descriptor, -1 else */
    int reserve;        /* to be sent along, -1 */
    struct store *store; /* opener, sealer, rewriter */
    uint64_t room;      /* packer: bytes its file system has, unpacker: bytes free; UINT64_MAX unlimited */
    enum swap swap;     /* unpacker, creator: of the tree, before the filter */
    int exceeds;        /* the same: more of it than the memory limit leaves */
    uint64_t memory_left;  /* opener, rewriter: bytes, before the filter */
    uint64_t memory_limit;
};

/* Fills in the result's swap and warnings; refuses a tree that may be swapped out where that is
 * required. */
int work_check_place(struct work *w, struct err *e);

/* Steps 1 to 4 of the order of reading (docs/vault-format.md): all that can be known before a credential is
 * tried. size: of the file; bytes holds HEADER_MAX, *len what of it is the header. */
int work_read_header(int fd, uint64_t size, uint8_t *bytes, size_t *len, struct header *h, struct err *e);

int work_open(struct work *w, struct err *e);
int work_create(struct work *w, struct err *e);
int work_unpack(struct work *w, struct err *e);
int work_pack(struct work *w, struct err *e);
/* The file, which begins with a header of len bytes, is on disk, and what the disk gives back is what was
 * meant. */
int work_make_durable(int fd, const uint8_t *bytes, size_t len, struct err *e);

int work_seal(struct work *w, struct err *e);
int work_rewrite(struct work *w, struct err *e);

int work_look(struct work *w, struct err *e);
int work_config(struct work *w, struct err *e);
int work_config_load(const char *vault, struct err *e);

/* A part of the container's memory that is kept for the last save: as large as packer and sealer
 * need. -1 where memory is not limited, or too little is left to set any aside. */
int work_reserve(const struct work *w);

#endif
