/* memory - how much this container may still use.
 *
 * Reads the cgroup's files, version 2 and 1. Bytes. Any process that sees /sys/fs/cgroup;
 * before a filter. No allocation. */
#ifndef VAULT_MEMORY_H
#define VAULT_MEMORY_H

#include <stdint.h>

#define MEMORY_NO_LIMIT UINT64_MAX

/* The container's limit, MEMORY_NO_LIMIT if there is none or none can be read. */
uint64_t memory_limit(void);

/* Limit less what is in use, page cache that can be dropped not counted. */
uint64_t memory_left(void);

/* The container may use no swap: memory.swap.max is 0, or in version 1 the limit for memory and swap
 * together is the one for memory. */
int memory_swap_denied(void);

/* Takes that many bytes of the container's memory, as a memfd or as a file without a name in the
 * tmpfs of the directory `dir`. Returns its descriptor, -1 with errno. They are given back when the
 * last descriptor is closed. */
int memory_reserve(uint64_t bytes);
int memory_reserve_in(int dir, uint64_t bytes);

#endif
