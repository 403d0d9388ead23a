/* store - the vault file and the names beside it.
 *
 * docs/files.md, and section 5 of docs/vault-format.md. Works relative to a directory descriptor
 * taken once, so it goes on under a filter and under a moved directory. Sizes are bytes.
 * Returns 0, or -1 with *e, unless said otherwise. Sealer and opener only. */
#ifndef VAULT_STORE_H
#define VAULT_STORE_H

#include <stdint.h>

#include "base/err.h"

enum { STORE_GENERATIONS = 5, STORE_PLACES = 99 /* most of them anybody may set */, STORE_NAME_MAX = 128 };

struct store {
    int dir; /* descriptor of the vault's directory, owned until store_close */
    int lock; /* -1, or the descriptor that holds the lock */
    char name[STORE_NAME_MAX]; /* of the vault inside dir */
    char tmp[STORE_NAME_MAX + 48]; /* of the save under way, "" if none */
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

/* The temporary file, written and synced, becomes the vault: older generations move on, the vault
 * in place becomes generation 1, then rename and fsync of the directory. With fresh, a vault in
 * place is an error (word exists) and stays. */
int store_commit(struct store *s, int fresh, struct err *e);

/* It becomes NAME.conflict-GEN (or -GEN-N, if there is one) instead; *e then tells that name with word conflict, and -1 is
 * returned: the content is durable, but not under the vault's name. */
int store_conflict(struct store *s, uint64_t gen, struct err *e);

/* Opens the earlier generation in that place, from 1; *size is its length. -1 if there is no regular file. */
int store_read_earlier(struct store *s, int place, uint64_t *size);

/* Deletes all earlier generations. What can't be deleted stays. Under the lock. */
void store_drop_earlier(struct store *s);

/* Removes the temporary file, if one is there. */
void store_abandon(struct store *s);

#endif
