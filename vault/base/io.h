/* io - exact reads and writes on descriptors.
 *
 * Sizes are bytes. Descriptors stay the caller's. EINTR is retried, short transfers are
 * continued. No allocation, any process. */
#ifndef VAULT_BASE_IO_H
#define VAULT_BASE_IO_H

#include <stddef.h>
#include <sys/types.h>

/* Bytes read: less than len only at the end of input. -1 with errno. */
ssize_t io_read(int fd, void *buf, size_t len);

/* The same at an offset, without moving the descriptor's own. */
ssize_t io_read_at(int fd, void *buf, size_t len, off_t at);

/* 0 when all len bytes are written, -1 with errno. */
int io_write(int fd, const void *buf, size_t len);

#endif
