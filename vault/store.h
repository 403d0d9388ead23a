/* store - the vault file and the names beside it.
 *
 * docs/files.md, and section 5 of docs/vault-format.md. Works relative to a directory descriptor
 * taken once, so it goes on under a filter and under a moved directory. Sizes are bytes.
 * Returns 0, or -1 with *e, unless said otherwise. Sealer and opener only. */
#ifndef VAULT_STORE_H
#define VAULT_STORE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    STORE_GENERATIONS = 5,      /* kept when nobody says otherwise */
    STORE_PLACES = 99,          /* most of them that anybody may ask for */
    STORE_NAME_MAX = 128,
    STORE_MARK = 16,
};

/* What a commit does with the vault in place. */
enum {
    STORE_KEEP = 0,
    STORE_FRESH = 1,   /* there may be none */
    STORE_REPLACE = 2, /* it does not become a generation, if it has the mark */
};

struct store {
    int dir; /* descriptor of the vault's directory, owned until store_close */
    int lock; /* -1, or the descriptor that holds the lock */
    char name[STORE_NAME_MAX]; /* of the vault inside dir */
    char tmp[STORE_NAME_MAX + 48]; /* of the save under way, "" if none */
    unsigned keep;            /* generations, 1 .. STORE_PLACES */
    uint8_t mark[STORE_MARK]; /* begins the file salt of each vault that was written since the unlock */
    int has_mark;
    int links_refused;        /* said by a commit: the file system has no hard links, or not for us */
};

/* Opens the directory of path; with make, makes it (0700) where it is missing, its parent being
 * there. Words: no-vault where it is missing, io. */
int store_open(struct store *s, const char *path, int make, struct err *e);
void store_close(struct store *s);

/* Opens the vault for reading, without following a link; *size is its length.
 * Word no-vault if there is none, not-a-vault if it is no regular file. Returns a descriptor. */
int store_read(struct store *s, uint64_t *size, struct err *e);

/* 1 if a vault is there, 0 if not, -1 with *e. */
int store_exists(struct store *s, struct err *e);

/* Takes the lock without waiting (word busy), then removes temporary files that killed saves
 * left behind. */
int store_lock(struct store *s, struct err *e);

/* A new temporary file, 0600, to be written by the caller, who closes it. Returns a descriptor. */
int store_begin(struct store *s, struct err *e);

/* How many generations are kept (0: nobody has said; the default, or as many as there are), and the mark,
 * NULL for none. */
void store_history(struct store *s, unsigned keep, const uint8_t *mark);

/* The temporary file, written and synced, becomes the vault: older generations move on, the vault
 * in place becomes generation 1, then rename and fsync of the directory. When all places are taken
 * the oldest goes, but never the newest without the mark: that is what was found at the unlock.
 * With STORE_FRESH a vault in place is an error (word exists) and stays. */
int store_commit(struct store *s, int how, struct err *e);

/* The first size bytes of the newest kept generation; how many there are, 0 if there is none. */
size_t store_newest_kept(struct store *s, uint8_t *bytes, size_t size);

/* Small notes beside the vault, NAME.ENDING, which the vault can do without: errors are ignored.
 * get: how many of the first size bytes there are. put: the whole note, by rename. overwrite: one of that
 * very length, in one write; -1 if there is none. append: to one that is there, in one write. */
size_t store_get(struct store *s, const char *ending, void *bytes, size_t size);
void store_put(struct store *s, const char *ending, const void *bytes, size_t len);
int store_overwrite(struct store *s, const char *ending, const void *bytes, size_t len);
void store_append(struct store *s, const char *ending, const void *bytes, size_t len);

/* It becomes NAME.conflict-GEN (or -GEN-N, if that is taken) instead; a file with the mark is the
 * conflict's earlier copy, and is replaced. *e then tells that name with word conflict, and -1 is
 * returned: the content is durable, but not under the vault's name. */
int store_conflict(struct store *s, uint64_t gen, struct err *e);

/* Opens the earlier generation in that place, from 1; *size is its length. -1 if there is no regular file. */
int store_read_earlier(struct store *s, int place, uint64_t *size);

/* Deletes all earlier generations. What can't be deleted stays. Under the lock. */
void store_drop_earlier(struct store *s);

/* Removes the temporary file, if one is there. */
void store_abandon(struct store *s);

#endif
